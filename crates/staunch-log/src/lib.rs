//! The generational log: one per data directory, for all queues of a node.
//!
//! Most messages die young. They are appended to shared *young files* in batches, one sync a
//! batch, and when a young file is retired only what still lives is copied into *segments*,
//! grouped by stream; then the file is recycled. A *checkpoint* names the segments and the first
//! young file needed, and carries the node's state, so that a restart reads segment footers and
//! young files, not the backlog.
//!
//! The parts, and who runs them:
//!
//! * [`Store`] is pure and lives in the node's thread: it takes records, hands out jobs, and keeps
//!   count of what lives where.
//! * [`Writer`] runs [`WriteJob`]s, one at a time: one write, one sync.
//! * [`Background`] runs [`BackgroundJob`]s in the order they were handed out: fresh files,
//!   tenures, checkpoints, removals.
//! * [`Reader`] runs [`FetchJob`]s, any number at a time; a clone costs a handle.
//! * [`recover`] opens a directory and gives all four.
//!
//! Byte layouts are drawn in `docs/format.md`.

pub mod config;
pub mod disk;
pub mod error;
pub mod job;
pub mod place;

mod background;
mod layout;
mod name;
mod reader;
mod recovery;
mod store;
mod writer;

pub use background::Background;
pub use config::Config;
pub use disk::memory::MemoryDisk;
pub use disk::real::RealDisk;
pub use disk::{Disk, DiskError, DiskFile};
pub use error::{
    BackgroundError, Damage, DamageCause, FatalDiskError, FetchError, FetchFailed, Note,
    RecoverError,
};
pub use job::{
    BackgroundDone, BackgroundJob, DamagedRecord, FetchDone, FetchJob, Fetched, Live, Relocated,
    Retiring, WriteDone, WriteJob,
};
pub use layout::record::RecordMeta;
pub use place::{ChunkId, FileId, SegmentId, StreamId, is_in_segment};
pub use reader::Reader;
pub use recovery::{OnDamage, Opened, Recovered, Recovery, begin_anew, recover, recover_with};
pub use store::{Facts, Store};
pub use writer::Writer;
