-- What the watcher remembers. One file of its own; nothing else writes to it.

-- What shall be watched, so that watching starts before the server is reached.
create table if not exists watch (
    slot     text primary key,
    key      text not null,
    revision integer not null,
    source   text not null,
    -- What the revision before covered, until the baseline of this one is done.
    prior    text
) strict;

create table if not exists root (
    slot   text not null,
    dir    text not null,
    -- Files that were last touched at or before this moment and belong to the baseline are old.
    since  integer not null,
    done   integer not null check (done in (0, 1)),
    -- Which directory it was.
    ino    integer,
    btime  integer,
    -- It did not exist when the watch was new; the device on which it was looked for.
    absent_device integer,
    primary key (slot, dir)
) strict, without rowid;

-- The version of each file that was last reported, or was there before the watch.
create table if not exists file (
    slot  text not null,
    dir   text not null,
    name  text not null,
    ino   integer not null,
    btime integer,
    size  integer not null,
    mtime integer not null,
    primary key (slot, dir, name)
) strict, without rowid;

-- Events that the server has not acknowledged.
create table if not exists outbox (
    seq    integer primary key autoincrement,
    dedupe text not null unique,
    key    text not null,
    body   text not null,
    -- The line of a strict order that it is in: it is told once nobody is ahead there.
    slot   text,
    grp    text
) strict;

create index if not exists outbox_line on outbox (slot, grp, seq) where grp is not null;

-- Events that the server has, and that are ahead in a line: their tasks have not ended well, as far as it has answered.
create table if not exists ahead (
    seq      integer primary key autoincrement,
    slot     text not null,
    grp      text not null,
    event    text not null,
    event_id text not null,
    stands   text not null check (stands in ('open', 'failed', 'lost')),
    unique (slot, grp)
) strict;

create index if not exists ahead_event_id on ahead (event_id);

-- The number that is told next, of each group of files that count.
create table if not exists sequence (
    slot text not null,
    grp  text not null,
    -- In decimal: it may be larger than an integer here.
    next text not null,
    primary key (slot, grp)
) strict, without rowid;

-- The last events that the server has acknowledged.
create table if not exists told (
    seq    integer primary key autoincrement,
    dedupe text not null unique,
    key    text not null,
    -- Under whose name they were told, and for how long the server surely knows them (seconds since 1970).
    teller text not null,
    until  integer not null,
    body   text not null,
    -- Bytes of all bodies up to this one.
    upto   integer not null,
    -- The server was told of it once more, and has not answered.
    asked  integer not null check (asked in (0, 1)),
    -- As in the outbox.
    slot   text,
    grp    text
) strict;

create index if not exists told_upto on told (upto);
create index if not exists told_asked on told (asked) where asked = 1;

-- Files that are complete and wait to be told in one event with others.
create table if not exists member (
    seq    integer primary key autoincrement,
    slot   text not null,
    grp    text not null,
    dedupe text not null,
    body   text not null,
    unique (slot, dedupe)
) strict;

-- Files with something to become once the tasks of their event have ended, or because they were refused.
create table if not exists fate (
    seq      integer primary key autoincrement,
    slot     text not null,
    -- The dedupe key of the event, and its own in a batch; the id that the server gave it, once it has acknowledged it.
    event    text not null,
    member   text,
    event_id text,
    dir      text not null,
    name     text not null,
    ino      integer not null,
    btime    integer,
    size     integer not null,
    mtime    integer not null,
    verdict  text not null check (verdict in ('open', 'succeeded', 'failed', 'quarantine', 'spent'))
) strict;

create index if not exists fate_event on fate (event);
create index if not exists fate_event_id on fate (event_id);
create index if not exists fate_verdict on fate (verdict, seq);
