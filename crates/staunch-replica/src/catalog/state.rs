//! What a checkpoint says of the catalog on one of several nodes, and what a member is sent that
//! lags too far.

use bytes::Bytes;
use staunch_raft::{HardState, LogPosition, SnapshotMeta};

use crate::state::{StateError, decode_head, encode_head};

/// The catalog as of some entry. Laid out as a [`ReplicaState`](crate::ReplicaState) with the
/// catalog in the place of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogState {
    /// The last entry applied, and the members then.
    pub meta: SnapshotMeta,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// All of the catalog: [`staunch_broker::Catalog::encode_whole`].
    pub catalog: Bytes,
}

impl CatalogState {
    /// Appends its bytes to `out`.
    ///
    /// # Panics
    /// If there are more members than a group may have.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let pledged = LogPosition::default();
        encode_head(&self.meta, pledged, &self.hard_state, out);
        out.extend_from_slice(&self.catalog);
    }

    /// Reads what [`CatalogState::encode`] wrote; `bytes` hold nothing else.
    ///
    /// # Errors
    /// [`StateError`] on any other bytes. The catalog is not looked at.
    pub fn decode(mut bytes: Bytes) -> Result<Self, StateError> {
        let (meta, _, hard_state) = decode_head(&mut bytes)?;
        Ok(Self {
            meta,
            hard_state,
            catalog: bytes,
        })
    }
}
