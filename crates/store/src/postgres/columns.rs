//! Columns of PostgreSQL rows as [`crate::row`] asks for them, and values as statements take them.

use std::borrow::Cow;

use hetuflow_core::id::EventId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::de::DeserializeOwned;
use sqlx::{
    Column, Decode, Postgres, Row, Type, TypeInfo, ValueRef,
    postgres::{PgRow, PgValueFormat},
};
use uuid::Uuid;

use crate::{
    StoreError,
    row::{Columns, corrupt},
};

/// A time as parameter or result.
pub(super) type Time = jiff_sqlx::Timestamp;

/// PostgreSQL keeps microseconds; what is finer is cut off, as on SQLite.
pub(super) fn time(time: Timestamp) -> Time {
    time.to_sqlx()
}

/// `created_at` of the row with this id, which finds its partition. An id that hetuflow did not make is in none.
pub(super) fn at(id: Uuid) -> Time {
    time(EventId::from_uuid(id).time().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A text without NUL, which PostgreSQL's `text` cannot hold. No protocol that events come over lets one
/// through in a name; a field of a body that carries one keeps it in the body.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

impl Columns for PgRow {
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
        match self.try_column(name)?.type_info().name() {
            "INT2" => get::<i16>(self, name).map(i64::from),
            "INT4" => get::<i32>(self, name).map(i64::from),
            _ => get(self, name),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        get(self, name)
    }

    fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        get::<Time>(self, name).map(Time::to_jiff)
    }

    fn time_or_null(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(get::<Option<Time>>(self, name)?.map(Time::to_jiff))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        self.json_or_null(name)?.ok_or_else(|| corrupt(name, "it is null"))
    }

    fn json_or_null<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let value = self.try_get_raw(name)?;
        if value.is_null() {
            return Ok(None);
        }
        let bytes = value.as_bytes().map_err(|error| corrupt(name, error))?;
        // The binary form of jsonb, but not of json, starts with its version, 1.
        let binary = value.format() == PgValueFormat::Binary && value.type_info().name() == "JSONB";
        let text = if binary { bytes.get(1..).unwrap_or_default() } else { bytes };
        serde_json::from_slice(text).map(Some).map_err(|error| corrupt(name, error))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        get(self, name)
    }
}

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, name: &str) -> Result<T, StoreError> {
    Ok(row.try_get(name)?)
}
