-- The schema on PostgreSQL. Its twin is migrations/sqlite/0001_initial.sql: the same tables, columns and
-- indexes, in the words of the other dialect.
--
-- `created_at` is the millisecond of a row's own id (a UUIDv7), so that a lookup by id names its partition.
-- Partitions of a day or a week are made ahead; what comes without one goes to the default partition. `status` holds the numbers of core's `Status`; a test keeps the constraints equal to it.
-- Tables that grow have no foreign keys to each other, so that a partition can be dropped.
--
-- Texts that people and programs outside have a say in are kept as json, not jsonb: jsonb refuses a NUL in a
-- string (`"\u0000"`), and one such payload must not keep its whole batch from being stored.

-- One row: what belongs to the whole database.
create table sched_meta (
    id          smallint primary key check (id = 1),
    -- Raised by every change of a trigger.
    generation  bigint not null,
    -- Raised by every health check, to see that commits work.
    probe       bigint not null
) with (fillfactor = 50);

insert into sched_meta (id, generation, probe) values (1, 0, 0);

create table sched_job (
    id           uuid not null primary key,
    namespace    text not null,
    name         text not null,
    description  text not null,
    revision     bigint not null,
    config       json not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    unique (namespace, name)
);

create table sched_trigger (
    namespace    text not null,
    name         text not null,
    owner        text not null,
    origin       text not null,
    -- 0 while no version ever parsed; `text` is empty then.
    revision     bigint not null,
    text         text not null,
    description  text not null,
    problem      text,
    job_name     text,
    updated_at   timestamptz not null,
    primary key (namespace, name)
);

-- Every text that was in force, also of triggers that are gone: events name the revision that decided.
create table sched_trigger_revision (
    namespace    text not null,
    name         text not null,
    revision     bigint not null,
    origin       text not null,
    text         text not null,
    created_at   timestamptz not null,
    primary key (namespace, name, revision)
);

create table sched_schedule (
    id           uuid not null primary key,
    namespace    text not null,
    trigger_name text not null,
    -- Its place among the trigger's entries.
    position     integer not null,
    name         text not null,
    kind         text not null check (kind in ('cron', 'interval', 'once', 'daemon', 'event')),
    spec         json not null,
    enabled      boolean not null default true,
    -- The anchor of an interval.
    created_at   timestamptz not null,
    next_run_at  timestamptz,
    last_run_at  timestamptz,
    unique (namespace, trigger_name, name),
    foreign key (namespace, trigger_name) references sched_trigger (namespace, name) on delete cascade
) with (fillfactor = 80);

create index sched_schedule_due on sched_schedule (next_run_at, id) where enabled and next_run_at is not null;

-- Every time that a schedule has fired for, for as long as it could come again.
create table sched_fire (
    schedule_id  uuid not null,
    run_at       timestamptz not null,
    event_id     uuid not null,
    primary key (schedule_id, run_at)
);

create index sched_fire_by_time on sched_fire (run_at);

-- Runs of schedules that do not overlap, from the fire until somebody sees that they have ended.
create table sched_turn (
    -- `namespace/trigger/schedule`: the same over all versions of a schedule.
    key         text not null,
    run_at      timestamptz not null,
    task_id     uuid not null,
    -- That of the task.
    created_at  timestamptz not null,
    queued      boolean not null,
    primary key (key, task_id)
);

create index sched_turn_queued on sched_turn (key) where queued;
create index sched_turn_by_task on sched_turn (task_id);

-- What is kept running: the run of each daemon, until the daemon is gone and its run has ended.
create table sched_daemon (
    namespace     text not null,
    trigger_name  text not null,
    -- That of the schedule, over all its versions.
    name          text not null,
    -- `armed`: no run, and the schedule has a next time. A run starts from there, or from `stopped`, only.
    phase         text not null check (phase in ('armed', 'running', 'stopping', 'stopped', 'held')),
    -- Its run, or its last one.
    task_id       uuid not null,
    -- That of the task.
    created_at    timestamptz not null,
    -- Since a run last lasted long enough.
    restarts      bigint not null,
    -- The job as it was when the run was planned.
    definition    json not null,
    job_id        uuid not null,
    job_revision  bigint not null,
    primary key (namespace, trigger_name, name)
);

