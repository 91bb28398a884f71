//! How SQLite goes about the statements of every life: by the keys of what a batch names, whether the tables are empty or
//! full, and whether somebody has had them analysed.

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

const FILL: &str = "
create temp table n as with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
    select i, randomblob(16) as id, randomblob(16) as other from n;
insert into sched_lane (id, key, selector, priority) select i, 'lane ' || i, '{}', 0 from n limit 20;
insert into sched_agent (id, hostname, version, labels, slots, journal_id, journal_epoch, session_epoch, server_id,
    session_until, online, first_seen_at, last_seen_at)
    select 'agent-' || i, '', '', '{}', 1, id, 1, 1, id, 0, 1, 0, 0 from n limit 50;
insert into sched_event (id, created_at, namespace, kind, source, type, time, received_at, headers, verdict, decisions,
    body_size, body) select id, i, 'default', 'webhook', 's', 't', i, i, '[]', 'accepted', '[]', 100, zeroblob(100) from n;
insert into sched_dedupe (namespace, scope, key, event_id, expires_at) select 'default', 's', i, id, i from n;
insert into sched_task (id, created_at, namespace, trigger_name, job_id, event_id, status, scheduled_at, priority, lane_id,
    policy, attempt, fence, cancel_requested, agent_id, instance_id, leased_at)
    select id, i, 'default', 't', x'', id, iif(i % 100, 100, iif(i % 200, 5, 1)), i, 0, i % 20 + 1, '{}', 1, 1, 0,
    iif(i % 100 = 0 and i % 200, 'agent-' || (i % 50), null), iif(i % 100 = 0 and i % 200, other, null), iif(i % 100 = 0 and i % 200, i, null) from n;
insert into sched_attempt (id, created_at, task_id, job_id, agent_id, attempt, fence, status,
    output_dropped) select other, i, id, x'', 'agent-1', 1, 1, 8, 0 from n;
insert into sched_turn (key, run_at, task_id, created_at, queued) select 'k' || i, i, id, i, i % 500 = 0 from n limit 1000;
analyze";

#[tokio::test]
async fn every_statement_of_a_life_goes_by_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let db = open_file(&Options { url, pool_size: 1 }).await.expect("a new database");
    check(&db).await;
    let mut tx = db.begin().await.expect("a transaction");
    sqlx::raw_sql(FILL).execute(&mut *tx).await.expect("filled");
    tx.commit().await.expect("committed");
    check(&db).await;
}
