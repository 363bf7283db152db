//! What the [`crate::Store`] asks of the workers, and what they answer. Jobs are plain data: the
//! server sends them to threads, the simulator runs them as events.

use bytes::Bytes;
use staunch_types::BodyRef;

use crate::error::Damage;
use crate::layout::checkpoint::CheckpointImage;
use crate::layout::chunk::CHUNK_HEADER_SIZE_BYTES;
use crate::layout::record::RecordMeta;
use crate::place::{ChunkId, Container, FileId, SegmentId, StreamId};

/// Chunks for one file, back to back: one write and one sync. For [`crate::Writer::run`].
#[derive(Debug)]
pub struct WriteJob {
    pub(crate) file: FileId,
    pub(crate) offset: u32,
    pub(crate) chunks: Vec<WriteChunk>,
    pub(crate) last: ChunkId,
    pub(crate) size_bytes: usize,
}

impl WriteJob {
    /// Bytes it will write.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

#[derive(Debug)]
pub(crate) struct WriteChunk {
    pub(crate) header: [u8; CHUNK_HEADER_SIZE_BYTES],
    pub(crate) data: Bytes,
}

/// A [`WriteJob`] is on disk and synced. For [`crate::Store::handle_written`].
#[derive(Debug)]
pub struct WriteDone {
    pub(crate) last: ChunkId,
    pub(crate) size_bytes: usize,
}

impl WriteDone {
    /// Bytes written.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

/// A live message as the node knows it, for [`crate::Store::tenure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its index in the stream.
    pub index: u64,
    /// Where it is now.
    pub body: BodyRef,
    /// Size of its stored form.
    pub size_bytes: u32,
    /// What the node keeps with it.
    pub meta: RecordMeta,
}

/// Files whose live messages are to be moved, from [`crate::Store::retire_due`] or
/// [`crate::Store::compact_due`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retiring {
    pub(crate) sources: Vec<Container>,
}

impl Retiring {
    /// Whether `body` lies in one of these files.
    pub fn contains(&self, body: BodyRef) -> bool {
        let container = crate::place::Place::unpack(body).container;
        self.sources.binary_search(&container).is_ok()
    }

    /// Whether something may lie in one of these files that was appended when
    /// [`Store::appends_to`](crate::Store::appends_to) was `first`, or since then.
    pub fn reaches(&self, first: FileId) -> bool {
        let young = |source: &Container| matches!(source, Container::Young(id) if *id >= first);
        self.sources.iter().any(young)
    }

    /// Names of the files, for the log.
    pub fn file_names(&self) -> impl Iterator<Item = String> + '_ {
        self.sources.iter().map(|source| source.file_name())
    }
}

/// A message was moved by a finished tenure: `from` is gone at the next checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocated {
    /// Its stream.
    pub stream: StreamId,
    /// Its index.
    pub index: u64,
    /// Where it was.
    pub from: BodyRef,
    /// Where it is now.
    pub to: BodyRef,
    /// Size of its stored form.
    pub size_bytes: u32,
}

/// Work for [`crate::Background::run`].
#[derive(Debug)]
pub struct BackgroundJob(pub(crate) BackgroundWork);

#[derive(Debug)]
pub(crate) enum BackgroundWork {
    /// Make young file `file` ready, from a spare if there is one.
    Prepare {
        file: FileId,
        spare: Option<FileId>,
        size_bytes: u32,
        ballast: Ballast,
    },
    /// Copy live messages into new segments.
    Tenure(TenurePlan),
    /// Write a checkpoint and remove its predecessor.
    Checkpoint(CheckpointPlan),
    /// Recycle or delete what no checkpoint needs any more.
    Clean(CleanPlan),
    /// Make the ballast file.
    MakeBallast { size_bytes: u64 },
}

/// Whether a job may sacrifice the ballast file when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ballast {
    Keep,
    MayGiveUp,
}

#[derive(Debug)]
pub(crate) struct TenurePlan {
    pub(crate) segments: Vec<SegmentPlan>,
}

#[derive(Debug)]
pub(crate) struct SegmentPlan {
    pub(crate) id: SegmentId,
    pub(crate) groups: Vec<(StreamId, Vec<Live>)>,
}

