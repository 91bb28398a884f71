//! Bodies of events as they are stored: an LZ4 block where that takes less room. Of the JSON that providers send it
//! is a quarter, and what is not written need not be logged, copied and read.

use std::borrow::Cow;

use bytes::Bytes;

use crate::StoreError;

/// A smaller one gains nothing worth the work.
const MIN: usize = 512;

/// What is stored of a body.
pub(crate) fn packed(body: &[u8]) -> Cow<'_, [u8]> {
    if body.len() < MIN {
        return body.into();
    }
    let block = lz4_flex::block::compress(body);
    if block.len() < body.len() { block.into() } else { body.into() }
}

/// Bytes of a body as it came; it is bounded far below 2 GiB wherever it comes from.
pub(crate) fn size(body: &[u8]) -> i32 {
    i32::try_from(body.len()).unwrap_or(i32::MAX)
}

/// A body of `size` bytes from what is stored of it.
pub(crate) fn unpacked(stored: Vec<u8>, size: usize) -> Result<Bytes, StoreError> {
    if stored.len() == size {
        return Ok(stored.into());
    }
    match lz4_flex::block::decompress(&stored, size) {
        Ok(body) if body.len() == size => Ok(body.into()),
        Ok(body) => Err(StoreError::CorruptRow(format!("a body of {size} bytes has {}", body.len()))),
        Err(error) => Err(StoreError::CorruptRow(format!("a body of {size} bytes: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], stored: usize) {
        let packed = packed(body).into_owned();
        assert!(packed.len() <= stored, "{} bytes are stored as {}", body.len(), packed.len());
        assert_eq!(unpacked(packed, body.len()).expect("a body"), body);
    }

    #[test]
    fn bodies_come_back_as_they_were() {
        check(b"", 0);
        check(b"{}", 2);
        check(&[7; MIN - 1], MIN - 1);
        check(&[7; MIN], MIN / 10);
        check(
            br#"{"url": "https://api.github.com/repos/octo-org/site/keys"},"#.repeat(1000).as_slice(),
            1000,
        );
        // Nothing comes twice: it is stored as it is.
        let noise: Vec<u8> =
            (0..4096_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
        check(&noise, noise.len());
    }

    #[test]
    fn what_is_broken_is_told() {
        let block = packed(&[7; 4096]).into_owned();
        for broken in [block[..block.len() - 2].to_vec(), vec![0xff; 30]] {
            assert!(matches!(unpacked(broken, 4096), Err(StoreError::CorruptRow(_))));
        }
        assert!(matches!(unpacked(block.clone(), 4097), Err(StoreError::CorruptRow(_))));
        assert!(matches!(unpacked(block, 4095), Err(StoreError::CorruptRow(_))));
    }
}
