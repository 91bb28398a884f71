//! The disk below a run: while it stalls no commit goes on, and what a clock is late for then is no fault of the product.
//! On a machine with other work that happens, for seconds.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::Site;
use crate::history::{FaultKind, now};

const EVERY: Duration = Duration::from_millis(200);

/// What a write with its sync takes on a disk that works, many times over.
const STALL: Duration = Duration::from_secs(2);

/// Notes every stall; never ends by itself.
pub(super) async fn watch(site: Arc<Site>) -> anyhow::Result<()> {
    let probe = Arc::new(File::create(site.world.folder.join("disk.probe"))?);
    loop {
        let (at, began, file) = (now(), Instant::now(), Arc::clone(&probe));
        spawn_blocking(move || write(&file)).await??;
        if began.elapsed() >= STALL {
            site.record_at(at, FaultKind::Stall, "disk").await?;
        }
        sleep(EVERY).await;
    }
}

fn write(file: &File) -> io::Result<()> {
    file.write_all_at(&[7; 4096], 0)?;
    file.sync_data()
}
