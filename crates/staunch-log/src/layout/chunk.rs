//! A chunk: what one drain of the node appended, starting on a sector of its own.
//!
//! ```text
//! 0       4     8    16         24          32     36      40        44
//! ┌───────┬─────┬────┬──────────┬───────────┬──────┬───────┬─────────┬──────────┬─────────┐
//! │ magic │ crc │ id │ previous │ persisted │ size │ count │ version │ 0 (20 B) │ records │
//! └───────┴─────┴────┴──────────┴───────────┴──────┴───────┴─────────┴──────────┴─────────┘
//! ```
//!
//! `previous` chains chunks across files, so that a missing one is noticed. `persisted` is the
//! last chunk known to be synced when this one was written: everything up to it must be whole.

use crate::error::DamageCause;
use crate::layout::{SECTOR_SIZE_BYTES, put_u32, put_u64, u32_at, u64_at};
use crate::place::ChunkId;

pub(crate) const CHUNK_HEADER_SIZE_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"SCHK";
const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    pub(crate) id: ChunkId,
    pub(crate) previous: ChunkId,
    pub(crate) persisted: ChunkId,
    /// Size of all records with their padding, without header and sector padding.
    pub(crate) records_size_bytes: u32,
    pub(crate) record_count: u32,
}

/// Bytes a chunk takes in its file.
pub(crate) fn size_on_disk(records_size: usize) -> usize {
    (CHUNK_HEADER_SIZE_BYTES + records_size).next_multiple_of(SECTOR_SIZE_BYTES)
}

impl ChunkHeader {
    pub(crate) fn encode(&self, seed: u32, offset: u32) -> [u8; CHUNK_HEADER_SIZE_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_SIZE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        put_u64(&mut bytes, 8, self.id.0);
        put_u64(&mut bytes, 16, self.previous.0);
        put_u64(&mut bytes, 24, self.persisted.0);
        put_u32(&mut bytes, 32, self.records_size_bytes);
        put_u32(&mut bytes, 36, self.record_count);
        put_u32(&mut bytes, 40, VERSION);
        let crc = crc32c::crc32c_append(seed ^ offset >> 3, &bytes[8..]);
        put_u32(&mut bytes, 4, crc);
        bytes
    }

    /// Reads and verifies the header `bytes` start with, found at `offset` of its file.
    pub(crate) fn read(bytes: &[u8], seed: u32, offset: u32) -> Result<Self, DamageCause> {
        let Some(bytes) = bytes.first_chunk::<CHUNK_HEADER_SIZE_BYTES>() else {
            return Err(DamageCause::Missing);
        };
        if bytes[..4] != MAGIC {
            return Err(DamageCause::Magic);
        }
        if crc32c::crc32c_append(seed ^ offset >> 3, &bytes[8..]) != u32_at(bytes, 4) {
            return Err(DamageCause::Checksum);
        }
        if u32_at(bytes, 40) != VERSION {
            return Err(DamageCause::Identity);
        }
        if u64_at(bytes, 8) > ChunkId::FOUND_MAX.0 {
            return Err(DamageCause::Identity);
        }
        Ok(Self {
            id: ChunkId(u64_at(bytes, 8)),
            previous: ChunkId(u64_at(bytes, 16)),
            persisted: ChunkId(u64_at(bytes, 24)),
            records_size_bytes: u32_at(bytes, 32),
            record_count: u32_at(bytes, 36),
        })
    }
}
