//! What a benchmark's messages carry.
//!
//! ```text
//! sent at: u64, nanoseconds since the run's start, 0 for "not measured" | seq: u64 | filler
//! ```
//!
//! A body shorter than [`STAMP_SIZE_BYTES`] carries filler only, and no latency is measured.

/// Bytes that the stamp takes.
pub(super) const STAMP_SIZE_BYTES: usize = 16;

/// A body with its stamp still empty.
pub(super) fn unstamped(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|i| b"staunch!"[i % 8]).collect()
}

/// Writes the stamp, if there is room.
#[inline]
pub(super) fn stamp(body: &mut [u8], sent_at_nanoseconds: u64, seq: u64) {
    if let Some((first, rest)) = body.split_first_chunk_mut::<8>()
        && let Some(second) = rest.first_chunk_mut::<8>()
    {
        *first = sent_at_nanoseconds.to_be_bytes();
        *second = seq.to_be_bytes();
    }
}

/// When the message was sent, if it says so.
#[inline]
pub(super) fn sent_at_nanoseconds(body: &[u8]) -> Option<u64> {
    if body.len() < STAMP_SIZE_BYTES {
        return None;
    }
    let nanoseconds = u64::from_be_bytes(*body.first_chunk()?);
    (nanoseconds != 0).then_some(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_read_back_where_they_fit() {
        let mut body = unstamped(20);
        stamp(&mut body, 77, 5);
        assert_eq!(sent_at_nanoseconds(&body), Some(77));
        assert_eq!(&body[8..16], 5u64.to_be_bytes());
        let mut short = unstamped(10);
        stamp(&mut short, 77, 5);
        assert_eq!(short, unstamped(10));
        assert_eq!(sent_at_nanoseconds(&short), None);
    }
}
