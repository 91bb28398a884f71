//! Reads what the kernel writes into a buffer of events, `fanotify(7)`: metadata, then records, each with its length. Bytes in,
//! slices of them out; whatever they are, it ends and never panics.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// What one event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The kernel's queue was full.
    Overflow,
    Happened {
        mask: u64,
        /// The directory, as `system::handle` has it.
        directory: &'a [u8],
        /// What in it; nothing where it is the directory itself.
        name: Option<&'a OsStr>,
    },
    /// Nothing that we know to read.
    Nothing,
}

/// The bytes are not what the kernel promises: what they told is lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// `struct fanotify_event_metadata`: length, version, reserved, length of the metadata, mask, descriptor, process.
const METADATA: usize = 24;
const VERSION: usize = 4;
const METADATA_LENGTH: usize = 6;
const MASK: usize = 8;

/// `struct fanotify_event_info_header`: kind, padding, length.
const HEADER: usize = 4;
/// The id of a file system, and the length and kind of a handle, come before its bytes.
const SYSTEM: usize = 8;
const BEFORE_HANDLE: usize = 16;

pub(super) struct Events<'a>(&'a [u8]);

impl<'a> Events<'a> {
    pub(super) const fn new(buffer: &'a [u8]) -> Self {
        Self(buffer)
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = u32_at(self.0, 0).and_then(|length| usize::try_from(length).ok());
        let event =
            length.filter(|length| *length >= METADATA).and_then(|length| self.0.split_at_checked(length));
        let Some((event, rest)) = event else {
            self.0 = &[];
            return Some(Err(Malformed));
        };
        self.0 = rest;
        let read = read(event);
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

fn read(event: &[u8]) -> Result<Event<'_>, Malformed> {
    if event.get(VERSION).copied() != Some(libc::FANOTIFY_METADATA_VERSION) {
        return Err(Malformed);
    }
    let mask = u64_at(event, MASK).ok_or(Malformed)?;
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return Ok(Event::Overflow);
    }
    let begin = usize::from(u16_at(event, METADATA_LENGTH).ok_or(Malformed)?);
    let mut records = event.get(begin..).filter(|_| begin >= METADATA).ok_or(Malformed)?;
    while !records.is_empty() {
        let length = usize::from(u16_at(records, 2).ok_or(Malformed)?);
        if length < HEADER {
            return Err(Malformed);
        }
        let (record, rest) = records.split_at_checked(length).ok_or(Malformed)?;
        records = rest;
        if let [libc::FAN_EVENT_INFO_TYPE_DFID_NAME | libc::FAN_EVENT_INFO_TYPE_DFID, ..] = record {
            let (directory, name) = place(&record[HEADER..]).ok_or(Malformed)?;
            return Ok(Event::Happened { mask, directory, name });
        }
    }
    Ok(Event::Nothing)
}

/// A directory, and a name that ends with a zero, if any, with padding after it.
fn place(record: &[u8]) -> Option<(&[u8], Option<&OsStr>)> {
    let length = usize::try_from(u32_at(record, SYSTEM)?).ok()?;
    let (directory, rest) = record.split_at_checked(BEFORE_HANDLE.checked_add(length)?)?;
    let name = rest.split(|byte| *byte == 0).next().map(OsStr::from_bytes);
    Some((directory, name.filter(|name| !name.is_empty() && *name != ".")))
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    bytes.get(place..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    bytes.get(place..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HANDLE: [u8; 8] = [7; 8];

    fn metadata(length: u32, mask: u64) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
        bytes.extend(24_u16.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend([0xFF; 4]);
        bytes.extend([0; 4]);
        bytes
    }

    fn place_of(kind: u8, name: &[u8]) -> Vec<u8> {
        let mut body = [1; 8].to_vec();
        body.extend(8_u32.to_ne_bytes());
        body.extend(1_i32.to_ne_bytes());
        body.extend(HANDLE);
        body.extend(name);
        body.resize(body.len().next_multiple_of(4), 0);
        let mut record = vec![kind, 0];
        record.extend(u16::try_from(4 + body.len()).expect("short").to_ne_bytes());
        record.extend(body);
        record
    }

    fn event(mask: u64, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let mut bytes = metadata(u32::try_from(24 + records.len()).expect("short"), mask);
        bytes.extend(records);
        bytes
    }

    fn all(bytes: &[u8]) -> Vec<Result<Event<'_>, Malformed>> {
        Events::new(bytes).collect()
    }

    #[test]
    fn what_happened_where() {
        let bytes = [
            event(libc::FAN_CREATE, &[place_of(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"a.csv\0")]),
            event(libc::FAN_Q_OVERFLOW, &[]),
            event(libc::FAN_MOVE_SELF, &[place_of(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b".\0")]),
            // A kind of another kernel before the one that is known, and only such a kind.
            event(libc::FAN_DELETE, &[place_of(77, b""), place_of(libc::FAN_EVENT_INFO_TYPE_DFID, b"")]),
            event(libc::FAN_DELETE, &[place_of(libc::FAN_EVENT_INFO_TYPE_FID, b"")]),
        ]
        .concat();
        let mut directory = [1; 8].to_vec();
        directory.extend(8_u32.to_ne_bytes());
        directory.extend(1_i32.to_ne_bytes());
        directory.extend(HANDLE);
        let directory = directory.as_slice();
        let expected = [
            Ok(Event::Happened { mask: libc::FAN_CREATE, directory, name: Some(OsStr::new("a.csv")) }),
            Ok(Event::Overflow),
            Ok(Event::Happened { mask: libc::FAN_MOVE_SELF, directory, name: None }),
            Ok(Event::Happened { mask: libc::FAN_DELETE, directory, name: None }),
            Ok(Event::Nothing),
        ];
        assert_eq!(all(&bytes), expected);
    }

    #[test]
    fn what_is_malformed_ends_it() {
        let good = event(libc::FAN_CREATE, &[place_of(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"a\0")]);
        for length in 1..good.len() {
            assert_eq!(all(&good[..length]), [Err(Malformed)], "cut at {length}");
        }
        let broken = |place: usize, bytes: &[u8]| {
            let mut broken = good.clone();
            broken[place..place + bytes.len()].copy_from_slice(bytes);
            let after = [broken, good.clone()].concat();
            assert_eq!(all(&after), [Err(Malformed)], "{bytes:?} at {place}");
        };
        // Lengths of nothing, of less than their own head, and of more than there is.
        for length in [0, 23, u32::MAX] {
            broken(0, &length.to_ne_bytes());
        }
        broken(VERSION, &[99]);
        for length in [0, 23, u16::MAX] {
            broken(METADATA_LENGTH, &length.to_ne_bytes());
        }
        for length in [0, 3, u16::MAX] {
            broken(METADATA + 2, &length.to_ne_bytes());
        }
        for length in [13, u32::MAX] {
            broken(METADATA + HEADER + SYSTEM, &length.to_ne_bytes());
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_ends(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(all(&bytes).len() <= bytes.len());
        }

        #[test]
        fn whatever_is_changed_it_ends(place in 0_usize..48, byte in any::<u8>()) {
            let mut bytes = event(libc::FAN_CREATE, &[place_of(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"a\0")]);
            bytes[place] = byte;
            prop_assert!(!all(&bytes).is_empty());
        }
    }
}
