//! Sizes and limits of one log.

use crate::layout::{SECTOR_SIZE_BYTES, chunk::CHUNK_HEADER_SIZE_BYTES, record};

const MIB: u32 = 1024 * 1024;

/// Largest container a reference can address, in bytes (`docs/format.md`, references).
pub const CONTAINER_SIZE_BYTES_MAX: u32 = 128 * MIB;

/// Sizes and limits of one log. The sizes may change between two starts; what is on disk keeps
/// the size it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of a young file; a multiple of 512, at most [`CONTAINER_SIZE_BYTES_MAX`].
    pub file_size_bytes: u32,
    /// Closed young files kept before the oldest is due for retirement.
    pub young_files_max: usize,
    /// Zero-filled files kept ready ahead of the one being written. The last is the reserve for
    /// settlements when the disk is full.
    pub prepared_files: usize,
    /// Retired files and dead segments that wait before a checkpoint is asked for.
    pub retired_files_max: usize,
    /// Size at which an open chunk is sealed without waiting for the end of the drain.
    pub chunk_size_bytes_max: u32,
    /// Size of one write, unless a single chunk is larger.
    pub write_size_bytes_max: u32,
    /// Limit of [`crate::Store::cached_size_bytes`] at the start.
    pub cache_size_bytes: u64,
    /// Size at which a segment is ended and the next begun.
    pub segment_size_bytes_max: u32,
    /// Survivors a stream needs in one retirement to get segments of its own.
    pub own_segment_size_bytes_min: u64,
    /// Segments below `own_segment_size_bytes_min` that may exist before they are merged.
    pub small_segments_max: usize,
    /// Space kept in reserve for checkpoints on a full disk; 0 keeps none.
    pub ballast_size_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file_size_bytes: 64 * MIB,
            young_files_max: 4,
            prepared_files: 2,
            retired_files_max: 2,
            chunk_size_bytes_max: MIB,
            write_size_bytes_max: MIB,
            cache_size_bytes: 256 * u64::from(MIB),
            segment_size_bytes_max: 64 * MIB,
            own_segment_size_bytes_min: u64::from(MIB),
            small_segments_max: 32,
            ballast_size_bytes: 80 * u64::from(MIB),
        }
    }
}

impl Config {
    /// Everything small, so that tests meet every limit: files of 64 KiB.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            file_size_bytes: 64 * 1024,
            young_files_max: 2,
            prepared_files: 2,
            retired_files_max: 2,
            chunk_size_bytes_max: 8 * 1024,
            write_size_bytes_max: 16 * 1024,
            cache_size_bytes: 64 * 1024,
            segment_size_bytes_max: 32 * 1024,
            own_segment_size_bytes_min: 4 * 1024,
            small_segments_max: 4,
            ballast_size_bytes: 80 * 1024,
        }
    }

    /// Largest payload (stored form of a message, or control) a record may have.
    #[must_use]
    pub fn payload_size_bytes_max(&self) -> usize {
        let overhead = SECTOR_SIZE_BYTES + CHUNK_HEADER_SIZE_BYTES + record::HEADER_SIZE_BYTES;
        self.file_size_bytes as usize - overhead - SECTOR_SIZE_BYTES
    }

    pub(crate) fn assert_valid(&self) {
        assert!((self.file_size_bytes as usize).is_multiple_of(SECTOR_SIZE_BYTES));
        assert!(self.file_size_bytes as usize >= 8 * SECTOR_SIZE_BYTES);
        assert!(self.file_size_bytes <= CONTAINER_SIZE_BYTES_MAX);
        assert!(self.segment_size_bytes_max <= CONTAINER_SIZE_BYTES_MAX / 2);
        assert!(
            self.prepared_files >= 1,
            "the writer needs a file to roll to"
        );
        assert!(self.young_files_max >= 1 && self.retired_files_max >= 1);
    }
}
