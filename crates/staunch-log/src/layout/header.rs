//! The header every file starts with: 64 bytes whose layout never changes, so that any version
//! can tell a damaged file from a newer one.
//!
//! ```text
//! 0       8         12     16         24       32            40         60
//! ┌───────┬─────────┬──────┬──────────┬────────┬─────────────┬──────────┬──────────┐
//! │ magic │ version │  0   │ features │ number │ predecessor │ 0 (20 B) │ crc 0–60 │
//! └───────┴─────────┴──────┴──────────┴────────┴─────────────┴──────────┴──────────┘
//! ```
//!
//! The predecessor is the young file before this one, so that a file that has vanished is missed
//! even if it was the last with anything in it. It is 0 in other kinds.

use crate::error::{Damage, DamageCause, RecoverError};
use crate::layout::{FEATURES_KNOWN, FORMAT_VERSION, put_u32, put_u64, u32_at, u64_at};

pub(crate) const FILE_HEADER_SIZE_BYTES: usize = 64;

/// Kinds of files, by magic bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Young,
    Segment,
    Checkpoint,
}

impl FileKind {
    fn magic(self) -> [u8; 8] {
        match self {
            Self::Young => *b"STNYOUNG",
            Self::Segment => *b"STNSEGMT",
            Self::Checkpoint => *b"STNCHKPT",
        }
    }
}

pub(crate) fn encode(
    kind: FileKind,
    number: u64,
    predecessor: u64,
) -> [u8; FILE_HEADER_SIZE_BYTES] {
    let mut bytes = [0; FILE_HEADER_SIZE_BYTES];
    bytes[..8].copy_from_slice(&kind.magic());
    put_u32(&mut bytes, 8, FORMAT_VERSION);
    put_u64(&mut bytes, 24, number);
    put_u64(&mut bytes, 32, predecessor);
    let crc = crc32c::crc32c(&bytes[..60]);
    put_u32(&mut bytes, 60, crc);
    bytes
}

/// Checks that `bytes` are the header of file `name`, of this kind and number. Gives the
/// predecessor.
pub(crate) fn check(
    bytes: &[u8; FILE_HEADER_SIZE_BYTES],
    kind: FileKind,
    number: u64,
    name: &str,
) -> Result<u64, RecoverError> {
    let damage = |offset, cause| RecoverError::Damage(Damage::new(name, offset, cause));
    if bytes[..8] != kind.magic() {
        return Err(damage(0, DamageCause::Magic));
    }
    if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
        return Err(damage(60, DamageCause::Checksum));
    }
    let (version, features) = (u32_at(bytes, 8), u64_at(bytes, 16));
    if version != FORMAT_VERSION || features & !FEATURES_KNOWN != 0 {
        return Err(RecoverError::Unsupported {
            file: name.to_owned(),
            version,
            features,
        });
    }
    if u64_at(bytes, 24) != number {
        return Err(damage(24, DamageCause::Identity));
    }
    Ok(u64_at(bytes, 32))
}
