//! The last thing that happens in a run: files come while nobody watches. Nothing comes after them that could make
//! anybody look again, so that only the look at everything at the start can find them.

use std::fs;

use super::Site;
use crate::{
    check::DROPS,
    history::{Drop, FaultKind, Log, now},
    world::{AGENTS, Form},
};

const FILES: u32 = 5;

impl Site {
    /// Kills the process that watches, and starts it again when the files are there.
    pub(super) async fn last_files(&self) -> anyhow::Result<()> {
        self.record(FaultKind::Kill, AGENTS[0]).await?;
        match self.world.form {
            Form::Split { .. } => {
                let mut node = self.world.agents[0].lock().await;
                node.kill().await?;
                self.drop_files()?;
                node.start(&[])
            }
            Form::Up => {
                self.record(FaultKind::Kill, "server-0").await?;
                self.world.servers[0].lock().await.kill().await?;
                self.world.place(0, None);
                self.drop_files()?;
                self.bring_up(0).await
            }
        }
    }

    fn drop_files(&self) -> anyhow::Result<()> {
        let mut drops = Log::open(&self.world.folder.join(DROPS))?;
        for n in 0..FILES {
            let path = self.world.folder.join(format!("inbox/last-{n}.job"));
            fs::write(&path, format!("last file {n}\n"))?;
            drops.write(&Drop { path: path.display().to_string(), at: now() })?;
        }
        Ok(())
    }
}
