//! One record: a message or a control entry. The same in young files and segments.
//!
//! ```text
//! 0     4      8        15     16      24          40
//! ┌─────┬──────┬────────┬──────┬───────┬───────────┬─────────┬──────────┐
//! │ crc │ size │ stream │ kind │ index │ meta 16 B │ payload │ 0 to 8 n │
//! └─────┴──────┴────────┴──────┴───────┴───────────┴─────────┴──────────┘
//! ```
//!
//! The checksum covers bytes 4 to 40 + size and is seeded with the identity of the place:
//! `crc32c(container) ^ offset / 8`. Both steps are one-to-one, so a whole record that turns up
//! at another offset of its file, or is left over from the file's former life, never passes.

use std::fmt;

use crate::error::DamageCause;
use crate::layout::{narrow, u32_at, u64_at};
use crate::place::StreamId;

pub(crate) const HEADER_SIZE_BYTES: usize = 40;

/// Sixteen bytes the node keeps with a message (priority, expiry), opaque to the log. They come
/// back from recovery without the message being read.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordMeta(pub [u8; 16]);

impl fmt::Debug for RecordMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Message,
    Control,
}

/// Everything in a record's header but size and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordKind,
    pub(crate) stream: StreamId,
    pub(crate) index: u64,
    pub(crate) meta: RecordMeta,
}

/// A verified record within a larger piece of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) head: RecordHead,
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes the whole record takes.
    pub(crate) fn size_bytes(&self) -> usize {
        size_bytes(self.payload.len())
    }
}

/// Bytes a record with a payload of this size takes.
pub(crate) fn size_bytes(payload_size: usize) -> usize {
    (HEADER_SIZE_BYTES + payload_size).next_multiple_of(8)
}

/// Appends a record to `out`. `offset` is where it will be in its container.
///
/// # Panics
/// If `put` does not write exactly `payload_size` bytes, or the stream id exceeds 56 bits.
pub(crate) fn put(
    out: &mut Vec<u8>,
    (seed, offset): (u32, u32),
    head: &RecordHead,
    payload_size: usize,
    put: impl FnOnce(&mut Vec<u8>),
) {
    assert!(head.stream <= StreamId::MAX, "stream ids fit 56 bits");
    let start = out.len();
    let total = size_bytes(payload_size);
    out.reserve(total);
    let kind = match head.kind {
        RecordKind::Message => 1_u64,
        RecordKind::Control => 2,
    };
    let mut header = [0; HEADER_SIZE_BYTES];
    header[4..8].copy_from_slice(&narrow(payload_size).to_le_bytes());
    header[8..16].copy_from_slice(&(head.stream.0 | kind << 56).to_le_bytes());
    header[16..24].copy_from_slice(&head.index.to_le_bytes());
    header[24..40].copy_from_slice(&head.meta.0);
    out.extend_from_slice(&header);
    put(out);
    assert_eq!(
        out.len() - start,
        HEADER_SIZE_BYTES + payload_size,
        "payload has another size"
    );
    let crc = crc32c::crc32c_append(seed ^ offset >> 3, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + total, 0);
}

/// Reads the record `bytes` start with and verifies it.
pub(crate) fn read(bytes: &[u8], (seed, offset): (u32, u32)) -> Result<Record<'_>, DamageCause> {
    let Some(header) = bytes.first_chunk::<HEADER_SIZE_BYTES>() else {
        return Err(DamageCause::Size);
    };
    let size = u32_at(header, 4) as usize;
    if size > bytes.len() - HEADER_SIZE_BYTES {
        return Err(DamageCause::Size);
    }
    let end = HEADER_SIZE_BYTES + size;
    if crc32c::crc32c_append(seed ^ offset >> 3, &bytes[4..end]) != u32_at(header, 0) {
        return Err(DamageCause::Checksum);
    }
    parse(bytes)
}

/// Reads the record `bytes` start with, which [`read`] has verified before.
pub(crate) fn parse(bytes: &[u8]) -> Result<Record<'_>, DamageCause> {
    let Some(header) = bytes.first_chunk::<HEADER_SIZE_BYTES>() else {
        return Err(DamageCause::Size);
    };
    let end = HEADER_SIZE_BYTES + u32_at(header, 4) as usize;
    if end > bytes.len() {
        return Err(DamageCause::Size);
    }
    let word = u64_at(header, 8);
    let kind = match word >> 56 {
        1 => RecordKind::Message,
        2 => RecordKind::Control,
        _ => return Err(DamageCause::Identity),
    };
    let stream = StreamId(word & StreamId::MAX.0);
    let meta = RecordMeta(header[24..40].try_into().expect("sixteen bytes"));
    let head = RecordHead {
        kind,
        stream,
        index: u64_at(header, 16),
        meta,
    };
    Ok(Record {
        head,
        payload: &bytes[HEADER_SIZE_BYTES..end],
    })
}
