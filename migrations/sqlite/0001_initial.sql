-- The schema on SQLite. Its twin is migrations/postgres/0001_initial.sql: the same tables, columns and
-- indexes, in the words of the other dialect.
--
-- Ids are the 16 bytes of a UUIDv7, times are microseconds since 1970, JSON is text. A row's `created_at` is
-- the millisecond of its own id. `status` holds the numbers of core's `Status`; a test keeps the
-- constraints equal to it. Tables that grow have no foreign keys to each other, because PostgreSQL partitions them.

-- One row: what belongs to the whole database.
create table sched_meta (
    id          integer primary key check (id = 1),
    -- Raised by every change of a trigger.
    generation  integer not null,
    -- Raised by every health check, to see that commits work.
    probe       integer not null
) strict;

insert into sched_meta (id, generation, probe) values (1, 0, 0);

create table sched_job (
    id           blob not null primary key,
    namespace    text not null,
    name         text not null,
    description  text not null,
    revision     integer not null,
    config       text not null,
    created_at   integer not null,
    updated_at   integer not null,
    unique (namespace, name)
) strict;

create table sched_trigger (
    namespace    text not null,
    name         text not null,
    owner        text not null,
    origin       text not null,
    -- 0 while no version ever parsed; `text` is empty then.
    revision     integer not null,
    text         text not null,
    description  text not null,
    problem      text,
    job_name     text,
    updated_at   integer not null,
    primary key (namespace, name)
) strict;

-- Every text that was in force, also of triggers that are gone: events name the revision that decided.
create table sched_trigger_revision (
    namespace    text not null,
    name         text not null,
    revision     integer not null,
    origin       text not null,
    text         text not null,
    created_at   integer not null,
    primary key (namespace, name, revision)
) strict, without rowid;

create table sched_schedule (
    id           blob not null primary key,
    namespace    text not null,
    trigger_name text not null,
    -- Its place among the trigger's entries.
    position     integer not null,
    name         text not null,
    kind         text not null check (kind in ('cron', 'interval', 'once', 'daemon', 'event')),
    spec         text not null,
    enabled      integer not null default 1 check (enabled in (0, 1)),
    -- The anchor of an interval.
    created_at   integer not null,
    next_run_at  integer,
    last_run_at  integer,
    unique (namespace, trigger_name, name),
    foreign key (namespace, trigger_name) references sched_trigger (namespace, name) on delete cascade
) strict;

create index sched_schedule_due on sched_schedule (next_run_at, id) where enabled = 1 and next_run_at is not null;

-- Every time that a schedule has fired for, for as long as it could come again.
create table sched_fire (
    schedule_id  blob not null,
    run_at       integer not null,
    event_id     blob not null,
    primary key (schedule_id, run_at)
) strict, without rowid;

create index sched_fire_by_time on sched_fire (run_at);

-- Runs of schedules that do not overlap, from the fire until somebody sees that they have ended.
create table sched_turn (
    -- `namespace/trigger/schedule`: the same over all versions of a schedule.
    key         text not null,
    run_at      integer not null,
    task_id     blob not null,
    -- That of the task.
    created_at  integer not null,
    queued      integer not null check (queued in (0, 1)),
    primary key (key, task_id)
) strict, without rowid;

create index sched_turn_queued on sched_turn (key) where queued = 1;
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
    task_id       blob not null,
    -- That of the task.
    created_at    integer not null,
    -- Since a run last lasted long enough.
    restarts      integer not null,
    -- The job as it was when the run was planned.
    definition    text not null,
    job_id        blob not null,
    job_revision  integer not null,
    primary key (namespace, trigger_name, name)
) strict, without rowid;

create index sched_daemon_by_task on sched_daemon (task_id);

create table sched_event (
    id              blob not null primary key,
    created_at      integer not null,
    namespace       text not null,
    kind            text not null,
    source          text not null,
    type            text not null,
    subject         text,
    time            integer not null,
    received_at     integer not null,
    content_type    text,
    headers         text not null,
    query           text,
    verdict         text not null check (verdict in ('accepted', 'malformed', 'rejected', 'unverified', 'ping')),
    verdict_reason  text,
    -- The address that sent it.
    sender          text,
    -- Where the secret is kept that it was signed with.
    secret          text,
    -- The event that it repeats.
    replay_of       blob,
    -- By which its sender asks what became of it; of the same millisecond as the id.
    status_token    blob,
    decisions       text not null,
    -- Bytes of the body as it came. Where fewer are stored, they are an LZ4 block.
    body_size       integer not null,
    -- Last, so that a list never touches its pages.
    body            blob not null
) strict;

-- Few among many.
create index sched_event_replays on sched_event (replay_of) where replay_of is not null;

create table sched_dedupe (
    namespace   text not null,
    scope       text not null,
    key         text not null,
    event_id    blob not null,
    expires_at  integer not null,
    primary key (namespace, scope, key)
) strict, without rowid;

