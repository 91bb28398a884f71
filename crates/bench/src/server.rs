//! The product under test: `hetuflow-server` as it is released, on ports of its own.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use crate::{
    child::{Child, Drained, Voice, sibling},
    payload,
};

/// With a hundred thousand schedules to load.
const START_WITHIN: Duration = Duration::from_mins(5);

/// What runs for every delivery.
const TRIGGER: &str = "[on.webhook]\nscheme = \"github\"\nsecret = { env = \"BENCH_SECRET\" }\nevents = [\"push\"]\n\
                       when = 'body.ref == \"refs/heads/main\"'\n\n\
                       [job]\ncmd = \"true\"\n";

pub(crate) struct Server {
    process: Drained,
    pub(crate) agents: SocketAddr,
    pub(crate) hooks: SocketAddr,
}

impl Server {
    /// `folder` is for its triggers.
    pub(crate) async fn start(database: &str, folder: &Path) -> anyhow::Result<Self> {
        let triggers = folder.join("triggers");
        fs::create_dir_all(&triggers)?;
        fs::write(triggers.join("bench.toml"), TRIGGER)?;
        let any = || "127.0.0.1:0".to_owned();
        let environment = [
            ("DATABASE_URL", database.to_owned()),
            ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", triggers.display().to_string()),
            ("HETUFLOW_SERVER__SERVER__HTTP_PORT", any()),
            ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", any()),
            ("HETUFLOW_SERVER__SERVER__HOOK_PORT", any()),
            ("BENCH_SECRET", payload::SECRET.to_owned()),
        ];
        let mut process =
            Child::start::<&str>(&sibling("hetuflow-server")?, [], &environment, Voice::Stderr)?;
        let (agents, hooks) = process
            .line(START_WITHIN, |line| {
                let place = |name: &str| line.split_once(name)?.1.split_whitespace().next()?.parse().ok();
                Some((place("agents=")?, place("hooks=")?))
            })
            .await?;
        Ok(Self { process: process.drain(), agents, hooks })
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.pid()
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
}