create index sched_daemon_by_task on sched_daemon (task_id);

create table sched_event (
    id              uuid not null,
    created_at      timestamptz not null,
    namespace       text not null,
    kind            text not null,
    source          text not null,
    type            text not null,
    subject         text,
    time            timestamptz not null,
    received_at     timestamptz not null,
    content_type    text,
    headers         json not null,
    query           text,
    verdict         text not null check (verdict in ('accepted', 'malformed', 'rejected', 'unverified', 'ping')),
    verdict_reason  text,
    -- The address that sent it.
    sender          text,
    -- Where the secret is kept that it was signed with.
    secret          text,
    -- The event that it repeats.
    replay_of       uuid,
    -- By which its sender asks what became of it; of the same millisecond as the id.
    status_token    uuid,
    decisions       json not null,
    -- Bytes of the body as it came. Where fewer are stored, they are an LZ4 block.
    body_size       integer not null,
    body            bytea not null,
    primary key (id, created_at)
) partition by range (created_at);

-- Compressed already, where that is of any use.
alter table sched_event alter column body set storage external;

create table sched_event_default partition of sched_event default;

-- Few among many.
create index sched_event_replays on sched_event (replay_of) where replay_of is not null;

create table sched_dedupe (
    namespace   text not null,
    scope       text not null,
    key         text not null,
    event_id    uuid not null,
    expires_at  timestamptz not null,
    primary key (namespace, scope, key)
);

create index sched_dedupe_expired on sched_dedupe (expires_at);

-- A queue of its own for all tasks of one priority that ask for the same labels, or for one agent.
create table sched_lane (
    id        bigint generated always as identity primary key,
    -- Priority, selector and agent in one canonical text.
    key       text not null unique,
    selector  json not null,
    agent_id  text,
    priority  smallint not null
);

create table sched_task (
    id                uuid not null,
    created_at        timestamptz not null,
    namespace         text not null,
    trigger_name      text not null,
    job_id            uuid not null,
    schedule_id       uuid,
    event_id          uuid not null,
    status            smallint not null,
    -- How the last attempt ended.
    outcome           json,
    -- Not before this time; a planned retry moves it.
    scheduled_at      timestamptz not null,
    -- The time of a task that waits for an earlier run of its schedule; `scheduled_at` is then beyond all times.
    queued_for        timestamptz,
    finished_at       timestamptz,
    priority          smallint not null,
    lane_id           bigint not null,
    policy            json not null,
    -- Attempts so far.
    attempt           integer not null,
    -- The number of the last lease: it only grows.
    fence             bigint not null,
    cancel_requested  boolean not null,
    -- The agent of the last lease.
    agent_id          text,
    -- The lease in force: its attempt, and since when; both or neither.
    instance_id       uuid,
    leased_at         timestamptz,
    command           json,
    -- Which ends become events: 0 none, 1 every one, 2 every one but a success. Negative once that is done.
    telling           smallint not null default 0,
    primary key (id, created_at),
    -- One constraint and not three: PostgreSQL reads each anew in every statement that writes here.
    constraint sched_task_status check (case when status in (5, 8, 10)
        then agent_id is not null and instance_id is not null and leased_at is not null
        else status in (1, 2, 90, 91, 92, 99, 100) and instance_id is null and leased_at is null end)
) partition by range (created_at);

create table sched_task_default partition of sched_task default;

-- The claim, and the look at what waits: a range of one lane, in the order of time.
create index sched_task_claim on sched_task (lane_id, scheduled_at, id) where status in (1, 2);
create index sched_task_leased on sched_task (agent_id) where status in (5, 8, 10);
create index sched_task_cancelling on sched_task (agent_id) where cancel_requested and status in (5, 8, 10);
-- What ended badly: few among many, for people to look at and retry.
create index sched_task_dead on sched_task (id) where status in (90, 91, 92);
-- Ends that have not become events yet.
create index sched_task_ended on sched_task (finished_at)
    where telling > 0 and (status in (90, 91, 92, 99) or status = 100 and telling = 1);
