//! Frames of the catalog ([`PeerPayload::Catalog`]), and the whole catalog for members that lag.
//!
//! Big-endian; the first byte says what follows:
//!
//! ```text
//! 1  a batch for the leader to propose (staunch_replica::Batch)
//! 2  loss, index u64, term u64, total u64, offset u64, bytes: a piece of the state of that
//!    position, for a member that has forgotten everything, or (no loss) for one that lags
//! 3  index u64, term u64, upto u64: so much of it has come
//! 4  the state that the leader offers is not here
//! 5… who is who: `membership`
//! ```
//!
//! One piece is under way at a time. When all have come the leader offers the snapshot to the
//! group, which repeats that until it is taken.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::Catalog;
use staunch_raft::{LogPosition, SnapshotMeta};
use staunch_replica::CatalogState;
use staunch_types::{LogIndex, NodeId, Term, Timestamp};

use super::{PeerPayload, repair::Loss};
use crate::node::Node;

pub(super) const FRAME_PROPOSE: u8 = 1;
const FRAME_PIECE: u8 = 2;
const FRAME_PROGRESS: u8 = 3;
const FRAME_LACKING: u8 = 4;

/// Bytes of a piece.
const PIECE_SIZE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a whole catalog; above it something is wrong.
const STATE_SIZE_BYTES_MAX: u64 = 4 << 30;

/// How long a member may be silent before its transfer begins anew.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// The catalog on its way to a member.
pub(crate) struct Transfer {
    loss: Loss,
    meta: SnapshotMeta,
    state: Bytes,
    moved_at: Timestamp,
}

/// The catalog on its way from the leader.
pub(crate) struct Arrival {
    position: LogPosition,
    total: u64,
    bytes: Vec<u8>,
}

impl Transfer {
    pub(super) fn has_stalled(&self, now: Timestamp) -> bool {
        now.since(self.moved_at) >= STALLED_AFTER
    }

    fn piece(&self, offset: usize) -> Vec<Bytes> {
        let end = self.state.len().min(offset + PIECE_SIZE_BYTES_MAX);
        let mut head = vec![FRAME_PIECE];
        self.loss.put(&mut head);
        put_position(self.meta.last, &mut head);
        head.put_u64(self.state.len() as u64);
        head.put_u64(offset as u64);
        vec![head.into(), self.state.slice(offset..end)]
    }
}

fn put_position(position: LogPosition, out: &mut Vec<u8>) {
    out.put_u64(position.index.0);
    out.put_u64(position.term.0);
}

fn take_position(bytes: &mut Bytes) -> Option<LogPosition> {
    Some(LogPosition {
        index: LogIndex(bytes.try_get_u64().ok()?),
        term: Term(bytes.try_get_u64().ok()?),
    })
}

impl Node {
    /// [`PeerPayload::Catalog`] has come. What makes no sense is passed over: it is asked for
    /// again, or its sender gives up.
    pub(crate) fn catalog_received(&mut self, from: NodeId, mut payload: Bytes) {
        match payload.try_get_u8() {
            Ok(FRAME_PROPOSE) => self.propose_for_peer(&payload),
            Ok(FRAME_PIECE) => {
                self.take_piece(from, payload);
            }
            Ok(FRAME_PROGRESS) => {
                self.take_progress(from, payload);
            }
            Ok(FRAME_LACKING) => {
                if let Some(cluster) = &mut self.cluster {
                    let group = cluster.catalog.replica.group_mut();
                    group.withdraw_snapshot(from);
                }
            }
            _ => {}
        }
    }

    /// A member needs the whole catalog.
    pub(super) fn transfer_catalog_to(&mut self, node: NodeId) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let is_known = cluster.catalog.transfers.contains_key(&node);
        if is_known || !cluster.nodes.is_connected(node) {
            return;
        }
        let group = cluster.catalog.replica.group();
        let Some(loss) = cluster.repairs.loss_of(group, node) else {
            return;
        };
        let state = cluster.catalog.state(&self.catalog);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let transfer = Transfer {
            loss,
            meta: state.meta,
            state: bytes.into(),
            moved_at: now,
        };
        let piece = transfer.piece(0);
        cluster.catalog.transfers.insert(node, transfer);
        self.send(node, PeerPayload::Catalog, piece);
    }

    /// A member has got some of it.
    fn take_progress(&mut self, from: NodeId, mut payload: Bytes) -> Option<()> {
        let now = self.now;
        let position = take_position(&mut payload)?;
        let upto = usize::try_from(payload.try_get_u64().ok()?).ok()?;
        let group = &mut self.cluster.as_mut()?.catalog;
        let transfer = group.transfers.get_mut(&from)?;
        if transfer.meta.last != position || upto > transfer.state.len() {
            return None;
        }
        transfer.moved_at = now;
        if upto < transfer.state.len() {
            let piece = transfer.piece(upto);
            self.send(from, PeerPayload::Catalog, piece);
        } else {
            let transfer = group.transfers.remove(&from)?;
            let group = group.replica.group_mut();
            group.offer_snapshot(from, transfer.meta);
        }
        Some(())
    }

    /// The leader has sent some of it.
    fn take_piece(&mut self, from: NodeId, mut payload: Bytes) -> Option<()> {
        let loss = Loss::take(&mut payload)?;
        let position = take_position(&mut payload)?;
        let total = payload.try_get_u64().ok()?;
        let offset = payload.try_get_u64().ok()?;
        let cluster = self.cluster.as_mut()?;
        let own_loss = cluster.catalog_loss();
        let group = &mut cluster.catalog;
        if group.replica.has_forgotten() && loss != own_loss {
            return None;
        }
        if offset == 0 && total <= STATE_SIZE_BYTES_MAX {
            group.arrival = Some(Arrival {
                position,
                total,
                bytes: Vec::new(),
            });
        }
        let arrival = group.arrival.as_mut()?;
        let upto = arrival.bytes.len() as u64;
        if arrival.position != position || upto != offset {
            return None;
        }
        let upto = upto + payload.len() as u64;
        if upto > arrival.total {
            return None;
        }
        arrival.bytes.extend_from_slice(&payload);
        if upto == arrival.total {
            let bytes = Bytes::from(group.arrival.take()?.bytes);
            let state = CatalogState::decode(bytes).ok()?;
            Catalog::decode_whole(&state.catalog, self.config.seed).ok()?;
            if state.meta.last != position {
                return None;
            }
            group.replica.stage(state);
        }
        let mut progress = vec![FRAME_PROGRESS];
        put_position(position, &mut progress);
        progress.put_u64(upto);
        self.send(from, PeerPayload::Catalog, vec![progress.into()]);
        Some(())
    }

    /// The leader offers a state that has not come, or is lost.
    pub(super) fn lack_catalog(&mut self, leader: NodeId) {
        let frame = Bytes::from_static(&[FRAME_LACKING]);
        self.send(leader, PeerPayload::Catalog, vec![frame]);
    }
}
