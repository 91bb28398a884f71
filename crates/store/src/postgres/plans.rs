//! How PostgreSQL goes about the statements of every life: by the keys of what a batch names, whether the tables are
//! empty or full, analysed or not, or emptied again. Plans are made once and kept, so a bad one would stay for as long
//! as nobody analyses the table. (One state is not held: a partition that was analysed while it was empty.)

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use uuid::Uuid;

use super::{
    event::{self, insert},
    open::{ensure, settings},
    schedule,
    task::{self, attempt, claim, ends, finish, list, progress},
};

/// A statement with the conditions by which it may look into an index of the tables that grow, or the end of the index's
/// name: one of them, with all its columns.
struct Statement {
    name: &'static str,
    text: &'static str,
    by: &'static [&'static [&'static str]],
}

const ROW: &[&str] = &["(id = ", "(created_at = "];

const STATEMENTS: [Statement; 16] = [
    Statement { name: "store", text: insert::STORE, by: &[] },
    Statement { name: "succeed", text: finish::SUCCEED, by: &[ROW] },
    Statement { name: "progress", text: progress::PROGRESS, by: &[ROW] },
    Statement { name: "held", text: attempt::HELD, by: &[ROW] },
    Statement { name: "ended", text: attempt::ENDED, by: &[ROW, &["(task_id = "]] },
    Statement { name: "end_attempts", text: attempt::END_ATTEMPTS, by: &[] },
    Statement { name: "settle_tasks", text: attempt::SETTLE_TASKS, by: &[ROW] },
    Statement { name: "claim", text: claim::CLAIM, by: &[ROW, &["(lane_id = ", "(scheduled_at <= "]] },
    Statement { name: "backlog", text: list::BACKLOG, by: &[&["(lane_id = "]] },
    Statement { name: "lanes", text: claim::LANES, by: &[&["(lane_id = "]] },
    Statement { name: "events", text: event::BY_ID, by: &[&["(id = ANY"]] },
    Statement { name: "duplicates", text: insert::TASKS_OF, by: &[&["(event_id = ANY"]] },
    Statement { name: "cancelling", text: task::CANCELLING, by: &[&["agent_id_idx"]] },
    Statement { name: "untold", text: ends::UNTOLD, by: &[&[]] },
    Statement { name: "due", text: schedule::DUE, by: &[&["(next_run_at <= "]] },
    Statement { name: "next", text: schedule::NEXT, by: &[&[]] },
];

/// Every row of these is wanted, or there are few.
const SMALL: [&str; 2] = ["sched_lane", "sched_agent"];

/// All nodes of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let below = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(plan).chain(below).collect()
}

fn check(statement: &Statement, state: &str, plan: &Value) {
    let whose = format!("{} on {state}", statement.name);
    for node in nodes(plan) {
        // Each of a batch would be compared with each.
        assert!(node["Join Filter"].is_null(), "{whose}: {node:#}");
        let Some(table) = node["Relation Name"].as_str() else { continue };
        let kind = node["Node Type"].as_str().unwrap_or_default();
        if !kind.contains("Scan") || SMALL.contains(&table) {
            continue;
        }
        assert_ne!(kind, "Seq Scan", "{whose}: {node:#}");
        let grows = ["sched_task", "sched_attempt", "sched_event", "sched_schedule"]
            .iter()
            .any(|name| table.starts_with(name));
        if !grows {
            continue;
        }
        let said = |field| nodes(node).into_iter().filter_map(move |node| node[field].as_str());
        let conditions: Vec<&str> = said("Index Cond").chain(said("Index Name")).collect();
        let by = |columns: &&[&str]| {
            columns.iter().all(|column| conditions.iter().any(|one| one.contains(column)))
        };
        assert!(statement.by.iter().any(by), "{whose}: {node:#}");
    }
}

async fn check_all(db: &mut PgConnection, state: &str) {
    for statement in &STATEMENTS {
        let count = (1..100).take_while(|n| statement.text.contains(&format!("${n}"))).count();
        let nulls = vec!["null"; count].join(", ");
        let arguments = if count == 0 { String::new() } else { format!("({nulls})") };
        let prepare = format!("prepare plan as {}", statement.text);
        db.execute(AssertSqlSafe(prepare)).await.expect("it can be prepared");
        let explain = format!("explain (format json) execute plan{arguments}");
        let plan: Value =
            sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *db).await.expect("a plan");
        db.execute("deallocate plan").await.expect("forgotten");
        check(statement, state, &plan[0]["Plan"]);
    }
}

