//! The machine below a run: while its disk or its processors are away no commit goes on, and what a clock is late for then is
//! no fault of the product. Where others work on it too, that happens, for seconds.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::Site;
use crate::history::{FaultKind, now};

const EVERY: Duration = Duration::from_millis(200);

/// Many times what a short sleep and a write with its sync take longer than they should.
const STALL: Duration = Duration::from_secs(1);

/// Notes every stall; never ends by itself.
pub(super) async fn watch(site: Arc<Site>) -> anyhow::Result<()> {
    let probe = Arc::new(File::create(site.world.folder.join("probe"))?);
    loop {
        let (at, began, file) = (now(), Instant::now(), Arc::clone(&probe));
        sleep(EVERY).await;
        spawn_blocking(move || write(&file)).await??;
        if began.elapsed() >= EVERY + STALL {
            site.record_at(at, FaultKind::Stall, "machine").await?;
        }
    }
}

fn write(file: &File) -> io::Result<()> {
    file.write_all_at(&[7; 4096], 0)?;
    file.sync_data()
}
