//! What a checkpoint says of the node: the catalog and every queue that the node's log keeps.
//!
//! Version 5, big-endian:
//!
//! ```text
//! 0            2       3       11         11+c        15+c
//! ┌────────────┬───────┬───────┬──────────┬───────────┬──────────────────────────────────────────┐
//! │ version u16│ whose │ c u64 │ catalog  │ count u32 │ count × { id u64, kind u8, size u32, … } │
//! └────────────┴───────┴───────┴──────────┴───────────┴──────────────────────────────────────────┘
//! ```
//!
//! Whose 0: a node's that stands alone, and the catalog is what survives a restart. Whose 1: one of
//! several, and it is who that is (`staunch_replica::Identity`) and the state of the catalog's group
//! (`staunch_replica::CatalogState`). Whose 2: the same, but it has forgotten everything: there is
//! no catalog and no queue. Whose 3: one that is to join a cluster and has not, with nothing. Whose
//! 4: as 2, but it does not know who it is either.
//! Kind 0 is followed by the snapshot of a queue that this node alone keeps, kind 1 by the state
//! of a replica (`staunch_replica::ReplicaState`), kind 2 by nothing: that replica has forgotten
//! everything. Kind 3 is that of a group that the node has left: how (`staunch_replica::Parting`).

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{Catalog, DecodeError, Queue};
use staunch_replica::{
    CatalogRecordError, CatalogState, Identity, Parting, ReplicaState,
    StateError as ReplicaStateError,
};
use staunch_types::QueueId;

use crate::{
    cluster::Place,
    queues::{Queues, settings_of},
};

const STATE_VERSION: u16 = 5;

const WHOSE_ALONE: u8 = 0;
const WHOSE_MEMBER: u8 = 1;
const WHOSE_FORGOTTEN: u8 = 2;
const WHOSE_NOBODY: u8 = 3;
const WHOSE_LOST: u8 = 4;

const KIND_OWN: u8 = 0;
const KIND_REPLICA: u8 = 1;
const KIND_FORGOTTEN: u8 = 2;
const KIND_LEFT: u8 = 3;

/// What is wrong with a checkpoint's state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by another version.
    #[error("state version {0} is not known to this version, which reads {STATE_VERSION}")]
    Version(u16),
    /// It ends too early.
    #[error("state is cut short")]
    Short,
    /// Catalog or queue cannot be read.
    #[error("state cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A replica cannot be read.
    #[error("state of queue {queue}: {source}")]
    Replica {
        /// Its queue.
        queue: QueueId,
        /// What is wrong.
        source: ReplicaStateError,
    },
    /// The catalog's group cannot be read.
    #[error("state of the catalog: {0}")]
    Catalog(ReplicaStateError),
    /// Who the node is cannot be read.
    #[error("state of the node: {0}")]
    Identity(#[from] CatalogRecordError),
    /// Neither a node's that stands alone nor that of one of several.
    #[error("state is of an unknown kind of node {0}")]
    Whose(u8),
    /// A queue is of no known kind.
    #[error("state names a queue of unknown kind {0}")]
    Kind(u8),
}

/// A queue as a checkpoint has it.
pub(crate) enum KeptQueue {
    /// This node alone keeps it.
    Own(Queue),
    /// Several do.
    Replica(ReplicaState),
    /// Several do, and this one has forgotten everything.
    Forgotten,
    /// Several do, and this one has left them.
    Left(Parting),
}

/// Whose checkpoint it is.
pub(crate) enum Owner {
    /// A node's that stands alone.
    Alone,
    /// That of one which is to be one of several, and has not joined them yet.
    Nobody,
    /// That of one of several.
    Member(Box<(Identity, CatalogState)>),
    /// The same, which has forgotten everything but who it is.
    Forgotten(Identity),
    /// That of one which has forgotten that as well.
    Lost,
}

/// What a checkpoint says.
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) owner: Owner,
    pub(crate) queues: Vec<(QueueId, KeptQueue)>,
}

/// The state of one of several nodes that has forgotten everything; who it is, if it knows that.
pub(crate) fn forgotten(identity: Option<&Identity>) -> Vec<u8> {
    let whose = identity.map_or(WHOSE_LOST, |_| WHOSE_FORGOTTEN);
    nothing(whose, identity)
}

fn nothing(whose: u8, identity: Option<&Identity>) -> Vec<u8> {
    let mut who = Vec::new();
    if let Some(identity) = identity {
        identity.encode(&mut who);
    }
    let mut out = Vec::new();
    out.put_u16(STATE_VERSION);
    out.put_u8(whose);
    out.put_u64(who.len() as u64);
    out.extend_from_slice(&who);
    out.put_u32(0);
    out
}

