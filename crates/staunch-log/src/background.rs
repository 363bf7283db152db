//! The worker for everything that must not delay a confirm: making files ahead, tenures,
//! checkpoints, removals.
//!
//! Unlike the writer it may meet a full disk, and that is not fatal: half-made files are removed,
//! the job's end is reported as "no space", and the store asks again later. Every other failure
//! stops the node, like a failed sync of the writer.

mod tenure;

use std::io::IoSlice;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::BackgroundError;
use crate::job::{
    BackgroundDone, BackgroundJob, BackgroundResult, BackgroundWork, Ballast, CheckpointPlan,
    CleanPlan, JobKind,
};
use crate::layout::header::{self, FileKind};
use crate::name;
use crate::place::{Container, FileId};

/// Bytes written between two syncs of a long copy, so that a sync of the writer's never waits
/// behind more than this.
pub(crate) const COPY_SIZE_BYTES: usize = 1024 * 1024;

/// Runs background jobs, in the order they were handed out.
#[derive(Debug)]
pub struct Background<D: Disk> {
    disk: D,
}

impl<D: Disk> Background<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self { disk }
    }

    /// Runs one job. A full disk ends it with [`BackgroundDone::is_no_space`].
    ///
    /// # Errors
    /// [`BackgroundError`]: the node must stop.
    pub fn run(&mut self, job: BackgroundJob) -> Result<BackgroundDone, BackgroundError> {
        let BackgroundJob(work) = job;
        let mut ballast_given_up = false;
        let mut result = self.attempt(&work);
        if matches!(&result, Err(error) if is_no_space(error)) && may_give_up_ballast(&work) {
            ballast_given_up = self.give_up_ballast()?;
            if ballast_given_up {
                result = self.attempt(&work);
            }
        }
        let result = match result {
            Err(error) if is_no_space(&error) => BackgroundResult::NoSpace(kind(&work)),
            other => other?,
        };
        Ok(BackgroundDone {
            result,
            ballast_given_up,
        })
    }

    fn attempt(&mut self, work: &BackgroundWork) -> Result<BackgroundResult, BackgroundError> {
        Ok(match work {
            BackgroundWork::Prepare {
                file,
                spare,
                size_bytes,
                ballast: _,
            } => {
                self.prepare((*file, FileId(file.0 - 1)), *spare, *size_bytes)?;
                BackgroundResult::Prepared {
                    file: *file,
                    spare: *spare,
                }
            }
            BackgroundWork::Tenure(plan) => self.run_tenure(plan)?,
            BackgroundWork::Checkpoint(plan) => {
                self.write_checkpoint(plan)?;
                BackgroundResult::Checkpointed {
                    number: plan.number,
                }
            }
            BackgroundWork::Clean(plan) => {
                let recycled = self.clean(plan)?;
                BackgroundResult::Cleaned { recycled }
            }
            BackgroundWork::MakeBallast { size_bytes } => {
                let temp = name::temp(name::BALLAST);
                self.disk.create(&temp, *size_bytes)?;
                self.publish(&temp, name::BALLAST)?;
                BackgroundResult::BallastMade
            }
        })
    }

    /// Makes `young-N` ready: content first, then the header, then the name, each durable before
    /// the next, so that a file of that name always has a whole header, and no chunk seeded with
    /// its number can be older than it.
    pub(crate) fn prepare(
        &mut self,
        (file, predecessor): (FileId, FileId),
        spare: Option<FileId>,
        size_bytes: u32,
    ) -> Result<(), DiskError> {
        let made = name::young(file);
        let (source, handle) = if let Some(found) = self.open_spare(spare, size_bytes)? {
            found
        } else {
            let temp = name::temp(&made);
            let handle = self.disk.create(&temp, u64::from(size_bytes))?;
            (temp, handle)
        };
        let header = header::encode(FileKind::Young, file.0, predecessor.0);
        handle.write_at(0, &[IoSlice::new(&header)])?;
        handle.sync_data()?;
        self.publish(&source, &made)
    }

    /// A spare of another size (the configuration changed) is removed instead of used.
    fn open_spare(
        &mut self,
        spare: Option<FileId>,
        size_bytes: u32,
    ) -> Result<Option<(String, D::File)>, DiskError> {
        let Some(spare) = spare else { return Ok(None) };
        let spare = name::spare(spare);
        let handle = self.disk.open(&spare)?;
        if handle.size_bytes()? == u64::from(size_bytes) {
            return Ok(Some((spare, handle)));
        }
        self.disk.remove(&spare)?;
        Ok(None)
    }

    pub(crate) fn write_checkpoint(&mut self, plan: &CheckpointPlan) -> Result<(), DiskError> {
        let made = name::checkpoint(plan.number);
        let temp = name::temp(&made);
        let header = header::encode(FileKind::Checkpoint, plan.number, 0);
        let image = plan.image.encode(plan.state.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&image), &plan.state).to_le_bytes();
        let file = self.disk.create(&temp, 0)?;
        let parts: [&[u8]; 4] = [&header, &image, &plan.state, &crc];
        let written = file
            .write_at(0, &parts.map(IoSlice::new))
            .and_then(|()| file.sync_data());
        self.or_remove(&temp, written)?;
        self.publish(&temp, &made)?;
        if let Some(previous) = plan.previous {
            self.disk.remove(&name::checkpoint(previous))?;
        }
        Ok(())
    }

    /// Gives files back; returns those that became spares. On a disk so full that even that fails
    /// a file may stay behind: nothing refers to it, and the next recovery clears it away.
    fn clean(&mut self, plan: &CleanPlan) -> Result<Vec<FileId>, DiskError> {
        let mut recycled = Vec::new();
        for file in &plan.recycle {
            let young = Container::Young(*file).file_name();
            match self.disk.rename(&young, &name::spare(*file)) {
                Ok(()) => recycled.push(*file),
                Err(error) if error.is_no_space() => unless_no_space(self.disk.remove(&young))?,
                Err(error) => return Err(error),
            }
        }
        for file in &plan.remove {
            unless_no_space(self.disk.remove(file))?;
        }
        unless_no_space(self.disk.sync_directory())?;
        Ok(recycled)
    }

    /// Gives a finished file its real name, durably.
    fn publish(&mut self, temp: &str, name: &str) -> Result<(), DiskError> {
        self.disk.rename(temp, name)?;
        self.disk.sync_directory()
    }

    /// On failure removes what was begun, to give its space back. The failure itself matters
    /// more than whether that worked: recovery removes it too.
    fn or_remove<T>(&mut self, temp: &str, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if result.is_err() {
            drop(self.disk.remove(temp));
        }
        result
    }

    fn give_up_ballast(&mut self) -> Result<bool, DiskError> {
        match self.disk.remove(name::BALLAST) {
            Ok(()) => {
                self.disk.sync_directory()?;
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn unless_no_space(result: Result<(), DiskError>) -> Result<(), DiskError> {
    match result {
        Err(error) if error.is_no_space() => Ok(()),
        other => other,
    }
}

fn is_no_space(error: &BackgroundError) -> bool {
    match error {
        BackgroundError::Disk(error) => error.is_no_space(),
        BackgroundError::Damage(_) => false,
    }
}

fn may_give_up_ballast(work: &BackgroundWork) -> bool {
    match work {
        BackgroundWork::Prepare { ballast, .. } => *ballast == Ballast::MayGiveUp,
        BackgroundWork::Checkpoint(_) => true,
        BackgroundWork::Tenure(_)
        | BackgroundWork::Clean(_)
        | BackgroundWork::MakeBallast { .. } => false,
    }
}

fn kind(work: &BackgroundWork) -> JobKind {
    match work {
        BackgroundWork::Prepare { .. } => JobKind::Prepare,
        BackgroundWork::Tenure(_) => JobKind::Tenure,
        BackgroundWork::Checkpoint(_) => JobKind::Checkpoint,
        BackgroundWork::Clean(_) => JobKind::Clean,
        BackgroundWork::MakeBallast { .. } => JobKind::MakeBallast,
    }
}
