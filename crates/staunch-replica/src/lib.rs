//! One queue's replica on one node: what keeps its Raft group, its part of the node's log and the
//! queue's state together.
//!
//! * [`Replica`] drives a group: entries go to the log, and when they are committed, to the queue.
//! * [`Rebuild`] makes replica and queue from what a restart finds.
//! * `transfer` hands a whole queue to a member that needs entries which are gone.
//! * [`CatalogReplica`] and [`CatalogRebuild`] are the same for the catalog's group.
//! * [`EntryData`] is an entry's content as it travels between nodes, [`Record`] what the log
//!   keeps of it.
//!
//! Passive, as everything below the node: no clock, no threads, no files.

mod catalog;
mod data;
mod order;
mod rebuild;
mod record;
mod replica;
mod state;
mod transfer;

pub use catalog::{
    BATCH_SIZE_BYTES_MAX, Batch, BatchError, CatalogEffects, CatalogEvent, CatalogRebuild,
    CatalogRecord, CatalogRecordError, CatalogReplica, CatalogState, Identity, OnRefusal,
    is_catalog_record,
};
pub use data::{DataError, EntryData, EntryMessage};
pub use rebuild::{Kept, Rebuild, RebuildError, Rebuilt};
pub use record::{Content, Parting, Record, RecordError};
pub use replica::{Effects, Replica, TakeError};
pub use state::{ReplicaState, StateError};
pub use transfer::StageError;
