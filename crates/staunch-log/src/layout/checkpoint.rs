//! A checkpoint: which files make up the log, and the node's state. Written whole, then renamed.
//!
//! ```text
//! 0           64        72          80          88            96          104
//! ┌───────────┬─────────┬───────────┬───────────┬─────────────┬───────────┬──────────────┐
//! │ header 64 │ covered │ persisted │ file first│ follows     │ file next │ segment next │
//! ├───────────┼─────────┼───────────┼───────────┴─┬─────────┬─┴───────────┴──────────────┘
//! │ count u32 │ 0 u32   │ state size│ segments    │ state   │ crc of all after the header │
//! └───────────┴─────────┴───────────┴─────────────┴─────────┴
//! 112         116       120         128           +24·count  +state size
//! segment:  id u64 · size u64 · records u32 · footer crc u32
//! ```

use crate::error::DamageCause;
use crate::layout::header::FILE_HEADER_SIZE_BYTES;
use crate::layout::{narrow, put_u32, put_u64, u32_at, u64_at};
use crate::place::{ChunkId, FileId, NUMBER_FOUND_MAX, SegmentId};

const FIXED_SIZE_BYTES: usize = 64;
const SEGMENT_SIZE_BYTES: usize = 24;

/// Everything in a checkpoint but the node's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckpointImage {
    /// The state reflects every record up to the end of this chunk.
    pub(crate) covered: ChunkId,
    /// Last chunk known to be synced.
    pub(crate) persisted: ChunkId,
    /// Replay starts with this young file.
    pub(crate) file_first: FileId,
    /// Last chunk before that file.
    pub(crate) follows: ChunkId,
    /// Young file and segment numbers below these have been given out.
    pub(crate) file_next: FileId,
    pub(crate) segment_next: SegmentId,
    pub(crate) segments: Vec<SegmentListed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentListed {
    pub(crate) id: SegmentId,
    pub(crate) size_bytes: u64,
    pub(crate) record_count: u32,
    pub(crate) footer_crc: u32,
}

impl CheckpointImage {
    /// What lies between the file header and the state.
    pub(crate) fn encode(&self, state_size: usize) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_SIZE_BYTES];
        put_u64(&mut bytes, 0, self.covered.0);
        put_u64(&mut bytes, 8, self.persisted.0);
        put_u64(&mut bytes, 16, self.file_first.0);
        put_u64(&mut bytes, 24, self.follows.0);
        put_u64(&mut bytes, 32, self.file_next.0);
        put_u64(&mut bytes, 40, self.segment_next.0);
        put_u32(&mut bytes, 48, narrow(self.segments.len()));
        put_u64(&mut bytes, 56, state_size as u64);
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.id.0.to_le_bytes());
            bytes.extend_from_slice(&segment.size_bytes.to_le_bytes());
            bytes.extend_from_slice(&segment.record_count.to_le_bytes());
            bytes.extend_from_slice(&segment.footer_crc.to_le_bytes());
        }
        bytes
    }

    /// Reads a whole file's bytes after the header; gives the image and where in `bytes` the
    /// state is.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, std::ops::Range<usize>), DamageCause> {
        let Some(content_size) = bytes
            .len()
            .checked_sub(4)
            .filter(|s| *s >= FIXED_SIZE_BYTES)
        else {
            return Err(DamageCause::Missing);
        };
        let (content, crc) = bytes.split_at(content_size);
        if crc32c::crc32c(content) != u32_at(crc, 0) {
            return Err(DamageCause::Checksum);
        }
        let count = u32_at(content, 48) as usize;
        let state_start = FIXED_SIZE_BYTES + count * SEGMENT_SIZE_BYTES;
        let state_size = usize::try_from(u64_at(content, 56)).map_err(|_| DamageCause::Size)?;
        if state_start.checked_add(state_size) != Some(content_size) {
            return Err(DamageCause::Size);
        }
        let segments = content[FIXED_SIZE_BYTES..state_start].chunks_exact(SEGMENT_SIZE_BYTES);
        let image = Self {
            covered: ChunkId(u64_at(content, 0)),
            persisted: ChunkId(u64_at(content, 8)),
            file_first: FileId(u64_at(content, 16)),
            follows: ChunkId(u64_at(content, 24)),
            file_next: FileId(u64_at(content, 32)),
            segment_next: SegmentId(u64_at(content, 40)),
            segments: segments.map(SegmentListed::read).collect(),
        };
        let chunks = [image.covered, image.persisted, image.follows];
        let numbers = [image.file_first.0, image.file_next.0, image.segment_next.0];
        let listed = image.segments.iter().map(|segment| segment.id.0);
        if chunks.iter().any(|chunk| *chunk > ChunkId::FOUND_MAX)
            || numbers
                .into_iter()
                .chain(listed)
                .any(|it| it > NUMBER_FOUND_MAX)
        {
            return Err(DamageCause::Identity);
        }
        Ok((image, state_start..content_size))
    }

    /// Where the content starts in the file.
    pub(crate) const OFFSET: usize = FILE_HEADER_SIZE_BYTES;
}

impl SegmentListed {
    fn read(bytes: &[u8]) -> Self {
        Self {
            id: SegmentId(u64_at(bytes, 0)),
            size_bytes: u64_at(bytes, 8),
            record_count: u32_at(bytes, 16),
            footer_crc: u32_at(bytes, 20),
        }
    }
}
