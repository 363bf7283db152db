//! A segment: header, records grouped by stream, footer, trailer. Immutable once it has its name.
//!
//! ```text
//! ┌───────────┬─────────┬────────┬──────────────┐
//! │ header 64 │ records │ footer │ trailer 64   │
//! └───────────┴─────────┴────────┴──────────────┘
//! footer, per stream:   stream u64 · count u32 · 0 u32, then per record
//!                       index u64 · offset / 8 u32 · size u32 · meta 16 B
//! trailer:  0       8    16              24            32        36      40         44    60
//!           ┌───────┬────┬───────────────┬─────────────┬─────────┬───────┬──────────┬──────┬─────┐
//!           │ magic │ id │ footer offset │ footer size │ records │ groups│footer crc│  0   │ crc │
//!           └───────┴────┴───────────────┴─────────────┴─────────┴───────┴──────────┴──────┴─────┘
//! ```

use staunch_types::BodyRef;

use crate::error::DamageCause;
use crate::layout::record::RecordMeta;
use crate::layout::{put_u32, put_u64, u32_at, u64_at};
use crate::place::{Container, Place, SegmentId, StreamId};

pub(crate) const TRAILER_SIZE_BYTES: usize = 64;
pub(crate) const GROUP_SIZE_BYTES: usize = 16;
pub(crate) const ENTRY_SIZE_BYTES: usize = 32;
const TRAILER_MAGIC: [u8; 8] = *b"STNSGEND";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) id: SegmentId,
    pub(crate) footer_offset: u64,
    pub(crate) footer_size_bytes: u64,
    pub(crate) record_count: u32,
    pub(crate) group_count: u32,
    pub(crate) footer_crc: u32,
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; TRAILER_SIZE_BYTES] {
        let mut bytes = [0; TRAILER_SIZE_BYTES];
        bytes[..8].copy_from_slice(&TRAILER_MAGIC);
        put_u64(&mut bytes, 8, self.id.0);
        put_u64(&mut bytes, 16, self.footer_offset);
        put_u64(&mut bytes, 24, self.footer_size_bytes);
        put_u32(&mut bytes, 32, self.record_count);
        put_u32(&mut bytes, 36, self.group_count);
        put_u32(&mut bytes, 40, self.footer_crc);
        let crc = crc32c::crc32c(&bytes[..60]);
        put_u32(&mut bytes, 60, crc);
        bytes
    }

    pub(crate) fn read(bytes: &[u8; TRAILER_SIZE_BYTES]) -> Result<Self, DamageCause> {
        if bytes[..8] != TRAILER_MAGIC {
            return Err(DamageCause::Magic);
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(DamageCause::Checksum);
        }
        Ok(Self {
            id: SegmentId(u64_at(bytes, 8)),
            footer_offset: u64_at(bytes, 16),
            footer_size_bytes: u64_at(bytes, 24),
            record_count: u32_at(bytes, 32),
            group_count: u32_at(bytes, 36),
            footer_crc: u32_at(bytes, 40),
        })
    }
}

/// One line of the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) offset: u32,
    pub(crate) size_bytes: u32,
    pub(crate) meta: RecordMeta,
}

impl Entry {
    pub(crate) fn body(&self, segment: SegmentId) -> BodyRef {
        Place {
            container: Container::Segment(segment),
            offset: self.offset,
        }
        .pack()
    }
}

pub(crate) fn put_group(out: &mut Vec<u8>, stream: StreamId, entries: &[Entry]) {
    out.extend_from_slice(&stream.0.to_le_bytes());
    out.extend_from_slice(&super::narrow(entries.len()).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for entry in entries {
        out.extend_from_slice(&entry.index.to_le_bytes());
        out.extend_from_slice(&(entry.offset >> 3).to_le_bytes());
        out.extend_from_slice(&entry.size_bytes.to_le_bytes());
        out.extend_from_slice(&entry.meta.0);
    }
}

/// Walks a verified footer.
#[derive(Debug)]
pub(crate) struct Footer {
    bytes: Vec<u8>,
    at: usize,
    stream: StreamId,
    left_in_group: u32,
}

impl Footer {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            at: 0,
            stream: StreamId::CATALOG,
            left_in_group: 0,
        }
    }

    /// Next entry with its stream; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(StreamId, Entry)>, DamageCause> {
        while self.left_in_group == 0 {
            let rest = &self.bytes[self.at..];
            if rest.is_empty() {
                return Ok(None);
            }
            if rest.len() < GROUP_SIZE_BYTES {
                return Err(DamageCause::Size);
            }
            (self.stream, self.left_in_group) = (StreamId(u64_at(rest, 0)), u32_at(rest, 8));
            self.at += GROUP_SIZE_BYTES;
        }
        let rest = &self.bytes[self.at..];
        if rest.len() < ENTRY_SIZE_BYTES {
            return Err(DamageCause::Size);
        }
        self.at += ENTRY_SIZE_BYTES;
        self.left_in_group -= 1;
        let offset = u32_at(rest, 8);
        if offset >= 1 << 24 {
            return Err(DamageCause::Size);
        }
        let meta = RecordMeta(rest[16..32].try_into().expect("sixteen bytes"));
        let entry = Entry {
            index: u64_at(rest, 0),
            offset: offset << 3,
            size_bytes: u32_at(rest, 12),
            meta,
        };
        Ok(Some((self.stream, entry)))
    }
}
