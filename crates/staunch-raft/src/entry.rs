//! Entries of a group's log.

use std::fmt;

use bytes::Bytes;
use staunch_types::{LogIndex, Term};

use crate::members::{Change, InvalidMembers};

/// An entry's place and the term it was proposed in. Two logs that have the same position are
/// equal up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// Where.
    pub index: LogIndex,
    /// Proposed by the leader of this term.
    pub term: Term,
}

impl LogPosition {
    /// Whether a log that ends here has at least what a log that ends at `other` has (Raft,
    /// section 5.4.1).
    #[must_use]
    pub fn is_up_to_date_with(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub index: LogIndex,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Place and term.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition {
            index: self.index,
            term: self.term,
        }
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader begins its term with it. When it is committed, so is all before it.
    Blank,
    /// A proposal, as it was given.
    Data(Bytes),
    /// A change of the members.
    Change(Change),
}

/// Payload kinds as they are written: in peer messages and by whoever keeps the log.
const KIND_BLANK: u8 = 0;
const KIND_DATA: u8 = 1;
const KIND_CHANGE: u8 = 2;

impl Payload {
    /// Bytes of its written form.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Blank => 0,
            Self::Data(data) => data.len(),
            Self::Change(change) => change.encoded_size_bytes(),
        }
    }

    /// Its written form: a kind and the bytes that go with it.
    #[must_use]
    pub fn encode(&self) -> (u8, Bytes) {
        match self {
            Self::Blank => (KIND_BLANK, Bytes::new()),
            Self::Data(data) => (KIND_DATA, data.clone()),
            Self::Change(change) => (KIND_CHANGE, change.encode()),
        }
    }

    /// Reads what [`Payload::encode`] has written. Data are slices of `bytes`, not copies.
    ///
    /// # Errors
    /// [`InvalidPayload`] for an unknown kind or a malformed change.
    pub fn decode(kind: u8, bytes: Bytes) -> Result<Self, InvalidPayload> {
        match kind {
            KIND_BLANK if bytes.is_empty() => Ok(Self::Blank),
            KIND_DATA => Ok(Self::Data(bytes)),
            KIND_CHANGE => Ok(Self::Change(Change::decode(&bytes)?)),
            KIND_BLANK => Err(InvalidPayload::BlankWithBytes),
            _ => Err(InvalidPayload::UnknownKind { kind }),
        }
    }
}

/// Why bytes are no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// Written by a newer version, or damaged.
    #[error("unknown entry kind {kind}")]
    UnknownKind {
        /// As read.
        kind: u8,
    },
    /// A blank entry has no bytes.
    #[error("a blank entry carries bytes")]
    BlankWithBytes,
    /// The change of members is malformed.
    #[error(transparent)]
    Change(#[from] InvalidMembers),
}
