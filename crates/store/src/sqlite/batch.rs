//! Statements over many rows. SQLite takes no arrays, so the rows of a batch are a table of values inside the
//! statement: each statement goes to the connection's thread and back, which costs more than what it does with a row.
//! The tables have few sizes, so that a statement is prepared once and found again; one that is not full ends in rows of
//! nulls, which no statement takes for rows.
//!
//! They write `or fail`: whatever fails rolls the whole transaction back, so that SQLite need not keep what each statement
//! alone would undo (it copied every page that a statement touched, an eighth of the writer's time).

use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Encode, Executor, Sqlite, Type,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::Tx;
use crate::{StoreError, row};

/// The rows that tables of values have. With 64 at most a server under load did an eighth less.
const SIZES: [usize; 6] = [1, 4, 16, 64, 128, MOST];
/// What has more rows takes several statements.
pub(super) const MOST: usize = 256;

/// A statement over a table of values, which stands where `{rows}` is and whose columns are `column1` and so on. Updates
/// compare with `+u.column1`: of the plain column SQLite makes an index and walks the table, when it takes that for small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    pub(super) text: &'static str,
    pub(super) columns: usize,
}

/// What is bound to a statement, in the order of its text.
pub(super) struct Bound {
    arguments: SqliteArguments,
    /// The first thing that could not be bound.
    problem: Option<StoreError>,
}

/// What a statement did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) rows: Vec<SqliteRow>,
    pub(super) changed: u64,
}

impl Over {
    /// Runs it over up to [`MOST`] items, each of which binds one row. Without items nothing runs.
    pub(super) async fn run<T>(
        self,
        tx: &mut Tx,
        items: &[T],
        bind: impl Fn(&mut Bound, &T),
    ) -> Result<Done, StoreError> {
        if items.is_empty() {
            return Ok(Done::default());
        }
        let rows = SIZES.into_iter().find(|size| *size >= items.len()).unwrap_or(MOST);
        let mut bound = Bound { arguments: SqliteArguments::default(), problem: None };
        bound.arguments.reserve(rows * self.columns, 0);
        for item in items {
            bind(&mut bound, item);
        }
        debug_assert_eq!(bound.arguments.len(), items.len() * self.columns, "{}", self.text);
        while bound.arguments.len() < rows * self.columns {
            bound.bind(None::<i64>);
        }
        bound.run(tx, self.written(rows)).await
    }

    pub(super) fn written(self, rows: usize) -> String {
        let row = format!("({}?)", "?, ".repeat(self.columns - 1));
        let table = format!("(values {}{row})", format!("{row}, ").repeat(rows - 1));
        self.text.replace("{rows}", &table)
    }
}

impl Bound {
    pub(super) fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        if let Err(problem) = self.arguments.add(value) {
            self.problem.get_or_insert(sqlx::Error::Encode(problem).into());
        }
        self
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> &mut Self {
        let json = row::json(value);
        self.bind_or_fail(json)
    }

    /// The millisecond of the row's id.
    pub(super) fn created_at(&mut self, id: Uuid) -> &mut Self {
        self.bind_or_fail(row::created_at(id).map(Timestamp::as_microsecond))
    }

    fn bind_or_fail<'q, T>(&mut self, value: Result<T, StoreError>) -> &mut Self
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        match value {
            Ok(value) => self.bind(value),
            Err(problem) => {
                self.problem.get_or_insert(problem);
                self.bind(None::<i64>)
            }
        }
    }

    async fn run(self, tx: &mut Tx, text: String) -> Result<Done, StoreError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut steps = tx.fetch_many(sqlx::query_with(AssertSqlSafe(text), self.arguments));
        let mut done = Done::default();
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Left(result) => done.changed = result.rows_affected(),
                Either::Right(row) => done.rows.push(row),
            }
        }
        Ok(done)
    }
}