const FILL: &str = "
insert into sched_lane (key, selector, priority) select 'lane ' || i, '{}', 0 from generate_series(1, 20) i;
insert into sched_agent (id, hostname, version, labels, slots, journal_id, journal_epoch, session_epoch, server_id,
    session_until, online, first_seen_at, last_seen_at)
    select 'agent-' || i, '', '', '{}', 1, gen_random_uuid(), 1, 1, gen_random_uuid(), now(), true, now(), now()
    from generate_series(1, 300) i;
create temp table n as select i, gen_random_uuid() as id, gen_random_uuid() as other,
    now() + (i % 26 - 9) * interval '1 day' as at from generate_series(1, 20000) i;
insert into sched_event (id, created_at, namespace, kind, source, type, time, received_at, headers, verdict, decisions,
    body_size, body) select id, at, 'default', 'webhook', 's', 't', at, at, '[]', 'accepted', '[]', 0, '' from n;
insert into sched_dedupe select 'default', 's', i::text, id, at from n;
insert into sched_task (id, created_at, namespace, trigger_name, job_id, event_id, status, scheduled_at, priority, lane_id,
    policy, attempt, fence, cancel_requested, agent_id, instance_id, leased_at)
    select id, at, 'default', 't', id, id, case when i % 50 > 0 then 100 when i % 100 > 0 then 5 else 1 end, at, 0,
    i % 20 + 1, '{}', 1, 1, false, case when i % 50 = 0 and i % 100 > 0 then 'agent-' || i % 300 end,
    case when i % 50 = 0 and i % 100 > 0 then other end, case when i % 50 = 0 and i % 100 > 0 then at end from n;
insert into sched_attempt (id, created_at, task_id, job_id, agent_id, attempt, fence, status,
    output_dropped) select other, at, id, id, 'agent-1', 1, 1, case when i % 100 = 50 then 5 else 100 end, 0 from n;
insert into sched_job (id, namespace, name, description, revision, config, created_at, updated_at)
    select gen_random_uuid(), 'default', 'job-' || i, '', 1, '{}', now(), now() from generate_series(1, 1000) i;
insert into sched_trigger (namespace, name, owner, origin, revision, text, description, job_name, updated_at)
    select 'default', 'trigger-' || i, 'api', '', 1, '', '', 'job-' || i, now() from generate_series(1, 1000) i;
insert into sched_schedule (id, namespace, trigger_name, position, name, kind, spec, created_at, next_run_at)
    select gen_random_uuid(), 'default', 'trigger-' || i % 1000 + 1, i / 1000, 's-' || i, 'cron', '{}', now(),
    now() + i * interval '1 min' from generate_series(1, 100000) i";

const EMPTY: &str =
    "delete from sched_task; delete from sched_attempt; delete from sched_event; delete from sched_dedupe";

#[tokio::test]
async fn every_statement_of_a_life_goes_by_keys() {
    let server = std::env::var("HETUFLOW_TEST_POSTGRES")
        .expect("HETUFLOW_TEST_POSTGRES names no PostgreSQL: run `cargo xtask test`, which starts one");
    let name = format!("plans_{}", Uuid::new_v4().simple());
    let mut outside = settings(&server).expect("a URL").connect().await.expect("PostgreSQL answers");
    outside.execute(AssertSqlSafe(format!("create database {name}"))).await.expect("a new database");
    let url = server.replacen("/postgres?", &format!("/{name}?"), 1);
    let pool = ensure(&url).await.expect("a schema");
    let mut db = pool.acquire().await.expect("a connection");
    check_all(&mut db, "empty tables").await;
    sqlx::raw_sql(FILL).execute(&mut *db).await.expect("filled");
    check_all(&mut db, "full tables").await;
    db.execute("analyze").await.expect("analysed");
    check_all(&mut db, "full tables, analysed").await;
    sqlx::raw_sql(EMPTY).execute(&mut *db).await.expect("emptied");
    check_all(&mut db, "emptied tables").await;
    drop(db);
    pool.close().await;
    let gone = format!("drop database {name} with (force)");
    outside.execute(AssertSqlSafe(gone)).await.expect("the database goes");
}
