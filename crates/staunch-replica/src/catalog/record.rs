//! What the catalog's group writes to its stream of the node's log.
//!
//! Big-endian:
//!
//! ```text
//! 0         1      2
//! ┌─────────┬──────┬──────────────────────────────────────────────────────────────┐
//! │ version │ kind │ 1: index u64, term u64, payload kind u8, payload             │
//! │         │      │ 2: term u64, vote u64 (0 is none), commit u64                │
//! │         │      │ 3: nothing                                                   │
//! └─────────┴──────┴──────────────────────────────────────────────────────────────┘
//! ```
//!
//! A node that stands alone writes bare commands to this stream, whose first byte is below 0x80.

use bytes::{Buf, BufMut, Bytes};
use staunch_raft::{HardState, LogPosition, Payload, entry::InvalidPayload};
use staunch_types::{LogIndex, NodeId, Term};

/// Version 2; the highest bit tells it from a command.
const RECORD_VERSION: u8 = 0x82;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_FORGOTTEN: u8 = 3;

/// A control record of the catalog's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogRecord {
    /// An entry; it replaces the one that has its index, and all after it.
    Entry {
        /// Where it is in the group's log.
        position: LogPosition,
        /// What it says.
        payload: Payload,
    },
    /// Term, vote and commit index.
    HardState(HardState),
    /// The replica has forgotten everything: what was written before is void.
    Forgotten,
}

/// Why a record cannot be read, although its checksum is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogRecordError {
    /// Written by another version.
    #[error("catalog record version {0} is not known to this version")]
    Version(u8),
    /// It ends too early, or something follows.
    #[error("a catalog record has the wrong size")]
    Size,
    /// None of those that there are.
    #[error("unknown kind {0} of a catalog record")]
    Kind(u8),
    /// What an entry says.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
}

/// Whether a record of the catalog's stream was written by one of several nodes; otherwise by one
/// that stands alone.
#[must_use]
pub fn is_catalog_record(payload: &[u8]) -> bool {
    payload.first().is_some_and(|version| version & 0x80 != 0)
}

impl CatalogRecord {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![RECORD_VERSION];
        match self {
            Self::Entry { position, payload } => {
                out.put_u8(KIND_ENTRY);
                out.put_u64(position.index.0);
                out.put_u64(position.term.0);
                let (kind, bytes) = payload.encode();
                out.put_u8(kind);
                out.put_slice(&bytes);
            }
            Self::HardState(state) => {
                out.put_u8(KIND_HARD_STATE);
                out.put_u64(state.term.0);
                out.put_u64(state.vote.map_or(0, |node| node.0));
                out.put_u64(state.commit.0);
            }
            Self::Forgotten => out.put_u8(KIND_FORGOTTEN),
        }
        out
    }

    /// Reads what [`CatalogRecord::encode`] wrote.
    ///
    /// # Errors
    /// [`CatalogRecordError`] on any other bytes.
    pub fn decode(mut bytes: Bytes) -> Result<Self, CatalogRecordError> {
        let version = take_u8(&mut bytes)?;
        if version != RECORD_VERSION {
            return Err(CatalogRecordError::Version(version));
        }
        match take_u8(&mut bytes)? {
            KIND_ENTRY => {
                let position = LogPosition {
                    index: LogIndex(take_u64(&mut bytes)?),
                    term: Term(take_u64(&mut bytes)?),
                };
                let kind = take_u8(&mut bytes)?;
                let payload = Payload::decode(kind, bytes)?;
                Ok(Self::Entry { position, payload })
            }
            KIND_HARD_STATE => {
                let state = HardState {
                    term: Term(take_u64(&mut bytes)?),
                    vote: Some(take_u64(&mut bytes)?).filter(|id| *id > 0).map(NodeId),
                    commit: LogIndex(take_u64(&mut bytes)?),
                };
                if bytes.is_empty() {
                    Ok(Self::HardState(state))
                } else {
                    Err(CatalogRecordError::Size)
                }
            }
            KIND_FORGOTTEN if bytes.is_empty() => Ok(Self::Forgotten),
            KIND_FORGOTTEN => Err(CatalogRecordError::Size),
            kind => Err(CatalogRecordError::Kind(kind)),
        }
    }
}

fn take_u8(bytes: &mut Bytes) -> Result<u8, CatalogRecordError> {
    bytes.try_get_u8().map_err(|_| CatalogRecordError::Size)
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, CatalogRecordError> {
    bytes.try_get_u64().map_err(|_| CatalogRecordError::Size)
}
