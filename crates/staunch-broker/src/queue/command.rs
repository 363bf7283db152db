//! What a durable queue must remember between two snapshots, and its bytes: the one owner of
//! this layout.
//!
//! Version 2. Numbers are LEB128 varints; ranges are sorted and each start is written as its
//! distance from the end of the range before it.
//!
//! ```text
//! 0         1      2
//! ┌─────────┬──────┬─────────────────────────────────────────────┐
//! │ version │ kind │ 1, 2: count, then (distance, length) each   │
//! │         │      │ 3: watermark                                │
//! │         │      │ 4: count, then (distance, returns) each     │
//! └─────────┴──────┴─────────────────────────────────────────────┘
//! ```

use staunch_types::MessageIndex;

use super::Released;
use crate::encoding::{DecodeError, Reader, Writer};

/// Version of the layout that [`QueueCommand::encode`] writes.
const COMMAND_VERSION: u8 = 2;

/// A change of a durable queue, other than a message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// Messages were settled for good: `(first, count)` each, sorted, not touching each other.
    Settled {
        /// The runs.
        ranges: Vec<(MessageIndex, u32)>,
    },
    /// Ready messages were purged.
    Purged {
        /// The runs.
        ranges: Vec<(MessageIndex, u32)>,
    },
    /// Messages below `upto` may from now on be delivered (contract C8).
    Reserved {
        /// The new watermark.
        upto: MessageIndex,
    },
    /// Messages were given back: how often so far, in all, so that a replay may meet a count
    /// twice or an older one later. Sorted by index, each once.
    Returned {
        /// Messages and counts.
        counts: Vec<(MessageIndex, u32)>,
    },
}

impl QueueCommand {
    /// The settlement of `released`, in any order, as runs.
    pub fn settled(released: &[Released]) -> Self {
        Self::Settled {
            ranges: runs(released),
        }
    }

    /// The purge of `released`, in any order, as runs.
    pub fn purged(released: &[Released]) -> Self {
        Self::Purged {
            ranges: runs(released),
        }
    }

    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(COMMAND_VERSION);
        match self {
            Self::Settled { ranges } => {
                out.put_u8(1);
                put_ranges(ranges, out);
            }
            Self::Purged { ranges } => {
                out.put_u8(2);
                put_ranges(ranges, out);
            }
            Self::Reserved { upto } => {
                out.put_u8(3);
                out.put_varint(upto.0);
            }
            Self::Returned { counts } => {
                out.put_u8(4);
                put_counts(counts, out);
            }
        }
    }

    /// Reads what [`QueueCommand::encode`] wrote; `bytes` hold exactly one command.
    ///
    /// # Errors
    /// [`DecodeError`] on any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(COMMAND_VERSION)?;
        let command = match reader.u8()? {
            1 => Self::Settled {
                ranges: read_ranges(&mut reader)?,
            },
            2 => Self::Purged {
                ranges: read_ranges(&mut reader)?,
            },
            3 => Self::Reserved {
                upto: MessageIndex(reader.varint()?),
            },
            4 => Self::Returned {
                counts: read_counts(&mut reader)?,
            },
            kind => return Err(DecodeError::UnknownKind { kind }),
        };
        reader.finish()?;
        Ok(command)
    }
}

fn runs(released: &[Released]) -> Vec<(MessageIndex, u32)> {
    let mut indexes: Vec<u64> = released.iter().map(|message| message.0.0).collect();
    indexes.sort_unstable();
    let mut runs: Vec<(MessageIndex, u32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((first, count)) if first.0 + u64::from(*count) == index && *count < u32::MAX => {
                *count += 1;
            }
            Some(_) | None => runs.push((MessageIndex(index), 1)),
        }
    }
    runs
}

fn put_ranges(ranges: &[(MessageIndex, u32)], out: &mut Vec<u8>) {
    out.put_varint(ranges.len() as u64);
    let mut end = 0;
    for &(first, count) in ranges {
        assert!(first.0 >= end, "ranges are sorted and disjoint");
        out.put_varint(first.0 - end);
        out.put_varint(u64::from(count));
        end = first.0 + u64::from(count);
    }
}

fn read_ranges(reader: &mut Reader<'_>) -> Result<Vec<(MessageIndex, u32)>, DecodeError> {
    let count = reader.varint()?;
    // Not reserved ahead: a damaged count must not decide how much memory is taken.
    let mut ranges = Vec::new();
    let mut end = 0u64;
    for _ in 0..count {
        let first = end
            .checked_add(reader.varint()?)
            .ok_or(DecodeError::OutOfRange)?;
        let length = u32::try_from(reader.varint()?).map_err(|_| DecodeError::OutOfRange)?;
        end = first
            .checked_add(u64::from(length))
            .ok_or(DecodeError::OutOfRange)?;
        ranges.push((MessageIndex(first), length));
    }
    Ok(ranges)
}

/// Appends `(index, count)` pairs, sorted by index, each index once.
pub(super) fn put_counts(counts: &[(MessageIndex, u32)], out: &mut Vec<u8>) {
    out.put_varint(counts.len() as u64);
    let mut next = 0;
    for &(index, count) in counts {
        assert!(index.0 >= next, "indexes are sorted and unique");
        out.put_varint(index.0 - next);
        out.put_varint(u64::from(count));
        next = index.0 + 1;
    }
}

/// Reads what [`put_counts`] wrote.
pub(super) fn read_counts(
    reader: &mut Reader<'_>,
) -> Result<Vec<(MessageIndex, u32)>, DecodeError> {
    let len = reader.varint()?;
    // Not reserved ahead, as above.
    let mut counts = Vec::new();
    let mut next = 0u64;
    for _ in 0..len {
        let index = next
            .checked_add(reader.varint()?)
            .filter(|index| *index < u64::MAX)
            .ok_or(DecodeError::OutOfRange)?;
        let count = u32::try_from(reader.varint()?).map_err(|_| DecodeError::OutOfRange)?;
        counts.push((MessageIndex(index), count));
        next = index + 1;
    }
    Ok(counts)
}
