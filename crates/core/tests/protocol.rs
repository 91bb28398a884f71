//! One message of each kind as it goes over the wire, a line of `protocol/*.jsonl` each: a change there
//! is a change that the other side, which may be older, must survive.

use std::{fmt::Debug, time::Duration};

use hetuflow_core::{
    event::{FileFacts, FileKind},
    fingerprint::{Fingerprint, TokenSecret},
    id::{AgentId, EventId, InstanceId, JournalId, ServerId, TaskId},
    job::{Command, ResourceLimits},
    labels::Labels,
    protocol::{
        Assignment, EventBrief, FileBatchAck, FileEvent, FileOutcome, FileVerdict, FromAgent, Held,
        HeldPhase, Hello, Join, Kept, ResultVerdict, RunResult, ToAgent, Watch, WatchHealth, WatchState,
        Welcome,
    },
    task::{EndReason, Lease, Outcome},
    trigger::{After, FileBatch, FileField, FileSource, Verify},
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

/// The messages are the lines, and reading them back gives the same messages.
fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(messages: &[M], lines: &str) {
    let written: Vec<String> =
        messages.iter().map(|message| serde_json::to_string(message).expect("a message is JSON")).collect();
    assert_eq!(written, lines.lines().collect::<Vec<_>>(), "now it is\n{}", written.join("\n"));
    for (message, line) in messages.iter().zip(lines.lines()) {
        assert_eq!(&serde_json::from_str::<M>(line).expect("it reads back"), message);
    }
}

fn uuid(last: u8) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(last))
}

fn lease() -> Lease {
    Lease { task_id: TaskId::from_uuid(uuid(1)), instance_id: InstanceId::from_uuid(uuid(2)), fence: 3 }
}

fn facts() -> FileFacts {
    FileFacts {
        path: "/data/a.csv".to_owned(),
        percent_encoded: true,
        size: 12,
        mtime: Timestamp::UNIX_EPOCH,
        kind: FileKind::Link,
        count: Some(2),
        identity: Some("7-8".to_owned()),
        change: "arrived".to_owned(),
        labels: Labels::new(),
        captures: [("day".to_owned(), "1".to_owned())].into(),
        claimed_from: Some("/data/d.csv".to_owned()),
        old_path: Some("/data/b.csv".to_owned()),
        reason: Some("no".to_owned()),
        sha256: Some("00".to_owned()),
        recheck: false,
        files: vec![FileFacts { path: "/data/c.csv".to_owned(), ..FileFacts::default() }],
    }
}

#[test]
fn from_agent() {
    let labels = Labels::from([("role".to_owned(), "web".to_owned())]);
    let messages = [
        FromAgent::Hello(Hello {
            protocol: 1,
            agent_id: AgentId::new("web-1").expect("a name"),
            journal_id: JournalId::from_uuid(uuid(4)),
            journal_epoch: 5,
            hostname: "web-1.example".to_owned(),
            version: "0.1.0".to_owned(),
            labels,
            slots: 4,
            held: vec![Held { lease: lease(), phase: HeldPhase::Running }],
        }),
        FromAgent::Credit { free: 2 },
        FromAgent::Accepted { lease: lease() },
        FromAgent::Refused { lease: lease(), reason: "no".to_owned() },
        FromAgent::Stale { lease: lease() },
        FromAgent::Started { lease: lease(), at: Timestamp::UNIX_EPOCH },
        FromAgent::Result(RunResult {
            lease: lease(),
            outcome: Outcome::because(EndReason::Timeout, "killed after its timeout of 5m"),
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Timestamp::UNIX_EPOCH,
            output_dropped: 0,
        }),
        FromAgent::Files {
            batch: vec![FileEvent {
                key: "default/import".to_owned(),
                dedupe: "abc".to_owned(),
                facts: facts(),
                members: vec!["abd".to_owned()],
                seen_at: Timestamp::UNIX_EPOCH,
            }],
        },
        FromAgent::FileOutcomes { events: vec![EventId::from_uuid(uuid(9))], follow: true },
        FromAgent::FileRooms { keys: vec!["default/import".to_owned()] },
        FromAgent::Watch(WatchState {
            key: "default/import".to_owned(),
            revision: 1,
            baseline_done: true,
            health: WatchHealth::Offline,
            tracked: 2,
            settling: 1,
            stuck: 1,
            hashing: 1,
            behind: 1,
            ahead: Some(EventId::from_uuid(uuid(9))),
            withheld: 1,
            rejected: 3,
            last_scan: Some(Timestamp::UNIX_EPOCH),
            watermark: Some(Timestamp::UNIX_EPOCH),
            problem: Some("/data does not exist".to_owned()),
        }),
        FromAgent::Join(Join {
            protocol: 1,
            agent_id: AgentId::new("web-1").expect("an id"),
            token: TokenSecret([0xef; 32]),
        }),
        FromAgent::Ping,
        FromAgent::Bye,
    ];
    check(&messages, include_str!("protocol/from_agent.jsonl"));
}