create index sched_task_by_event on sched_task (event_id);
-- Always true, and known to be only where a job is asked for: nothing else is ever looked up here by its id.
create index sched_task_by_job on sched_task (job_id, id) where job_id is not null;

-- One attempt, from the first that its agent says of it. Before that its task's row holds all there is to say.
create table sched_attempt (
    id              uuid not null,
    created_at      timestamptz not null,
    task_id         uuid not null,
    job_id          uuid not null,
    agent_id        text not null,
    attempt         integer not null,
    fence           bigint not null,
    status          smallint not null,
    started_at      timestamptz,
    finished_at     timestamptz,
    outcome         json,
    output_dropped  bigint not null,
    primary key (id, created_at)
) partition by range (created_at);

create table sched_attempt_default partition of sched_attempt default;

create index sched_attempt_by_task on sched_attempt (task_id, fence);
create index sched_attempt_by_job on sched_attempt (job_id, id) where job_id is not null;

-- Every attempt, from the lease on: 5 is `locked`, of which nothing was heard yet; all three are the index's condition.
create view sched_task_instance as
select id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at, finished_at, outcome,
    output_dropped
from sched_attempt
union all
select instance_id, leased_at, id, job_id, agent_id, attempt, fence, status, null, null, null, 0
from sched_task where status in (5, 8, 10) and status = 5;

-- `created_at` is that of its attempt.
create table sched_task_output (
    instance_id  uuid not null,
    created_at   timestamptz not null,
    seq          bigint not null,
    stream       text not null check (stream in ('stdout', 'stderr')),
    data         bytea not null,
    primary key (instance_id, seq, created_at)
) partition by range (created_at);

create table sched_task_output_default partition of sched_task_output default;

-- An agent and its session: the one row that heartbeats renew.
create table sched_agent (
    id             text not null primary key,
    hostname       text not null,
    version        text not null,
    labels         jsonb not null,
    slots          integer not null,
    journal_id     uuid not null,
    journal_epoch  bigint not null,
    -- Raised by every hello.
    session_epoch  bigint not null,
    server_id      uuid not null,
    -- The session's lease, by the database's clock.
    session_until  timestamptz not null,
    online         boolean not null,
    -- It gets no more tasks, until somebody takes that back.
    drained        boolean not null default false,
    -- By trigger, in microseconds since 1970: up to when it has told of every file that was complete.
    watermarks     jsonb not null default '{}',
    first_seen_at  timestamptz not null,
    last_seen_at   timestamptz not null
) with (fillfactor = 50);

-- The keys by which agents of other machines are known. One that was taken back stays, so that it never counts again.
create table sched_agent_key (
    -- SHA-256 of the public key.
    fingerprint  bytea not null primary key,
    agent_id     text not null,
    -- Of the token; null: the agent's own configuration says them.
    labels       jsonb,
    joined_at    timestamptz not null,
    revoked_at   timestamptz
);

create unique index sched_agent_key_one on sched_agent_key (agent_id) where revoked_at is null;
create index sched_agent_key_agent on sched_agent_key (agent_id);

-- What agents join with, once. Of the secret only the hash is kept.
create table sched_join_token (
    hash        bytea not null primary key,
    labels      jsonb,
    -- The only agent that may use it.
    agent_id    text,
    made_at     timestamptz not null,
    expires_at  timestamptz not null,
    used_at     timestamptz,
    -- Fingerprint of the key that joined.
    used_by     bytea
);

-- The keys of the servers of this database, which agents are told.
create table sched_server_key (
    fingerprint    bytea not null primary key,
    first_seen_at  timestamptz not null,
    last_seen_at   timestamptz not null
);

-- Who looks after the whole database, and until when by the database's clock.
create table sched_leader (
    name        text not null primary key check (name = 'main'),
    -- One start of one server.
    holder      uuid not null,
    -- Raised whenever leadership was not simply prolonged.
    epoch       bigint not null,
    expires_at  timestamptz not null
) with (fillfactor = 50);
