//! The server's database is put back from a backup: what it has forgotten of files is told again, and nothing is lost.

use std::{fs, path::Path};

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, postgres::PgConnectOptions};

use crate::{
    on_both,
    world::{Database, World},
};

on_both! { files_that_a_restored_server_has_forgotten_are_told_again }

/// Its files stay, or go with the run.
const IMPORT: &str = r#"
[on.file]
paths  = ["inbox/*"]
agents = { ingest = "yes" }

[job]
cmd  = "sh"
args = ["-c", '''
echo "$HETUFLOW_FILE_NAME" >> $DIR/effects
case "$HETUFLOW_FILE_NAME" in *.gone) rm "$HETUFLOW_FILE" ;; esac
''']
"#;

async fn files_that_a_restored_server_has_forgotten_are_told_again(database: Database) {
    let mut world = World::dev(database, &[("import", IMPORT)]).await;
    let inbox = world.data().join("inbox");
    drop_in(&world, &inbox, "1.csv", 1).await;
    world.server.kill().await;
    back_up(database, &world).await;

    world.restart().await;
    for (count, name) in [(2, "2.csv"), (3, "3.gone"), (4, "4.csv")] {
        drop_in(&world, &inbox, name, count).await;
    }
    world.server.kill().await;
    restore(database, &world).await;

    world.restart().await;
    drop_in(&world, &inbox, "5.csv", 4).await;
    // What ran after the backup runs again, as far as its file is there; what ran before does not.
    let mut effects = world.effects_until(7).await;
    effects[4..].sort_unstable();
    assert_eq!(effects, ["1.csv", "2.csv", "3.gone", "4.csv", "2.csv", "4.csv", "5.csv"]);
    let status = |task: &serde_json::Value| task["status"].as_str().unwrap_or_default().to_owned();
    let statuses = world
        .until("all have ended", async |world| {
            let mut all: Vec<_> = world.tasks().await.iter().map(status).collect();
            all.sort_unstable();
            (all.len() == 5 && all.iter().all(|status| status != "running")).then_some(all)
        })
        .await;
    assert_eq!(statuses, ["cancelled", "succeeded", "succeeded", "succeeded", "succeeded"]);
    assert_eq!(world.effects().len(), 7);
}

/// A file whose run is recorded, with so many others.
async fn drop_in(world: &World, inbox: &Path, name: &str, count: usize) {
    fs::write(inbox.join(name), name).expect("written");
    world
        .until("it succeeded", async |world| {
            let tasks = world.tasks().await;
            (tasks.iter().filter(|task| task["status"] == "succeeded").count() >= count).then_some(())
        })
        .await;
}

/// The files of an SQLite database.
const PARTS: [&str; 3] = ["hetuflow.db", "hetuflow.db-wal", "hetuflow.db-shm"];

async fn back_up(database: Database, world: &World) {
    match database {
        Database::Sqlite => {
            for part in PARTS {
                let from = world.dir.path().join(part);
                if from.exists() {
                    fs::copy(from, world.dir.path().join(format!("{part}.backup"))).expect("copied");
                }
            }
        }
        Database::Postgres => copy(world, &name(world), &format!("{}_backup", name(world))).await,
    }
}

async fn restore(database: Database, world: &World) {
    match database {
        Database::Sqlite => {
            for part in PARTS {
                let (to, from) =
                    (world.dir.path().join(part), world.dir.path().join(format!("{part}.backup")));
                if from.exists() {
                    fs::copy(from, to).expect("copied");
                } else if to.exists() {
                    fs::remove_file(to).expect("removed");
                }
            }
        }
        Database::Postgres => copy(world, &format!("{}_backup", name(world)), &name(world)).await,
    }
}

fn name(world: &World) -> String {
    let options: PgConnectOptions = world.database_url.parse().expect("a URL");
    options.get_database().expect("a name").to_owned()
}

/// Connections of a server that was killed end a moment later.
async fn copy(world: &World, from: &str, to: &str) {
    let options: PgConnectOptions = world.database_url.parse().expect("a URL");
    let options = options.database("postgres");
    let copied = async |_: &World| {
        let mut connection = options.connect().await.expect("PostgreSQL answers");
        let drop = format!("drop database if exists {to} with (force)");
        connection.execute(sqlx::AssertSqlSafe(drop)).await.expect("dropped");
        let copied =
            connection.execute(sqlx::AssertSqlSafe(format!("create database {to} template {from}"))).await;
        connection.close().await.expect("closed");
        copied.ok()
    };
    world.until("the database is copied", copied).await;
}
