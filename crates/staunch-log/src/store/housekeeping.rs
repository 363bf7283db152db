//! Files ready ahead of the writer, spares, the ballast, and removals.
//!
//! The writer must never need new space, so files are made ahead of it, zero-filled, by the
//! background worker. When the disk is full the last of them is the reserve: the node blocks
//! publishers ([`Store::is_short_of_files`]), settlements go into it, and what they free comes
//! back through checkpoints, for which the ballast is given up.

use std::collections::BTreeMap;

use crate::job::{
    BackgroundDone, BackgroundJob, BackgroundResult, BackgroundWork, Ballast, CleanPlan, JobKind,
    Relocated,
};
use crate::place::{Container, FileId, SegmentId};
use crate::store::Store;

#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    /// Young files up to this one are on disk.
    prepared_last: FileId,
    /// Old files ready to be prepared again.
    spares: Vec<FileId>,
    /// No checkpoint needs them any more.
    to_clean: Vec<Container>,
    /// Files that were set aside because of damage.
    damaged: Vec<String>,
    /// Nobody wants to look at those any more.
    are_damaged_forgotten: bool,
    /// One job of this module at a time.
    under_way: bool,
    ballast: BallastFile,
    prepare_blocked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BallastFile {
    #[default]
    Absent,
    Present,
    /// The disk had no room for it; made again after `retry_after_no_space`.
    Refused,
}

impl Housekeeping {
    pub(crate) fn is_prepared(&self, file: FileId) -> bool {
        file <= self.prepared_last
    }

    pub(crate) fn prepared_last(&self) -> FileId {
        self.prepared_last
    }

    pub(crate) fn prepared_ahead_of(&self, file: FileId) -> u64 {
        self.prepared_last.0.saturating_sub(file.0)
    }

    pub(crate) fn prepared_up_to(&mut self, file: FileId) {
        self.prepared_last = file;
    }

    pub(crate) fn to_clean_count(&self) -> usize {
        self.to_clean.len()
    }

    pub(crate) fn recovered(&mut self, spares: Vec<FileId>, has_ballast: bool) {
        self.spares = spares;
        self.ballast = if has_ballast {
            BallastFile::Present
        } else {
            BallastFile::Absent
        };
    }

    fn retry(&mut self) {
        self.prepare_blocked = false;
        if self.ballast == BallastFile::Refused {
            self.ballast = BallastFile::Absent;
        }
    }

    /// Spares first, then removal.
    fn plan_clean(
        &mut self,
        pins: &BTreeMap<Container, u32>,
        spares_max: usize,
    ) -> Option<CleanPlan> {
        let mut plan = CleanPlan::default();
        let mut kept = Vec::new();
        for container in self.to_clean.drain(..) {
            if pins.contains_key(&container) {
                kept.push(container);
                continue;
            }
            match container {
                Container::Young(file) if self.spares.len() + plan.recycle.len() < spares_max => {
                    plan.recycle.push(file);
                }
                Container::Young(_) | Container::Segment(_) => {
                    plan.remove.push(container.file_name());
                }
            }
        }
        self.to_clean = kept;
        if std::mem::take(&mut self.are_damaged_forgotten) {
            plan.remove.append(&mut self.damaged);
        }
        (!plan.recycle.is_empty() || !plan.remove.is_empty()).then_some(plan)
    }
}

impl Store {
    /// The next upkeep for [`crate::Background`]: removals, files made ahead, the ballast. To be
    /// asked after every [`Store::handle_background`], [`Store::handle_fetched`] and `seal`.
    pub fn poll_background(&mut self) -> Option<BackgroundJob> {
        let upkeep = &mut self.housekeeping;
        if upkeep.under_way {
            return None;
        }
        let files = self.config.prepared_files;
        let ahead = upkeep.prepared_ahead_of(self.cursor.file);
        let work = if let Some(plan) = upkeep.plan_clean(&self.pins, files) {
            BackgroundWork::Clean(plan)
        } else if ahead < files as u64 && !upkeep.prepare_blocked {
            let ballast = if ahead == 0 {
                Ballast::MayGiveUp
            } else {
                Ballast::Keep
            };
            let file = FileId(upkeep.prepared_last.0 + 1);
            let spare = upkeep.spares.last().copied();
            let size_bytes = self.config.file_size_bytes;
            BackgroundWork::Prepare {
                file,
                spare,
                size_bytes,
                ballast,
            }
        } else if self.wants_ballast() {
            BackgroundWork::MakeBallast {
                size_bytes: self.config.ballast_size_bytes,
            }
        } else {
            return None;
        };
        self.housekeeping.under_way = true;
        Some(BackgroundJob(work))
    }

