//! Real files in one directory, open to this process alone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskError, DiskFile, Operation};
use crate::name;

/// Bytes of zeros written, and synced, at a time: short enough that a sync of the log's writer
/// does not wait long behind them.
const ZEROS_SIZE_BYTES: usize = 4 * 1024 * 1024;

/// Most parts one `pwritev` takes (`IOV_MAX` on Linux).
const PARTS_MAX: usize = 1024;

/// A data directory on a real disk. It stays locked while a clone lives.
#[derive(Clone, Debug)]
pub struct RealDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    directory: File,
    /// Holds the lock for as long as it is open.
    _lock: File,
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    name: String,
}

impl RealDisk {
    /// Opens a data directory, makes it (mode 0700) if it is not there, and locks it.
    ///
    /// # Errors
    /// [`DiskError`]; of kind `ResourceBusy` when another process has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        let path = path.as_ref().to_owned();
        let shown = path.display().to_string();
        let failed = |source| DiskError::new(Operation::OpenDirectory, &shown, source);
        make_directory(&path).map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        let lock = options()
            .create(true)
            .truncate(false)
            .open(path.join(name::LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let busy = "another process has this data directory open";
                return Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, busy)));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                directory,
                _lock: lock,
            }),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn at(&self, name: &str) -> PathBuf {
        self.inner.path.join(name)
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, name: &str, size_bytes: u64) -> Result<RealFile, DiskError> {
        let failed = |source| DiskError::new(Operation::Create, name, source);
        let file = options()
            .create(true)
            .truncate(true)
            .open(self.at(name))
            .map_err(failed)?;
        if size_bytes > 0 {
            if let Err(error) = fill_with_zeros(&file, size_bytes) {
                // The failure matters more than whether the rest could be removed.
                drop(fs::remove_file(self.at(name)));
                return Err(failed(error));
            }
            self.sync_directory()?;
        }
        Ok(RealFile {
            file,
            name: name.to_owned(),
        })
    }

    fn open(&self, name: &str) -> Result<RealFile, DiskError> {
        let file = options().open(self.at(name));
        let file = file.map_err(|source| DiskError::new(Operation::Open, name, source))?;
        Ok(RealFile {
            file,
            name: name.to_owned(),
        })
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let shown = self.inner.path.display().to_string();
        let failed = |source| DiskError::new(Operation::List, &shown, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.path).map_err(failed)? {
            // A name that is not UTF-8 is not one of ours either way.
            names.push(
                entry
                    .map_err(failed)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        fs::remove_file(self.at(name))
            .map_err(|source| DiskError::new(Operation::Remove, name, source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::rename(self.at(from), self.at(to))
            .map_err(|source| DiskError::new(Operation::Rename, from, source))
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        self.inner.directory.sync_all().map_err(|source| {
            let shown = self.inner.path.display().to_string();
            DiskError::new(Operation::SyncDirectory, &shown, source)
        })
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let facts = rustix::fs::fstatvfs(&self.inner.directory).map_err(|errno| {
            let shown = self.inner.path.display().to_string();
            DiskError::new(Operation::FreeBytes, &shown, errno.into())
        })?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        write_all_at(&self.file, offset, parts)
            .map_err(|source| DiskError::new(Operation::Write, &self.name, source))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|source| DiskError::new(Operation::Read, &self.name, source))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file
            .sync_data()
            .map_err(|source| DiskError::new(Operation::Sync, &self.name, source))
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        let facts = self.file.metadata();
        facts
            .map(|facts| facts.len())
            .map_err(|source| DiskError::new(Operation::Size, &self.name, source))
    }

    fn set_size(&self, size_bytes: u64) -> Result<(), DiskError> {
        self.file
            .set_len(size_bytes)
            .map_err(|source| DiskError::new(Operation::SetSize, &self.name, source))
    }
}

/// Makes the directory if it is not there, and its name durable in its parent.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Writes every part; the system may take only some at a time.
fn write_all_at(file: &File, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
    let mut parts = parts.to_vec();
    let mut rest = parts.as_mut_slice();
    while !rest.is_empty() {
        let taken = rest.len().min(PARTS_MAX);
        match rustix::io::pwritev(file, &rest[..taken], offset) {
            Ok(0) if rest[..taken].iter().any(|part| !part.is_empty()) => {
                return Err(io::ErrorKind::WriteZero.into());
            }
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Really writes zeros: space that is only reserved costs a metadata change, and so six times the
/// time, at the first sync of each batch.
fn fill_with_zeros(file: &File, size_bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size_bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno.into()),
    }
    let zeros = vec![0; ZEROS_SIZE_BYTES];
    let mut offset = 0;
    while offset < size_bytes {
        let size = usize::try_from(size_bytes - offset).map_or(zeros.len(), |s| s.min(zeros.len()));
        file.write_all_at(&zeros[..size], offset)?;
        file.sync_data()?;
        offset += size as u64;
    }
    file.sync_all()
}