#[derive(Debug)]
pub(crate) struct CheckpointPlan {
    pub(crate) number: u64,
    pub(crate) previous: Option<u64>,
    pub(crate) image: CheckpointImage,
    pub(crate) state: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct CleanPlan {
    /// Retired young files to keep as spares.
    pub(crate) recycle: Vec<FileId>,
    /// Files to remove.
    pub(crate) remove: Vec<String>,
}

/// A [`BackgroundJob`] has ended. For [`crate::Store::handle_background`].
#[derive(Debug)]
pub struct BackgroundDone {
    pub(crate) result: BackgroundResult,
    /// The ballast was given up on the way.
    pub(crate) ballast_given_up: bool,
}

/// A message that could not be moved because its record is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Its stream.
    pub stream: StreamId,
    /// Its index.
    pub index: u64,
    /// Where it is.
    pub body: BodyRef,
    /// What is wrong, and where.
    pub damage: Damage,
}

impl BackgroundDone {
    /// Whether the disk had no room for it. The store asks again after
    /// [`crate::Store::retry_after_no_space`].
    pub fn is_no_space(&self) -> bool {
        matches!(self.result, BackgroundResult::NoSpace(_))
    }

    /// Messages that stay behind in files that go with the next checkpoint, because their records
    /// are damaged. The node must get them from elsewhere, or stop.
    pub fn damaged(&self) -> &[DamagedRecord] {
        match &self.result {
            BackgroundResult::Tenured { damaged, .. } => damaged,
            BackgroundResult::Prepared { .. }
            | BackgroundResult::Checkpointed { .. }
            | BackgroundResult::Cleaned { .. }
            | BackgroundResult::BallastMade
            | BackgroundResult::NoSpace(_) => &[],
        }
    }

    /// Whether this ended a checkpoint, successfully.
    pub fn is_checkpoint(&self) -> bool {
        matches!(self.result, BackgroundResult::Checkpointed { .. })
    }
}

#[derive(Debug)]
pub(crate) enum BackgroundResult {
    Prepared {
        file: FileId,
        spare: Option<FileId>,
    },
    Tenured {
        segments: Vec<SegmentMade>,
        relocated: Vec<Relocated>,
        damaged: Vec<DamagedRecord>,
    },
    Checkpointed {
        number: u64,
    },
    Cleaned {
        recycled: Vec<FileId>,
    },
    BallastMade,
    NoSpace(JobKind),
}

#[derive(Debug)]
pub(crate) struct SegmentMade {
    pub(crate) id: SegmentId,
    pub(crate) size_bytes: u32,
    pub(crate) records: u32,
    pub(crate) footer_crc: u32,
    /// Space its records take.
    pub(crate) records_size_bytes: u64,
}

/// Which kind of job found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    Prepare,
    Tenure,
    Checkpoint,
    Clean,
    MakeBallast,
}

/// Records to read. For [`crate::Reader::run`].
#[derive(Debug)]
pub struct FetchJob {
    pub(crate) items: Vec<FetchItem>,
    pub(crate) pins: Vec<Container>,
}

#[derive(Debug)]
pub(crate) enum FetchItem {
    /// It was in memory all along.
    Ready {
        index: u64,
        body: BodyRef,
        stored: Bytes,
    },
    /// Neighbours in one file: one read.
    Read(FetchRead),
}

impl FetchItem {
    /// Bytes of the bodies.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Ready { stored, .. } => stored.len(),
            Self::Read(read) => {
                let sizes = read.records.iter().map(|record| record.size_bytes as usize);
                sizes.sum()
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct FetchRead {
    pub(crate) container: Container,
    pub(crate) offset: u32,
    pub(crate) size_bytes: u32,
    pub(crate) records: Vec<FetchRecord>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchRecord {
    pub(crate) index: u64,
    pub(crate) body: BodyRef,
    pub(crate) size_bytes: u32,
}

/// Records that were read and verified. For [`crate::Store::handle_fetched`].
#[derive(Debug)]
pub struct FetchDone {
    /// In the order they were asked for.
    pub records: Vec<Fetched>,
    pub(crate) pins: Vec<Container>,
}

/// One record of a [`FetchDone`].
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its index, as asked for.
    pub index: u64,
    /// Its place, as asked for.
    pub body: BodyRef,
    /// The message's stored form, verified.
    pub stored: Bytes,
}
