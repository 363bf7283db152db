//! What can go wrong, by who must decide: the node ([`FatalDiskError`], [`BackgroundError`]), the
//! reader of a message ([`FetchFailed`]), or the operator ([`RecoverError`]).

use std::fmt;

use crate::disk::DiskError;
use crate::place::{ChunkId, Container};

/// A write, sync or rename on the log failed. The node must stop and send nothing that depends
/// on it; it is never tried again, because after a failed sync the kernel's cache lies.
#[derive(Debug, thiserror::Error)]
#[error("log can no longer be trusted: {0}")]
pub struct FatalDiskError(#[from] pub DiskError);

/// Why a [`crate::Background`] job could not be done. Both stop the node.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// The disk failed, and not for lack of space.
    #[error("log can no longer be trusted: {0}")]
    Disk(#[from] DiskError),
    /// A record that had to be moved is damaged.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Bytes on disk are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at byte {offset}: {cause}")]
pub struct Damage {
    /// File name within the data directory.
    pub file: String,
    /// Byte offset in it.
    pub offset: u64,
    /// What is wrong there.
    pub cause: DamageCause,
}

impl Damage {
    pub(crate) fn new(file: &str, offset: u64, cause: DamageCause) -> Self {
        Self {
            file: file.to_owned(),
            offset,
            cause,
        }
    }
}

/// What is wrong with a record or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageCause {
    /// It does not start with the magic bytes of its kind.
    Magic,
    /// The checksum, seeded with the identity, does not match.
    Checksum,
    /// A length or count points outside, or disagrees with another.
    Size,
    /// It is a valid record, but another one than was asked for.
    Identity,
    /// The file ends too early or is not there.
    Missing,
    /// The log ends before this point, though it was persisted further.
    Truncated,
}

impl fmt::Display for DamageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "wrong magic bytes",
            Self::Checksum => "wrong checksum",
            Self::Size => "impossible size",
            Self::Identity => "another record than expected",
            Self::Missing => "bytes are missing",
            Self::Truncated => "persisted chunks are missing",
        })
    }
}

/// A fetch did not bring its records. Hand it to [`crate::Store::handle_fetch_failed`].
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct FetchFailed {
    /// Why.
    #[source]
    pub cause: FetchError,
    /// Bytes that were asked for.
    pub size_bytes: usize,
    pub(crate) pins: Vec<Container>,
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk could not read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was read is damaged.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Why a data directory cannot be opened. Nothing in it has been modified.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Persisted bytes are damaged or gone.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Written by a newer version of Staunch.
    #[error("{file} has format version {version} and feature bits {features:#x}, newer than this")]
    Unsupported {
        /// File name within the data directory.
        file: String,
        /// Its version.
        version: u32,
        /// Its feature bits.
        features: u64,
    },
}

/// Something recovery met that is no error but should be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The last write was torn by a crash; nothing in it was confirmed, and it was cut off.
    TailCut {
        /// File it was in.
        file: String,
        /// Where the cut is.
        offset: u64,
        /// Last chunk that was kept.
        kept: ChunkId,
        /// What ended the log there.
        cause: DamageCause,
    },
    /// A file nothing refers to (left by a crash) was removed.
    OrphanRemoved {
        /// Its name.
        file: String,
    },
    /// The log is damaged: it was set aside, and another begun.
    LogGivenUp(Damage),
    /// A segment is damaged: its messages are missing, and the file is set aside.
    SegmentLost(Damage),
    /// A file that is not the log's was left alone.
    ForeignFile {
        /// Its name.
        file: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TailCut {
                file,
                offset,
                kept,
                cause,
            } => {
                write!(
                    f,
                    "cut unconfirmed tail of {file} at byte {offset}, chunk {kept}: {cause}"
                )
            }
            Self::LogGivenUp(damage) => write!(f, "set the whole log aside: {damage}"),
            Self::SegmentLost(damage) => write!(f, "went on without a segment: {damage}"),
            Self::OrphanRemoved { file } => write!(f, "removed orphan {file}"),
            Self::ForeignFile { file } => write!(f, "left foreign file {file} alone"),
        }
    }
}
