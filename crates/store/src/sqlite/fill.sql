-- Some thousands of rows of what grows, most of them ended: for tests that ask SQLite how it would go about a statement.
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
insert into sched_task_output (instance_id, created_at, seq, stream, data)
    select other, i, 0, 'stdout', zeroblob(50) from n;
insert into sched_fire (schedule_id, run_at, event_id) select x'00', i, id from n;
