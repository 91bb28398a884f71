//! Binary frames: 26 bytes of head (kind, instance, stream, number), then raw bytes.
//!
//! ```text
//! 0      kind       1 output of a process (agent to server), 2 body of an event (server to agent)
//! 1..17  instance   UUID
//! 17     stream     0 stdout, 1 stderr; 0 for a body
//! 18..26 number     big endian: sequence number of the output, or offset in the body
//! 26..   data
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    id::InstanceId,
    task::{OutputChunk, Stream},
};

const HEAD: usize = 26;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Output(OutputChunk),
    Body { instance_id: InstanceId, offset: u64, data: Bytes },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a binary frame of {0} bytes has no head of {HEAD} bytes")]
    Short(usize),
    #[error("binary frame of unknown kind {0}")]
    Kind(u8),
    #[error("binary frame of unknown stream {0}")]
    Stream(u8),
}

impl Frame {
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, instance_id, stream, number, data) = match self {
            Self::Output(chunk) => {
                let stream = match chunk.stream {
                    Stream::Stdout => 0,
                    Stream::Stderr => 1,
                };
                (1, chunk.instance_id, stream, chunk.seq, &chunk.data)
            }
            Self::Body { instance_id, offset, data } => (2, *instance_id, 0, *offset, data),
        };
        let mut bytes = BytesMut::with_capacity(HEAD + data.len());
        bytes.put_u8(kind);
        bytes.put_slice(instance_id.uuid().as_bytes());
        bytes.put_u8(stream);
        bytes.put_u64(number);
        bytes.put_slice(data);
        bytes.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let short = || FrameError::Short(bytes.len());
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or_else(short)?;
        let (kind, stream) = (head[0], head[17]);
        let uuid = Uuid::from_slice(&head[1..17]).map_err(|_| short())?;
        let instance_id = InstanceId::from_uuid(uuid);
        let number = u64::from_be_bytes(*head[18..].first_chunk().ok_or_else(short)?);
        let data = bytes.slice(HEAD..);
        match kind {
            1 => {
                let stream = match stream {
                    0 => Stream::Stdout,
                    1 => Stream::Stderr,
                    other => return Err(FrameError::Stream(other)),
                };
                Ok(Self::Output(OutputChunk { instance_id, seq: number, stream, data }))
            }
            2 => Ok(Self::Body { instance_id, offset: number, data }),
            other => Err(FrameError::Kind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let instance_id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        for frame in [
            Frame::Output(OutputChunk {
                instance_id,
                seq: 7,
                stream: Stream::Stderr,
                data: Bytes::from_static(b"oh\n"),
            }),
            Frame::Body { instance_id, offset: 65_536, data: Bytes::new() },
        ] {
            assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(Frame::decode(&Bytes::from_static(b"x")), Err(FrameError::Short(1)));
        assert_eq!(Frame::decode(&Bytes::from(vec![9; 30])), Err(FrameError::Kind(9)));
        let mut stream = vec![0; 30];
        stream[0] = 1;
        stream[17] = 2;
        assert_eq!(Frame::decode(&Bytes::from(stream)), Err(FrameError::Stream(2)));
    }
}
