//! File triggers over the link: told until acknowledged, and noticed while no server is there.

use std::fs;

use hetuflow_core::protocol::{FileBatchAck, FileEvent, FileVerdict, FromAgent, ToAgent, Watch};

use crate::world::{Said, Session, World};

fn watch() -> Watch {
    let source = serde_json::json!({ "paths": ["inbox/*.csv"], "settle": "50ms" });
    let source = serde_json::from_value(source).expect("a source");
    Watch { key: "default/import".to_owned(), revision: 1, source }
}

async fn baseline(server: &mut Session) {
    server
        .until(|said| match said {
            Said::Message(FromAgent::Watch(state)) if state.baseline_done => Some(()),
            Said::Message(_) | Said::Output { .. } => None,
        })
        .await;
}

/// The next files that are told, by a server that has room for a hundred whenever it is asked.
async fn files(server: &mut Session) -> Vec<FileEvent> {
    loop {
        match server.next().await {
            Said::Message(FromAgent::Files { batch }) => return batch,
            Said::Message(FromAgent::FileRooms { keys }) => {
                let rooms = keys.into_iter().map(|key| (key, 100)).collect();
                server.say(ToAgent::FileRooms { rooms }).await;
            }
            Said::Message(_) | Said::Output { .. } => {}
        }
    }
}

fn names(files: &[FileEvent]) -> Vec<&str> {
    files.iter().filter_map(|file| file.facts.path.rsplit('/').next()).collect()
}

async fn acknowledge(server: &mut Session, files: &[FileEvent]) {
    let ack = |file: &FileEvent| FileBatchAck {
        key: file.key.clone(),
        dedupe: file.dedupe.clone(),
        verdict: FileVerdict::Accepted,
        event_id: None,
        known: Vec::new(),
    };
    server.say(ToAgent::FileAck { batch: files.iter().map(ack).collect() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_told_until_it_is_acknowledged() {
    let world = World::new().await;
    let inbox = world.data_dir().join("inbox");
    fs::create_dir_all(&inbox).expect("made");
    let agent = world.agent();
    let mut server = world.session().await;
    server.say(ToAgent::Watches { watches: vec![watch()] }).await;
    baseline(&mut server).await;
    fs::write(inbox.join("a.csv"), "1").expect("written");
    let first = files(&mut server).await;
    assert_eq!(names(&first), ["a.csv"]);
    drop(server);

    let mut server = world.session().await;
    let second = files(&mut server).await;
    assert_eq!(second, first, "under the same dedupe key");
    acknowledge(&mut server, &second).await;
    fs::write(inbox.join("b.csv"), "2").expect("written");
    let third = files(&mut server).await;
    assert_eq!(names(&third), ["b.csv"]);
    acknowledge(&mut server, &third).await;
    drop(server);

    // Nobody says again what to watch.
    fs::write(inbox.join("c.csv"), "3").expect("written");
    let mut server = world.session().await;
    let fourth = files(&mut server).await;
    assert_eq!(names(&fourth), ["c.csv"]);
    agent.stop().await;
    fs::write(inbox.join("d.csv"), "4").expect("written");
    let agent = world.agent();
    let mut server = world.session().await;
    let mut told = files(&mut server).await;
    acknowledge(&mut server, &told).await;
    while told.len() < 2 {
        let more = files(&mut server).await;
        acknowledge(&mut server, &more).await;
        told.extend(more);
    }
    assert_eq!(names(&told), ["c.csv", "d.csv"]);
    agent.stop().await;
}
