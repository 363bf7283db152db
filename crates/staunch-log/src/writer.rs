//! The worker whose success is what a confirm promises.

use std::io::IoSlice;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::FatalDiskError;
use crate::job::{WriteDone, WriteJob};
use crate::name;
use crate::place::FileId;

/// Writes chunks and syncs them, one job at a time, in the order they were handed out.
///
/// It never makes, renames or extends a file: the background worker has made each one before a
/// job names it. So a write needs no space and a sync no metadata.
#[derive(Debug)]
pub struct Writer<D: Disk> {
    disk: D,
    current: Option<(FileId, D::File)>,
}

impl<D: Disk> Writer<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self {
            disk,
            current: None,
        }
    }

    /// Writes one job's chunks and syncs the file.
    ///
    /// # Errors
    /// [`FatalDiskError`]: the node must stop. Nothing is tried again.
    pub fn run(&mut self, job: WriteJob) -> Result<WriteDone, FatalDiskError> {
        let WriteJob {
            file,
            offset,
            chunks,
            last,
            size_bytes,
        } = job;
        let file = self.file(file)?;
        let mut parts = Vec::with_capacity(chunks.len() * 2);
        for chunk in &chunks {
            parts.push(IoSlice::new(&chunk.header));
            parts.push(IoSlice::new(&chunk.data));
        }
        file.write_at(u64::from(offset), &parts)?;
        file.sync_data()?;
        Ok(WriteDone { last, size_bytes })
    }

    fn file(&mut self, id: FileId) -> Result<&D::File, DiskError> {
        if self
            .current
            .as_ref()
            .is_none_or(|(current, _)| *current != id)
        {
            self.current = Some((id, self.disk.open(&name::young(id))?));
        }
        let (_, file) = self.current.as_ref().expect("it was just opened");
        Ok(file)
    }
}