/// The state as it is now.
pub(crate) fn encode(
    catalog: &Catalog,
    owner: &Owner,
    queues: &Queues,
    left: &BTreeMap<QueueId, Parting>,
) -> Vec<u8> {
    match owner {
        Owner::Forgotten(identity) => return forgotten(Some(identity)),
        Owner::Lost => return forgotten(None),
        Owner::Nobody => return nothing(WHOSE_NOBODY, None),
        Owner::Alone | Owner::Member(_) => {}
    }
    let mut out = Vec::new();
    out.put_u16(STATE_VERSION);
    out.put_u8(match owner {
        Owner::Member(_) => WHOSE_MEMBER,
        Owner::Alone | Owner::Nobody | Owner::Forgotten(_) | Owner::Lost => WHOSE_ALONE,
    });
    let size_at = out.len();
    out.put_u64(0);
    match owner {
        Owner::Member(member) => {
            member.0.encode(&mut out);
            member.1.encode(&mut out);
        }
        Owner::Alone | Owner::Nobody | Owner::Forgotten(_) | Owner::Lost => {
            catalog.encode_snapshot(&mut out);
        }
    }
    let catalog_size = (out.len() - size_at - 8) as u64;
    out[size_at..size_at + 8].copy_from_slice(&catalog_size.to_be_bytes());
    let kept = queues.iter().filter(|slot| match &slot.place {
        Place::Here => slot.is_durable,
        Place::Replicated(_) => true,
        Place::Elsewhere => false,
    });
    let count_at = out.len();
    out.put_u32(0);
    let mut count = 0_u32;
    for slot in kept {
        out.put_u64(slot.id.0);
        let member = slot.member();
        out.put_u8(match member {
            None => KIND_OWN,
            Some(member) if member.replica.has_forgotten() => KIND_FORGOTTEN,
            Some(_) => KIND_REPLICA,
        });
        let size_at = out.len();
        out.put_u32(0);
        match member {
            Some(member) if member.replica.has_forgotten() => {}
            Some(member) => member.replica.state_now(&slot.queue).encode(&mut out),
            None => slot.queue.encode_snapshot(&mut out),
        }
        let size = u32::try_from(out.len() - size_at - 4).expect("a queue's runs fit in 4 GiB");
        out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
        count += 1;
    }
    for (id, parting) in left {
        out.put_u64(id.0);
        out.put_u8(KIND_LEFT);
        out.put_u32(Parting::SIZE_BYTES);
        parting.put(&mut out);
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    out
}

/// Catalog and queues as they were.
pub(crate) fn decode(mut bytes: Bytes, seed: u64) -> Result<State, StateError> {
    let version = bytes.try_get_u16().map_err(|_| StateError::Short)?;
    if version != STATE_VERSION {
        return Err(StateError::Version(version));
    }
    let whose = bytes.try_get_u8().map_err(|_| StateError::Short)?;
    let size = bytes.try_get_u64().map_err(|_| StateError::Short)?;
    let mut snapshot = take(&mut bytes, size)?;
    let (catalog, owner) = match whose {
        WHOSE_ALONE => (Catalog::decode_snapshot(&snapshot, seed)?, Owner::Alone),
        WHOSE_NOBODY => (Catalog::new(seed), Owner::Nobody),
        WHOSE_LOST => (Catalog::new(seed), Owner::Lost),
        WHOSE_MEMBER => {
            let identity = Identity::take(&mut snapshot)?;
            let state = CatalogState::decode(snapshot).map_err(StateError::Catalog)?;
            let catalog = Catalog::decode_whole(&state.catalog, seed)?;
            (catalog, Owner::Member(Box::new((identity, state))))
        }
        WHOSE_FORGOTTEN => {
            let identity = Identity::take(&mut snapshot)?;
            (Catalog::new(seed), Owner::Forgotten(identity))
        }
        whose => return Err(StateError::Whose(whose)),
    };
    let count = bytes.try_get_u32().map_err(|_| StateError::Short)?;
    let mut queues = Vec::new();
    for _ in 0..count {
        let id = QueueId(bytes.try_get_u64().map_err(|_| StateError::Short)?);
        let kind = bytes.try_get_u8().map_err(|_| StateError::Short)?;
        let size = bytes.try_get_u32().map_err(|_| StateError::Short)?;
        let snapshot = take(&mut bytes, u64::from(size))?;
        let kept = match kind {
            KIND_OWN => {
                let entry = catalog.queue_by_id(id);
                let settings = entry.map(settings_of).unwrap_or_default();
                KeptQueue::Own(Queue::decode_snapshot(&snapshot, &settings)?)
            }
            KIND_REPLICA => {
                let state = ReplicaState::decode(snapshot);
                let state = state.map_err(|source| StateError::Replica { queue: id, source });
                KeptQueue::Replica(state?)
            }
            KIND_FORGOTTEN => KeptQueue::Forgotten,
            KIND_LEFT => {
                let mut snapshot = snapshot;
                KeptQueue::Left(Parting::take(&mut snapshot).ok_or(StateError::Short)?)
            }
            kind => return Err(StateError::Kind(kind)),
        };
        queues.push((id, kept));
    }
    Ok(State {
        catalog,
        owner,
        queues,
    })
}

fn take(bytes: &mut Bytes, size: u64) -> Result<Bytes, StateError> {
    let size = usize::try_from(size).map_err(|_| StateError::Short)?;
    if bytes.len() < size {
        return Err(StateError::Short);
    }
    Ok(bytes.split_to(size))
}
