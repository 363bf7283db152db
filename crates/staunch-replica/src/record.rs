//! What a group writes to its stream of the node's log, beside messages.
//!
//! Version 2, big-endian:
//!
//! ```text
//! 0         1      2
//! ┌─────────┬──────┬────────────────────────────────────────────────────┐
//! │ version │ kind │ 1: index u64, term u64, payload kind u8, payload   │
//! │         │      │ 2: term u64, vote u64 (0 is none), commit u64      │
//! │         │      │ 3: nothing                                         │
//! │         │      │ 4: index u64, term u64 (0 and 0: it had forgotten) │
//! └─────────┴──────┴────────────────────────────────────────────────────┘
//! ```
//!
//! Of an entry with data the payload is its head; its messages are the records that follow, up to
//! the next record of this kind.

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{DecodeError, EntryHead};
use staunch_raft::{Change, HardState, LogPosition, Payload};
use staunch_types::{LogIndex, NodeId, Term};

const RECORD_VERSION: u8 = 2;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_FORGOTTEN: u8 = 3;
const KIND_LEFT: u8 = 4;

const PAYLOAD_BLANK: u8 = 0;
const PAYLOAD_DATA: u8 = 1;
const PAYLOAD_CHANGE: u8 = 2;

/// A control record of a replica's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; it replaces the one that has its index, and all after it.
    Entry {
        /// Where it is in the group's log.
        position: LogPosition,
        /// What it says.
        content: Content,
    },
    /// Term, vote and commit index.
    HardState(HardState),
    /// The replica has forgotten everything: what was written before is void.
    Forgotten,
    /// The node has left the group, and what it had of the queue is gone.
    Left(Parting),
}

/// What a node keeps of a group that it has left, in case that it is to join it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Where the leader said [farewell](staunch_raft::Group::farewell).
    At(LogPosition),
    /// It had forgotten everything before.
    Forgotten,
}

impl Parting {
    /// Size of its bytes.
    pub const SIZE_BYTES: u32 = 16;

    /// Appends its bytes: index u64, term u64; 0 and 0 if it had forgotten.
    pub fn put(self, out: &mut impl BufMut) {
        let position = match self {
            Self::At(position) => position,
            Self::Forgotten => LogPosition::default(),
        };
        out.put_u64(position.index.0);
        out.put_u64(position.term.0);
    }

    /// Reads what [`Parting::put`] wrote; none if it is cut short.
    pub fn take(bytes: &mut Bytes) -> Option<Self> {
        let position = LogPosition {
            index: LogIndex(bytes.try_get_u64().ok()?),
            term: Term(bytes.try_get_u64().ok()?),
        };
        let has_forgotten = position == LogPosition::default();
        Some(if has_forgotten {
            Self::Forgotten
        } else {
            Self::At(position)
        })
    }
}

/// What an entry says, without its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Blank,
    /// What happened to the queue.
    Data(EntryHead),
    /// Who belongs to the group.
    Change(Change),
}

/// Why a record cannot be read, although its checksum is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by another version.
    #[error("record version {0} is not known to this version, which reads {RECORD_VERSION}")]
    Version(u8),
    /// It ends too early, or something follows.
    #[error("a record has the wrong size")]
    Size,
    /// None of those that there are.
    #[error("unknown kind {0} of a record")]
    Kind(u8),
    /// The head of an entry.
    #[error("entry head: {0}")]
    Head(#[from] DecodeError),
    /// A change of the members.
    #[error("change of members: {0}")]
    Change(#[from] staunch_raft::members::InvalidMembers),
}

impl Record {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![RECORD_VERSION];
        match self {
            Self::Entry { position, content } => {
                out.put_u8(KIND_ENTRY);
                out.put_u64(position.index.0);
                out.put_u64(position.term.0);
                match content {
                    Content::Blank => out.put_u8(PAYLOAD_BLANK),
                    Content::Data(head) => {
                        out.put_u8(PAYLOAD_DATA);
                        head.encode(&mut out);
                    }
                    Content::Change(change) => {
                        out.put_u8(PAYLOAD_CHANGE);
                        out.put_slice(&change.encode());
                    }
                }
            }
            Self::HardState(state) => {
                out.put_u8(KIND_HARD_STATE);
                out.put_u64(state.term.0);
                out.put_u64(state.vote.map_or(0, |node| node.0));
                out.put_u64(state.commit.0);
            }
            Self::Forgotten => out.put_u8(KIND_FORGOTTEN),
            Self::Left(parting) => {
                out.put_u8(KIND_LEFT);
                parting.put(&mut out);
            }
        }
        out
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`RecordError`] on any other bytes.
    pub fn decode(mut bytes: Bytes) -> Result<Self, RecordError> {
        let version = bytes.try_get_u8().map_err(|_| RecordError::Size)?;
        if version != RECORD_VERSION {
            return Err(RecordError::Version(version));
        }
        let kind = bytes.try_get_u8().map_err(|_| RecordError::Size)?;
        let record = match kind {
            KIND_ENTRY => {
                let position = LogPosition {
                    index: LogIndex(take_u64(&mut bytes)?),
                    term: Term(take_u64(&mut bytes)?),
                };
                let content = take_content(&mut bytes)?;
                Self::Entry { position, content }
            }
            KIND_HARD_STATE => Self::HardState(HardState {
                term: Term(take_u64(&mut bytes)?),
                vote: Some(take_u64(&mut bytes)?).filter(|id| *id > 0).map(NodeId),
                commit: LogIndex(take_u64(&mut bytes)?),
            }),
            KIND_FORGOTTEN => Self::Forgotten,
            KIND_LEFT => Self::Left(Parting::take(&mut bytes).ok_or(RecordError::Size)?),
            kind => return Err(RecordError::Kind(kind)),
        };
        if bytes.is_empty() {
            Ok(record)
        } else {
            Err(RecordError::Size)
        }
    }
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, RecordError> {
    bytes.try_get_u64().map_err(|_| RecordError::Size)
}

fn take_content(bytes: &mut Bytes) -> Result<Content, RecordError> {
    match bytes.try_get_u8().map_err(|_| RecordError::Size)? {
        PAYLOAD_BLANK => Ok(Content::Blank),
        PAYLOAD_DATA => {
            let (head, size) = EntryHead::decode(bytes)?;
            bytes.advance(size);
            Ok(Content::Data(head))
        }
        PAYLOAD_CHANGE => {
            let change = Change::decode(bytes)?;
            bytes.clear();
            Ok(Content::Change(change))
        }
        kind => Err(RecordError::Kind(kind)),
    }
}

impl Content {
    /// Messages that follow.
    pub(crate) fn message_count(&self) -> u32 {
        match self {
            Self::Data(head) => head.message_count,
            Self::Blank | Self::Change(_) => 0,
        }
    }

    /// Of a payload whose data is read already.
    pub(crate) fn of(payload: &Payload, head: Option<&EntryHead>) -> Self {
        match payload {
            Payload::Blank => Self::Blank,
            Payload::Data(_) => Self::Data(head.expect("data has a head").clone()),
            Payload::Change(change) => Self::Change(change.clone()),
        }
    }
}