#[test]
fn to_agent() {
    let messages = [
        ToAgent::Welcome(Welcome {
            server_id: ServerId::from_uuid(uuid(6)),
            session_epoch: 7,
            heartbeat: Duration::from_secs(10),
            keep: vec![Kept { lease: lease(), next_seq: 8 }],
            stop: vec![lease()],
            servers: vec![Fingerprint([0xab; 32])],
        }),
        ToAgent::Joined,
        ToAgent::Servers { keys: vec![Fingerprint([0xcd; 32])] },
        ToAgent::Refuse { reason: "too old".to_owned() },
        ToAgent::Assign(Box::new(Assignment {
            lease: lease(),
            attempt: 1,
            command: Command {
                cmd: "rsync".to_owned(),
                args: vec!["-a".to_owned()],
                environment: [("REF".to_owned(), "main".to_owned())].into(),
                working_dir: Some("/srv".to_owned()),
                stdin: Some("x".to_owned()),
                user: Some("deploy".to_owned()),
                timeout: Some(Duration::from_millis(2500)),
                capture_output: true,
                max_output_size: 1024,
                resource_limits: Some(ResourceLimits {
                    max_memory_mb: Some(64),
                    ..ResourceLimits::default()
                }),
            },
            event: EventBrief {
                id: EventId::from_uuid(uuid(9)),
                event_type: "push".to_owned(),
                source: "/hooks/deploy".to_owned(),
                subject: None,
                replay_of: None,
                body_size: 10,
                file: Some(facts()),
            },
        })),
        ToAgent::Cancel { lease: lease() },
        ToAgent::ResultAck { lease: lease(), verdict: ResultVerdict::Fenced },
        ToAgent::OutputAck { lease: lease(), seq: 4 },
        ToAgent::FileAck {
            batch: vec![FileBatchAck {
                key: "default/import".to_owned(),
                dedupe: "abc".to_owned(),
                verdict: FileVerdict::Overlaps,
                event_id: Some(EventId::from_uuid(uuid(9))),
                known: vec![("abd".to_owned(), EventId::from_uuid(uuid(9)))],
            }],
        },
        ToAgent::FileOutcomes { outcomes: vec![(EventId::from_uuid(uuid(9)), FileOutcome::Failed)] },
        ToAgent::FileRooms { rooms: vec![("default/import".to_owned(), 5)] },
        ToAgent::Watches {
            watches: vec![Watch {
                key: "default/import".to_owned(),
                revision: 1,
                source: FileSource {
                    paths: vec!["/data/*.csv".to_owned()],
                    settle: Some(Duration::from_millis(250)),
                    max_size: Some(7),
                    order: FileField::Capture("n".to_owned()),
                    verify: Some(Verify::Magic("PK".to_owned())),
                    batch: Some(FileBatch::default()),
                    after_success: After::Move("old/{name}".to_owned()),
                    ..FileSource::default()
                },
            }],
        },
        ToAgent::Pong,
        ToAgent::Drain,
    ];
    check(&messages, include_str!("protocol/to_agent.jsonl"));
}

#[test]
fn what_a_newer_side_adds_is_skipped() {
    let check = |text: &str, expected: FromAgent| {
        assert_eq!(serde_json::from_str::<FromAgent>(text).expect("any message reads"), expected);
    };
    check(r#"{"type":"telepathy","at":1}"#, FromAgent::Unknown);
    check(r#"{"type":"credit","free":1,"colour":"red"}"#, FromAgent::Credit { free: 1 });
    assert_eq!(serde_json::from_str::<ToAgent>(r#"{"type":"sing"}"#).expect("reads"), ToAgent::Unknown);
}