create index sched_dedupe_expired on sched_dedupe (expires_at);

-- A queue of its own for all tasks of one priority that ask for the same labels, or for one agent.
create table sched_lane (
    id        integer primary key,
    -- Priority, selector and agent in one canonical text.
    key       text not null unique,
    selector  text not null,
    agent_id  text,
    priority  integer not null
) strict;

create table sched_task (
    id                blob not null primary key,
    created_at        integer not null,
    namespace         text not null,
    trigger_name      text not null,
    job_id            blob not null,
    schedule_id       blob,
    event_id          blob not null,
    status            integer not null,
    -- How the last attempt ended.
    outcome           text,
    -- Not before this time; a planned retry moves it.
    scheduled_at      integer not null,
    -- The time of a task that waits for an earlier run of its schedule; `scheduled_at` is then beyond all times.
    queued_for        integer,
    finished_at       integer,
    priority          integer not null,
    lane_id           integer not null,
    policy            text not null,
    -- Attempts so far.
    attempt           integer not null,
    -- The number of the last lease: it only grows.
    fence             integer not null,
    cancel_requested  integer not null check (cancel_requested in (0, 1)),
    -- The agent of the last lease.
    agent_id          text,
    -- The lease in force: its attempt, and since when; both or neither.
    instance_id       blob,
    leased_at         integer,
    command           text,
    -- Which ends become events: 0 none, 1 every one, 2 every one but a success. Negative once that is done.
    telling           integer not null default 0 check (telling between -2 and 2),
    constraint sched_task_status check (case when status in (5, 8, 10)
        then agent_id is not null and instance_id is not null and leased_at is not null
        else status in (1, 2, 90, 91, 92, 99, 100) and instance_id is null and leased_at is null end)
) strict;

-- The claim, and the look at what waits: a range of one lane, in the order of time.
create index sched_task_claim on sched_task (lane_id, scheduled_at, id) where status in (1, 2);
create index sched_task_leased on sched_task (agent_id) where status in (5, 8, 10);
create index sched_task_cancelling on sched_task (agent_id) where cancel_requested = 1 and status in (5, 8, 10);
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
    id              blob not null primary key,
    created_at      integer not null,
    task_id         blob not null,
    job_id          blob not null,
    agent_id        text not null,
    attempt         integer not null,
    fence           integer not null,
    status          integer not null,
    started_at      integer,
    finished_at     integer,
    outcome         text,
    output_dropped  integer not null
) strict, without rowid;

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
    instance_id  blob not null,
    created_at   integer not null,
    seq          integer not null,
    stream       text not null check (stream in ('stdout', 'stderr')),
    data         blob not null,
    primary key (instance_id, seq)
) strict, without rowid;

-- An agent and its session: the one row that heartbeats renew.
create table sched_agent (
    id             text not null primary key,
    hostname       text not null,
    version        text not null,
    labels         text not null,
    slots          integer not null,
    journal_id     blob not null,
    journal_epoch  integer not null,
    -- Raised by every hello.
    session_epoch  integer not null,
    server_id      blob not null,
    -- The session's lease, by the database's clock.
    session_until  integer not null,
    online         integer not null check (online in (0, 1)),
    -- It gets no more tasks, until somebody takes that back.
    drained        integer not null default 0 check (drained in (0, 1)),
    -- By trigger, in microseconds since 1970: up to when it has told of every file that was complete.
    watermarks     text not null default '{}',
    first_seen_at  integer not null,
    last_seen_at   integer not null
) strict;

-- The keys by which agents of other machines are known. One that was taken back stays, so that it never counts again.
create table sched_agent_key (
    -- SHA-256 of the public key.
    fingerprint  blob not null primary key,
    agent_id     text not null,
    -- Of the token; null: the agent's own configuration says them.
    labels       text,
    joined_at    integer not null,
    revoked_at   integer
) strict;

create unique index sched_agent_key_one on sched_agent_key (agent_id) where revoked_at is null;
create index sched_agent_key_agent on sched_agent_key (agent_id);

-- What agents join with, once. Of the secret only the hash is kept.
create table sched_join_token (
    hash        blob not null primary key,
    labels      text,
    -- The only agent that may use it.
    agent_id    text,
    made_at     integer not null,
    expires_at  integer not null,
    used_at     integer,
    -- Fingerprint of the key that joined.
    used_by     blob
) strict;

-- The keys of the servers of this database, which agents are told.
create table sched_server_key (
    fingerprint    blob not null primary key,
    first_seen_at  integer not null,
    last_seen_at   integer not null
) strict;

-- Who looks after the whole database, and until when by the database's clock.
create table sched_leader (
    name        text not null primary key check (name = 'main'),
    -- One start of one server.
    holder      blob not null,
    -- Raised whenever leadership was not simply prolonged.
    epoch       integer not null,
    expires_at  integer not null
) strict;
