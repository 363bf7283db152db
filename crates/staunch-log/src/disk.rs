//! The disk as the log sees it: one flat directory of files.
//!
//! Everything blocking in this crate goes through these two traits, so that the simulator can put
//! a disk under it that loses, tears and refuses. `std::fs` appears nowhere else.

use std::fmt;
use std::io::{self, IoSlice};

pub mod memory;
pub mod real;

/// One data directory.
pub trait Disk: fmt::Debug + Clone + Send + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a file of `size_bytes` zero bytes that are really written, so that later syncs need
    /// no metadata. With a size above 0 file and directory are synced on return; with size 0
    /// neither is. An existing file of that name is replaced.
    ///
    /// # Errors
    /// [`DiskError`]; the half-made file is removed if that is possible.
    fn create(&self, name: &str, size_bytes: u64) -> Result<Self::File, DiskError>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// [`DiskError`]
    fn open(&self, name: &str) -> Result<Self::File, DiskError>;

    /// Names of all files, in order.
    ///
    /// # Errors
    /// [`DiskError`]
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Removes a file; durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// [`DiskError`]
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Renames a file over whatever had that name; durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// [`DiskError`]
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// [`DiskError`]
    fn sync_directory(&self) -> Result<(), DiskError>;

    /// Bytes an unprivileged writer may still take.
    ///
    /// # Errors
    /// [`DiskError`]
    fn free_bytes(&self) -> Result<u64, DiskError>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: fmt::Debug + Send + 'static {
    /// Writes all parts one after the other from `offset` on.
    ///
    /// # Errors
    /// [`DiskError`]; any part may have been written.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// [`DiskError`], of kind `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Makes the content durable (`fdatasync`). After an error nothing is known about what was
    /// written since the last success; it must never be tried again on the same file.
    ///
    /// # Errors
    /// [`DiskError`]
    fn sync_data(&self) -> Result<(), DiskError>;

    /// Current size.
    ///
    /// # Errors
    /// [`DiskError`]
    fn size_bytes(&self) -> Result<u64, DiskError>;

    /// Cuts or extends with zeros.
    ///
    /// # Errors
    /// [`DiskError`]
    fn set_size(&self, size_bytes: u64) -> Result<(), DiskError>;
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Open the directory and lock it.
    OpenDirectory,
    /// [`Disk::create`]
    Create,
    /// [`Disk::open`]
    Open,
    /// [`Disk::list`]
    List,
    /// [`Disk::remove`]
    Remove,
    /// [`Disk::rename`]
    Rename,
    /// [`Disk::sync_directory`]
    SyncDirectory,
    /// [`Disk::free_bytes`]
    FreeBytes,
    /// [`DiskFile::write_at`]
    Write,
    /// [`DiskFile::read_at`]
    Read,
    /// [`DiskFile::sync_data`]
    Sync,
    /// [`DiskFile::size_bytes`]
    Size,
    /// [`DiskFile::set_size`]
    SetSize,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenDirectory => "open directory",
            Self::Create => "create",
            Self::Open => "open",
            Self::List => "list",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::SyncDirectory => "sync directory",
            Self::FreeBytes => "statvfs",
            Self::Write => "write",
            Self::Read => "read",
            Self::Sync => "fdatasync",
            Self::Size => "stat",
            Self::SetSize => "ftruncate",
        })
    }
}

/// A disk operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of {file} failed: {cause}")]
pub struct DiskError {
    /// What was being done.
    pub operation: Operation,
    /// To which file (name within the data directory) or directory.
    pub file: String,
    /// What the system said.
    pub cause: io::Error,
}

impl DiskError {
    /// An error of `operation` on `file`.
    pub fn new(operation: Operation, file: &str, cause: io::Error) -> Self {
        Self {
            operation,
            file: file.to_owned(),
            cause,
        }
    }

    /// Whether there was no room (ENOSPC, EDQUOT).
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }
}
