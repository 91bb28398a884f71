//! How SQLite's columns read: ids are blobs, times microseconds, JSON is text.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{Decode, Row, Type, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    StoreError,
    row::{Columns, corrupt},
};

impl Columns for SqliteRow {
    fn uuid(&self, name: &str) -> Result<Uuid, StoreError> {
        get(self, name)
    }

    fn uuid_or_null(&self, name: &str) -> Result<Option<Uuid>, StoreError> {
        get(self, name)
    }

    fn text(&self, name: &str) -> Result<String, StoreError> {
        get(self, name)
    }

    fn text_or_null(&self, name: &str) -> Result<Option<String>, StoreError> {
        get(self, name)
    }

    fn int(&self, name: &str) -> Result<i64, StoreError> {
        get(self, name)
    }

    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.int(name)? != 0)
    }

    fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        timestamp(name, self.int(name)?)
    }

    fn time_or_null(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        get::<Option<i64>>(self, name)?.map(|micros| timestamp(name, micros)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        serde_json::from_str(get(self, name)?).map_err(|error| corrupt(name, error))
    }

    fn json_or_null<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = get(self, name)?;
        text.map(serde_json::from_str).transpose().map_err(|error| corrupt(name, error))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        get(self, name)
    }
}

fn get<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, StoreError>
where
    T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>,
{
    Ok(row.try_get(name)?)
}

fn timestamp(name: &str, micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt(name, error))
}
