//! What waits to be written to one agent: a few control messages and a bounded heap of assignments.
//!
//! Control goes before bodies, between any two frames, so that a large body delays no
//! acknowledgement. An assignment and the body that precedes it are one [`Unit`] and stay in order.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use hetuflow_core::{id::InstanceId, protocol::ToAgent};
use tokio::{sync::mpsc, time::Instant};

/// Control messages that may wait. When it is full a session waits (and reads nothing more from its agent), everybody
/// else is told `false` and tries again later.
const MAX_CONTROL: usize = 256;

/// Assignments that may wait, and their bytes. When either is reached the agent has no room and dispatch skips it. One
/// assignment is always let in, however large.
const MAX_UNITS: usize = 512;
const MAX_UNIT_BYTES: usize = 4 * 1024 * 1024;

/// An assignment as it goes over the wire: the body in frames, then the message.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) instance_id: InstanceId,
    pub(crate) body: Bytes,
    /// The encoded [`ToAgent::Assign`].
    pub(crate) assign: String,
    /// Set by the writer once all of it has been handed to the socket.
    pub(crate) written: Arc<OnceLock<Instant>>,
}

impl Unit {
    pub(crate) fn new(instance_id: InstanceId, body: Bytes, assign: String) -> Self {
        Self { instance_id, body, assign, written: Arc::default() }
    }

    /// The same once more, not written yet.
    pub(crate) fn again(&self) -> Self {
        Self { written: Arc::default(), ..self.clone() }
    }

    fn size(&self) -> usize {
        self.body.len() + self.assign.len()
    }
}

/// The sending side.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    control: mpsc::Sender<ToAgent>,
    work: mpsc::Sender<Unit>,
    bytes: Arc<AtomicUsize>,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) control: mpsc::Receiver<ToAgent>,
    pub(crate) work: mpsc::Receiver<Unit>,
    bytes: Arc<AtomicUsize>,
}

pub(crate) fn outbox() -> (Outbox, Outgoing) {
    let (control, control_out) = mpsc::channel(MAX_CONTROL);
    let (work, work_out) = mpsc::channel(MAX_UNITS);
    let bytes = Arc::<AtomicUsize>::default();
    let outgoing = Outgoing { control: control_out, work: work_out, bytes: Arc::clone(&bytes) };
    (Outbox { control, work, bytes }, outgoing)
}

impl Outbox {
    /// How many more assignments it takes now.
    pub(crate) fn room(&self) -> u32 {
        let full = self.bytes.load(Ordering::Relaxed) >= MAX_UNIT_BYTES;
        if full { 0 } else { u32::try_from(self.work.capacity()).unwrap_or(u32::MAX) }
    }

    pub(crate) fn try_assign(&self, unit: Unit) -> bool {
        let size = unit.size();
        if self.room() == 0 {
            return false;
        }
        // Counted before it is queued: the writer may be done with it before this thread goes on.
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let queued = self.work.try_send(unit).is_ok();
        if !queued {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        queued
    }

    pub(crate) fn try_send(&self, message: ToAgent) -> bool {
        self.control.try_send(message).is_ok()
    }

    /// Waits for room; `false` when the writer has ended.
    pub(crate) async fn send(&self, message: ToAgent) -> bool {
        self.control.send(message).await.is_ok()
    }
}

impl Outgoing {
    /// The unit is on its way: its place in the queue is free.
    pub(crate) fn written(&self, unit: &Unit) {
        self.bytes.fetch_sub(unit.size(), Ordering::Relaxed);
        // Set once: the writer sees each unit once.
        let _ = unit.written.set(Instant::now());
    }
}
