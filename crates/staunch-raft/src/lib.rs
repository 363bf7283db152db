//! Consensus: many Raft groups on a node, what their members tell each other, and who is alive.
//!
//! * [`Group`] is one replicated log on one node. It wraps the consensus library, whose types
//!   appear nowhere outside this crate.
//! * [`liveness`] watches the other nodes, once for all groups.
//! * [`wire`] writes and reads what peers send each other.
//!
//! All of it is passive: no clock, no threads, no files, no randomness but what a seed gives.

pub mod config;
mod convert;
pub mod entry;
pub mod group;
pub mod liveness;
mod log;
pub mod members;
pub mod message;
pub mod state;
pub mod wire;

pub use config::Config;
pub use entry::{Entry, LogPosition, Payload};
pub use group::{
    ChangeError, Group, MemberProgress, Persist, ProposeError, Ready, ReadyNumber, Role,
    RoleChange, StepError,
};
pub use liveness::{Liveness, LivenessConfig, LivenessEvent};
pub use log::Fetch;
pub use members::{Change, ChangeStep, Members};
pub use message::{Body, Message};
pub use state::{HardState, Restored, RestoredEntry, SnapshotMeta};
