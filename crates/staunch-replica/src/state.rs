//! What a checkpoint says of a replica.
//!
//! Version 2, big-endian:
//!
//! ```text
//! ┌─────────┬─────────────────────┬──────────────────────────┬──────────────────────┬───────┐
//! │ version │ applied index, term │ term, vote, commit u64   │ size u32 and members │ queue │
//! └─────────┴─────────────────────┴──────────────────────────┴──────────────────────┴───────┘
//! ```
//!
//! One that has not got anything of the group yet which it is to join does not know the members:
//! their size is 0, and index and term are those of its [parting](crate::Parting), if it was a member
//! before, else 0.

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{DecodeError, Queue, QueueSettings};
use staunch_raft::{HardState, LogPosition, Members, SnapshotMeta, members::InvalidMembers};
use staunch_types::{LogIndex, NodeId, Term};

const STATE_VERSION: u8 = 2;

/// A replica as of some index, without the bodies of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// The last entry applied, and the members then.
    pub meta: SnapshotMeta,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Of one that joins the group again, and has not got anything yet.
    pub pledged: LogPosition,
    /// The queue: [`Queue::encode_snapshot`].
    pub queue: Bytes,
}

/// Why a replica's state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by another version.
    #[error("replica state version {0} is not known to this version, which reads {STATE_VERSION}")]
    Version(u8),
    /// It ends too early.
    #[error("a replica's state is cut short")]
    Short,
    /// The list of members.
    #[error("members: {0}")]
    Members(#[from] InvalidMembers),
    /// The queue.
    #[error("queue: {0}")]
    Queue(#[from] DecodeError),
}

impl ReplicaState {
    /// Appends its bytes to `out`.
    ///
    /// # Panics
    /// If there are more members than a group may have.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_head(&self.meta, self.pledged, &self.hard_state, out);
        out.put_slice(&self.queue);
    }

    /// Reads what [`ReplicaState::encode`] wrote; `bytes` hold nothing else.
    ///
    /// # Errors
    /// [`StateError`] on any other bytes; the queue is read by [`ReplicaState::queue`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, StateError> {
        let (meta, pledged, hard_state) = decode_head(&mut bytes)?;
        Ok(Self {
            meta,
            hard_state,
            pledged,
            queue: bytes,
        })
    }

    /// The queue, as a follower that lacks all bodies.
    ///
    /// # Errors
    /// [`StateError::Queue`].
    pub fn queue(&self, settings: &QueueSettings) -> Result<Queue, StateError> {
        Ok(Queue::decode_snapshot(&self.queue, settings)?)
    }
}

/// What a group's state is before that of which it is a group.
pub(crate) fn encode_head(
    meta: &SnapshotMeta,
    pledged: LogPosition,
    hard_state: &HardState,
    out: &mut Vec<u8>,
) {
    let is_joining = meta.members == Members::default();
    let last = if is_joining { pledged } else { meta.last };
    out.put_u8(STATE_VERSION);
    out.put_u64(last.index.0);
    out.put_u64(last.term.0);
    out.put_u64(hard_state.term.0);
    out.put_u64(hard_state.vote.map_or(0, |node| node.0));
    out.put_u64(hard_state.commit.0);
    let members = if is_joining {
        Bytes::new()
    } else {
        meta.members.encode()
    };
    out.put_u32(u32::try_from(members.len()).expect("members are few"));
    out.put_slice(&members);
}

pub(crate) fn decode_head(
    bytes: &mut Bytes,
) -> Result<(SnapshotMeta, LogPosition, HardState), StateError> {
    let version = bytes.try_get_u8().map_err(|_| StateError::Short)?;
    if version != STATE_VERSION {
        return Err(StateError::Version(version));
    }
    let last = LogPosition {
        index: LogIndex(take_u64(bytes)?),
        term: Term(take_u64(bytes)?),
    };
    let hard_state = HardState {
        term: Term(take_u64(bytes)?),
        vote: Some(take_u64(bytes)?).filter(|id| *id > 0).map(NodeId),
        commit: LogIndex(take_u64(bytes)?),
    };
    let size = bytes.try_get_u32().map_err(|_| StateError::Short)? as usize;
    if size > bytes.len() {
        return Err(StateError::Short);
    }
    if size == 0 {
        let nothing = SnapshotMeta {
            last: LogPosition::default(),
            members: Members::default(),
        };
        return Ok((nothing, last, hard_state));
    }
    let members = Members::decode(&bytes.split_to(size))?;
    let meta = SnapshotMeta { last, members };
    Ok((meta, LogPosition::default(), hard_state))
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, StateError> {
    bytes.try_get_u64().map_err(|_| StateError::Short)
}
