//! Bodies of events that are on their way: their frames come before the assignment that they
//! belong to, on the same connection.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use hetuflow_core::{id::InstanceId, protocol::frame::Frame};

/// Bytes of all bodies that wait for their assignment. A body that does not fit is dropped, and its
/// assignment is refused because it did not come whole.
const MAX_WAITING: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Bodies {
    waiting: HashMap<InstanceId, BytesMut>,
    size: usize,
}

impl Bodies {
    pub(super) fn receive(&mut self, frame: &Bytes) {
        match Frame::decode(frame) {
            Ok(Frame::Body { instance_id, offset, data }) => self.add(instance_id, offset, &data),
            Ok(Frame::Output(_)) => tracing::warn!("the server sent output of a process"),
            Err(error) => tracing::warn!(%error, "the server sent a frame that cannot be read"),
        }
    }

    /// What came of the body; empty when nothing did.
    pub(super) fn take(&mut self, instance_id: InstanceId) -> Bytes {
        let body = self.waiting.remove(&instance_id).unwrap_or_default();
        self.size -= body.len();
        body.freeze()
    }

    fn add(&mut self, instance_id: InstanceId, offset: u64, data: &[u8]) {
        if offset == 0 {
            // The first frame, of a first or a repeated assignment.
            self.take(instance_id);
        }
        let known = self.waiting.get(&instance_id).map_or(0, BytesMut::len);
        if offset != known as u64 || self.size + data.len() > MAX_WAITING {
            tracing::warn!(instance.id = %instance_id, offset, "a piece of an event's body is dropped");
            self.take(instance_id);
            return;
        }
        self.size += data.len();
        self.waiting.entry(instance_id).or_default().extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_and_gaps_do_not() {
        let id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        let check = |pieces: &[(u64, &'static [u8])], expected: &[u8]| {
            let mut bodies = Bodies::default();
            for (offset, data) in pieces {
                let data = Bytes::from_static(data);
                bodies.receive(&Frame::Body { instance_id: id, offset: *offset, data }.encode());
            }
            assert_eq!(bodies.take(id), expected);
            assert_eq!(bodies.size, 0);
        };
        check(&[], b"");
        check(&[(0, b"ab"), (2, b"c")], b"abc");
        check(&[(0, b"ab"), (3, b"c")], b"");
        check(&[(0, b"ab"), (0, b"xy")], b"xy");
    }
}
