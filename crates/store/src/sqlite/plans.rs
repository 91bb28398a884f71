//! How SQLite goes about the statements of every life: by the keys of what a batch names, whether the tables are empty or
//! full, and whether somebody has had them analysed. By which index one goes is held here; that no statement walks what
//! grows is held by the conformance suite.

use sqlx::{AssertSqlSafe, Row};

use super::{
    Sqlite, agent,
    batch::{MOST, Over},
    event::{self, known, rows},
    task::{self, attempt, claim, ends, finish, list, output, progress},
};
use crate::{Options, sqlite::open::open_file};

const EVENT: &str = "sched_event_1";
const TASK: &str = "sched_task_1";
const ATTEMPT: &str = "USING PRIMARY KEY (id=?)";

/// Each statement with the tables and indexes that it is to search.
fn statements() -> Vec<(String, &'static [&'static str])> {
    let over = |statement: Over| statement.written(MOST);
    vec![
        (over(known::KEYS), &["PRIMARY KEY (namespace=? AND scope=? AND key=?)"]),
        (over(known::EVENTS), &[EVENT]),
        (known::LANES.to_owned(), &["sched_lane_1"]),
        (claim::EPOCHS.to_owned(), &["sched_agent_1"]),
        (event::BY_ID.to_owned(), &[EVENT]),
        (over(rows::FORGET_KEYS), &["PRIMARY KEY (namespace=? AND scope=? AND key=?)"]),
        (over(rows::KEYS), &[]),
        (over(rows::EVENTS), &[]),
        (over(rows::TASKS), &[]),
        (rows::TASKS_OF.to_owned(), &["sched_task_by_event"]),
        (list::BACKLOG.to_owned(), &["sched_task_claim"]),
        (claim::DUE.to_owned(), &["sched_task_claim", "INTEGER PRIMARY KEY"]),
        (over(claim::LEASE), &[TASK]),
        (over(progress::ATTEMPTS), &[TASK]),
        (over(progress::TASKS), &[TASK]),
        (over(progress::HELD), &[TASK]),
        (over(finish::ATTEMPTS), &[TASK]),
        (over(finish::TASKS), &[TASK]),
        (over(finish::AWAITED), &["sched_turn_queued", "sched_daemon_by_task"]),
        (over(attempt::HELD), &[ATTEMPT, TASK]),
        (over(attempt::END_ATTEMPTS), &[]),
        (over(attempt::SETTLE_TASKS), &[TASK]),
        (over(output::APPEND), &[]),
        (task::CANCELLING.to_owned(), &["sched_task_cancelling", "sched_agent_1"]),
        (agent::RUN_OUT.to_owned(), &["sched_task_leased", "sched_agent_1"]),
        (ends::UNTOLD.to_owned(), &["sched_task_ended", "sched_job_1"]),
        (list::INSTANCE.to_owned(), &[ATTEMPT, "sched_task_leased"]),
    ]
}

/// What may be walked from end to end: the lanes, what the batch itself brings, the few runs that wait for their turn,
/// the first daemon, what is leased or to be cancelled, ends that nobody has been told of, and what a view has found.
const WALKED: [&str; 13] = [
    "SCAN l",
    "SCAN u",
    "SCAN 256",
    "SCAN (",
    "SCAN CONSTANT",
    "SCAN sched_turn USING",
    "SCAN sched_daemon",
    "SCAN sched_task USING INDEX sched_task_leased",
    "SCAN sched_task USING INDEX sched_task_ended",
    "SCAN t USING INDEX sched_task_ended",
    "SCAN t USING INDEX sched_task_cancelling",
    "SCAN t USING INDEX sched_task_leased",
    "SCAN sched_task_instance",
];

async fn check(db: &Sqlite) {
    let mut tx = db.begin().await.expect("a transaction");
    for (text, searched) in statements() {
        let plan = sqlx::query(AssertSqlSafe(format!("explain query plan {text}")))
            .fetch_all(&mut *tx)
            .await
            .expect("a plan");
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        for index in searched {
            let found = steps.iter().any(|step| step.contains(index));
            assert!(found, "{index} is not used by {}: {steps:?}", text.get(..60).unwrap_or(&text));
        }
        let whole = |step: &&String| {
            step.starts_with("SCAN") && !WALKED.iter().any(|walked| step.starts_with(walked))
        };
        assert_eq!(steps.iter().find(whole), None, "{}: {steps:?}", text.get(..60).unwrap_or(&text));
    }
}

const FILL: &str = include_str!("fill.sql");

#[tokio::test]
async fn every_statement_of_a_life_goes_by_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let db = open_file(&Options { url, pool_size: 1 }).await.expect("a new database");
    check(&db).await;
    let mut tx = db.begin().await.expect("a transaction");
    for step in [FILL, "analyze"] {
        sqlx::raw_sql(step).execute(&mut *tx).await.expect("filled");
    }
    tx.commit().await.expect("committed");
    check(&db).await;
}
