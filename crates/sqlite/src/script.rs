//! Several statements as one text.

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Either, Executor, SqliteConnection,
    sqlite::{SqliteArguments, SqliteRow},
};

/// What a statement did.
#[derive(Debug, Default)]
pub struct Done {
    pub rows: Vec<SqliteRow>,
    pub changed: u64,
}

/// Runs a text of so many statements; yields what each of them did. It ends with the last one's word. The stream would
/// end a moment later, when the connection's thread says so, and that costs this thread another sleep.
pub async fn run(
    connection: &mut SqliteConnection,
    text: String,
    arguments: SqliteArguments,
    statements: usize,
) -> sqlx::Result<Vec<Done>> {
    let mut steps = connection.fetch_many(sqlx::query_with(AssertSqlSafe(text), arguments));
    let (mut all, mut done) = (Vec::with_capacity(statements), Done::default());
    while all.len() < statements
        && let Some(step) = steps.try_next().await?
    {
        match step {
            Either::Left(result) => {
                done.changed = result.rows_affected();
                all.push(std::mem::take(&mut done));
            }
            Either::Right(row) => done.rows.push(row),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use sqlx::{Arguments, ConnectOptions, Row};

    use super::*;

    #[tokio::test]
    async fn each_statement_says_what_it_did() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut connection = crate::options(folder.path().join("a.db")).connect().await.expect("it opens");
        let mut arguments = SqliteArguments::default();
        arguments.add(7).expect("bound");
        let text = "begin; create table t (x); insert into t values (1), (2), (?); select x from t order by x; commit;";
        let done = run(&mut connection, text.to_owned(), arguments, 5).await.expect("it runs");
        let rows: Vec<i64> = done[3].rows.iter().map(|row| row.get(0)).collect();
        assert_eq!((done.len(), done[2].changed, rows), (5, 3, vec![1, 2, 7]));
        // Nothing of it goes on.
        let left = run(&mut connection, "begin; rollback".to_owned(), SqliteArguments::default(), 2).await;
        assert_eq!(left.expect("the transaction is over").len(), 2);
    }

    #[tokio::test]
    async fn the_first_failure_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut connection = crate::options(folder.path().join("a.db")).connect().await.expect("it opens");
        let text = "create table t (x primary key); insert into t values (1); insert into t values (1); drop table t";
        assert!(run(&mut connection, text.to_owned(), SqliteArguments::default(), 4).await.is_err());
        let rows = run(&mut connection, "select * from t".to_owned(), SqliteArguments::default(), 1).await;
        assert_eq!(rows.expect("it is there")[0].rows.len(), 1);
    }
}
