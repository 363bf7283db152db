//! Byte layouts on disk, one file each. `docs/format.md` draws them; all integers are
//! little-endian. Encoding and decoding only: nothing here does I/O.

pub(crate) mod checkpoint;
pub(crate) mod chunk;
pub(crate) mod header;
pub(crate) mod record;
pub(crate) mod segment;

/// What a disk writes as one piece. Two syncs never share one.
pub(crate) const SECTOR_SIZE_BYTES: usize = 512;

/// Version of every layout, written into every file header.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Feature bits this version understands.
pub(crate) const FEATURES_KNOWN: u64 = 0;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Narrows a size that a configuration limit keeps far below 4 GiB.
pub(crate) fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("sizes within a container fit 32 bits")
}
