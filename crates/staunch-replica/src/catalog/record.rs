//! What the catalog's group writes to its stream of the node's log.
//!
//! Big-endian:
//!
//! ```text
//! 0         1      2
//! ┌─────────┬──────┬──────────────────────────────────────────────────────────────┐
//! │ version │ kind │ 1: index u64, term u64, payload kind u8, payload             │
//! │         │      │ 2: term u64, vote u64 (0 is none), commit u64                │
//! │         │      │ 3: cluster u64, node u64, flags u8 (1 founder, 2 removed,    │
//! │         │      │    4 witness), name                                          │
//! │         │      │ 4: nothing                                                   │
//! └─────────┴──────┴──────────────────────────────────────────────────────────────┘
//! ```
//!
//! A node that stands alone writes bare commands to this stream, whose first byte is below 0x80.

use bytes::{Buf, BufMut, Bytes};
use staunch_raft::{HardState, LogPosition, Payload, entry::InvalidPayload};
use staunch_types::{LogIndex, Name, NodeId, Term};

/// Version 3; the highest bit tells it from a command.
const RECORD_VERSION: u8 = 0x83;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_IDENTITY: u8 = 3;
const KIND_FORGOTTEN: u8 = 4;

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
    /// Who the node is: the first record. A later one says that it is none of the cluster's any more.
    Identity(Identity),
}

/// Who a node is, and of which cluster: what it was told when it joined, and keeps for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which cluster it is.
    pub cluster: u64,
    /// The node's id in it.
    pub node: NodeId,
    /// The node has founded it.
    pub is_founder: bool,
    /// The node was removed from it.
    pub is_removed: bool,
    /// The node is a witness: it keeps no messages.
    pub is_witness: bool,
    /// The node's name.
    pub name: Name,
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
    /// A name or a flag that cannot be.
    #[error("an identity makes no sense")]
    Identity,
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
            Self::Identity(identity) => {
                out.put_u8(KIND_IDENTITY);
                identity.encode(&mut out);
            }
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
            KIND_IDENTITY => {
                let identity = Identity::take(&mut bytes)?;
                if bytes.is_empty() {
                    Ok(Self::Identity(identity))
                } else {
                    Err(CatalogRecordError::Size)
                }
            }
            kind => Err(CatalogRecordError::Kind(kind)),
        }
    }
}

impl Identity {
    /// Appends its bytes to `out`: cluster, node, flags, and the name with its length before it.
    ///
    /// # Panics
    /// Never: a name has at most 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.cluster);
        out.put_u64(self.node.0);
        let (is_removed, is_witness) = (u8::from(self.is_removed), u8::from(self.is_witness));
        out.put_u8(u8::from(self.is_founder) | is_removed << 1 | is_witness << 2);
        out.put_u8(u8::try_from(self.name.len()).expect("a name has at most 255 bytes"));
        out.put_slice(&self.name);
    }

    /// Takes what [`Identity::encode`] wrote off the front of `bytes`.
    ///
    /// # Errors
    /// [`CatalogRecordError`] on any other bytes.
    pub fn take(bytes: &mut Bytes) -> Result<Self, CatalogRecordError> {
        let (cluster, node) = (take_u64(bytes)?, NodeId(take_u64(bytes)?));
        let flags = take_u8(bytes)?;
        if flags > 7 {
            return Err(CatalogRecordError::Identity);
        }
        let size = usize::from(take_u8(bytes)?);
        if size > bytes.len() {
            return Err(CatalogRecordError::Size);
        }
        let name = Name::new(&bytes.split_to(size)).map_err(|_| CatalogRecordError::Identity)?;
        if node.0 == 0 || cluster == 0 {
            return Err(CatalogRecordError::Identity);
        }
        Ok(Self {
            cluster,
            node,
            is_founder: flags & 1 != 0,
            is_removed: flags & 2 != 0,
            is_witness: flags & 4 != 0,
            name,
        })
    }
}

fn take_u8(bytes: &mut Bytes) -> Result<u8, CatalogRecordError> {
    bytes.try_get_u8().map_err(|_| CatalogRecordError::Size)
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, CatalogRecordError> {
    bytes.try_get_u64().map_err(|_| CatalogRecordError::Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster: 7,
            node: NodeId(4),
            is_founder: true,
            is_removed: false,
            is_witness: true,
            name: Name::from_static("n1"),
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_nothing_else_is() {
        let record = CatalogRecord::Identity(identity());
        let bytes = record.encode();
        assert_eq!(CatalogRecord::decode(bytes.clone().into()), Ok(record));
        for size in 0..bytes.len() {
            let short = Bytes::copy_from_slice(&bytes[..size]);
            assert!(CatalogRecord::decode(short).is_err(), "{size} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        let refused = CatalogRecord::decode(longer.into());
        assert_eq!(refused, Err(CatalogRecordError::Size));
        // A flag that nobody knows.
        let mut wrong = bytes;
        wrong[18] = 8;
        let refused = CatalogRecord::decode(wrong.into());
        assert_eq!(refused, Err(CatalogRecordError::Identity));
    }

    #[test]
    fn nobody_is_node_0_or_of_no_cluster() {
        for (cluster, node) in [(0, 4), (7, 0)] {
            let record = CatalogRecord::Identity(Identity {
                cluster,
                node: NodeId(node),
                ..identity()
            });
            let refused = CatalogRecord::decode(record.encode().into());
            assert_eq!(refused, Err(CatalogRecordError::Identity));
        }
    }
}
