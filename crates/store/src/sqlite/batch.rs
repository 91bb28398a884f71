//! Statements over many rows. SQLite takes no arrays, so the rows of a batch are a table of values inside the
//! statement: each statement goes to the connection's thread and back, which costs more than what it does with a row, and
//! several can go together.
//! The tables have few sizes, so that a statement is prepared once and found again; one that is not full ends in rows of
//! nulls, which no statement takes for rows.
//!
//! They write `or fail`: whatever fails rolls the whole transaction back, so that SQLite need not keep what each statement
//! alone would undo (it copied every page that a statement touched, an eighth of the writer's time).

pub(super) use hetuflow_sqlite::Done;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Arguments as _, Encode, Sqlite, Type, sqlite::SqliteArguments};
use uuid::Uuid;

use super::Tx;
use crate::{StoreError, row};

/// The rows that tables of values have. With 64 at most a server under load did an eighth less.
const SIZES: [usize; 6] = [1, 4, 16, 64, 128, MOST];
/// Up to so many rows of several statements go together.
pub(super) const FEW: usize = 16;
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

/// Statements that go to the connection's thread together.
pub(super) struct Script {
    text: String,
    bound: Bound,
    /// For each statement whether it runs: without items nothing does.
    runs: Vec<bool>,
    begins: bool,
    commits: bool,
}

impl Default for Script {
    fn default() -> Self {
        let bound = Bound { arguments: SqliteArguments::default(), problem: None };
        Self { text: String::new(), bound, runs: Vec::new(), begins: false, commits: false }
    }
}

impl Over {
    /// Runs it over up to [`MOST`] items, each of which binds one row. Without items nothing runs.
    pub(super) async fn run<T>(
        self,
        tx: &mut Tx,
        items: &[T],
        bind: impl Fn(&mut Bound, &T),
    ) -> Result<Done, StoreError> {
        let mut done = Script::default().over(self, items, bind).run(tx).await?;
        Ok(done.pop().unwrap_or_default())
    }

    pub(super) fn written(self, rows: usize) -> String {
        let row = format!("({}?)", "?, ".repeat(self.columns - 1));
        let table = format!("(values {}{row})", format!("{row}, ").repeat(rows - 1));
        self.text.replace("{rows}", &table)
    }
}

impl Script {
    /// Adds the statement over up to [`MOST`] items, each of which binds one row.
    pub(super) fn over<T>(mut self, over: Over, items: &[T], bind: impl Fn(&mut Bound, &T)) -> Self {
        self.runs.push(!items.is_empty());
        if items.is_empty() {
            return self;
        }
        let rows = SIZES.into_iter().find(|size| *size >= items.len()).unwrap_or(MOST);
        let before = self.bound.arguments.len();
        self.bound.arguments.reserve(rows * over.columns, 0);
        for item in items {
            bind(&mut self.bound, item);
        }
        debug_assert_eq!(self.bound.arguments.len() - before, items.len() * over.columns, "{}", over.text);
        while self.bound.arguments.len() - before < rows * over.columns {
            self.bound.bind(None::<i64>);
        }
        self.push(&over.written(rows))
    }

    /// Adds the statement if there is something to bind to it.
    pub(super) fn with<T>(mut self, text: &str, item: Option<T>, bind: impl FnOnce(&mut Bound, T)) -> Self {
        self.runs.push(item.is_some());
        match item {
            Some(item) => {
                bind(&mut self.bound, item);
                self.push(text)
            }
            None => self,
        }
    }

    /// Only as the first script of a transaction.
    pub(super) fn after_begin(self) -> Self {
        Self { begins: true, ..self }
    }

    /// As a transaction of its own.
    pub(super) fn whole(self) -> Self {
        self.after_begin().and_commit()
    }

    /// Only as the last script of a transaction.
    pub(super) fn and_commit(self) -> Self {
        Self { commits: true, ..self }
    }

    fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self.text.push(';');
        self
    }

    /// Yields what each of its statements did.
    pub(super) async fn run(self, tx: &mut Tx) -> Result<Vec<Done>, StoreError> {
        let Self { mut text, bound, runs, begins, commits } = self;
        if begins {
            text.insert_str(0, "begin immediate;");
        }
        if commits {
            text.push_str("commit;");
        }
        let statements =
            runs.iter().filter(|runs| **runs).count() + usize::from(begins) + usize::from(commits);
        let mut done = bound.run(tx, text, statements).await?.into_iter();
        if begins {
            done.next();
        }
        Ok(runs.into_iter().map(|ran| if ran { done.next() } else { None }.unwrap_or_default()).collect())
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

    /// Yields what each statement did.
    async fn run(self, tx: &mut Tx, text: String, statements: usize) -> Result<Vec<Done>, StoreError> {
        match self.problem {
            Some(problem) => Err(problem),
            None if statements == 0 => Ok(Vec::new()),
            None => Ok(hetuflow_sqlite::run(tx, text, self.arguments, statements).await?),
        }
    }
}