    fn wants_ballast(&self) -> bool {
        let upkeep = &self.housekeeping;
        let absent = upkeep.ballast == BallastFile::Absent;
        self.config.ballast_size_bytes > 0 && absent && !upkeep.prepare_blocked
    }

    /// Whether the disk refused a file the log needs: the node blocks publishers and goes on
    /// settling, which is written to the files still in reserve.
    pub fn is_short_of_files(&self) -> bool {
        self.housekeeping.prepare_blocked
    }

    /// What was damaged has come from elsewhere: files that were set aside are removed.
    pub fn forget_damaged(&mut self) {
        self.housekeeping.are_damaged_forgotten = !self.housekeeping.damaged.is_empty();
    }

    /// Asks again for what the disk had no room for. The node calls it every few seconds while
    /// a job ended so ([`BackgroundDone::is_no_space`]).
    pub fn retry_after_no_space(&mut self) {
        self.housekeeping.retry();
        self.retirement.retry();
    }

    /// Takes the result of a background job. After a tenure it says where each message is now;
    /// for one that died in between, the node calls [`Store::release`] with the new place.
    ///
    /// # Panics
    /// If no such job was handed out.
    pub fn handle_background(&mut self, done: BackgroundDone) -> Vec<Relocated> {
        if done.ballast_given_up {
            self.housekeeping.ballast = BallastFile::Refused;
        }
        match done.result {
            BackgroundResult::Tenured {
                segments,
                relocated,
                damaged: _,
            } => {
                self.handle_tenured(segments);
                return relocated;
            }
            BackgroundResult::Checkpointed { number } => {
                let frees = self.retirement.checkpointed(number);
                self.housekeeping.to_clean.extend(frees);
            }
            BackgroundResult::Prepared { file, spare } => {
                self.end_upkeep();
                assert_eq!(file.0, self.housekeeping.prepared_last.0 + 1);
                self.housekeeping.prepared_last = file;
                self.housekeeping
                    .spares
                    .retain(|known| Some(*known) != spare);
                self.housekeeping.prepare_blocked = false;
            }
            BackgroundResult::Cleaned { recycled } => {
                self.end_upkeep();
                self.housekeeping.spares.extend(recycled);
                self.retry_after_no_space();
            }
            BackgroundResult::BallastMade => {
                self.end_upkeep();
                self.housekeeping.ballast = BallastFile::Present;
            }
            BackgroundResult::NoSpace(kind) => self.handle_no_space(kind),
        }
        Vec::new()
    }

    fn handle_no_space(&mut self, kind: JobKind) {
        match kind {
            JobKind::Tenure => self.retirement.tenure_found_no_space(),
            JobKind::Checkpoint => self.retirement.checkpoint_found_no_space(),
            JobKind::Prepare => {
                self.end_upkeep();
                self.housekeeping.prepare_blocked = true;
            }
            JobKind::MakeBallast => {
                self.end_upkeep();
                self.housekeeping.ballast = BallastFile::Refused;
            }
            JobKind::Clean => unreachable!("removing files takes no space"),
        }
    }

    fn end_upkeep(&mut self) {
        assert!(self.housekeeping.under_way, "an upkeep job was under way");
        self.housekeeping.under_way = false;
    }

    /// What recovery found beside the log itself.
    pub(crate) fn recover_upkeep(&mut self, found: FoundUpkeep) {
        self.segments.skip_to(found.segment_next);
        self.retirement
            .recovered(found.checkpoint_last, found.follows);
        self.housekeeping.recovered(found.spares, found.has_ballast);
        self.housekeeping.damaged = found.damaged;
    }
}

/// What recovery found beside chunks and segments.
#[derive(Debug)]
pub(crate) struct FoundUpkeep {
    pub(crate) spares: Vec<FileId>,
    pub(crate) has_ballast: bool,
    pub(crate) segment_next: SegmentId,
    pub(crate) checkpoint_last: u64,
    pub(crate) follows: crate::place::ChunkId,
    pub(crate) damaged: Vec<String>,
}
