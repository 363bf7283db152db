//! Heartbeats and their answers: whether others hear this node.
//!
//! A heartbeat says when it was sent, by its sender's clock, and is answered at once with the same
//! time. So a node knows until when at the least another has heard it, even if a path is broken in
//! one direction, or what arrives has been under way for long. What else comes from a node says only
//! that it lives.

use std::mem::size_of;

use bytes::{BufMut, BytesMut};
use staunch_types::{NodeId, Timestamp};

use crate::{cluster::PeerPayload, node::Node, queues::QueueSlot};

/// First byte of a heartbeat; the sender's time follows, in nanoseconds, 8 bytes.
const ASKS: u8 = 0;
/// First byte of an answer; the time of the heartbeat follows.
const ANSWERS: u8 = 1;

impl Node {
    pub(super) fn send_heartbeat(&mut self, to: NodeId) {
        self.send_time(to, ASKS, self.now);
    }

    /// A frame with another layout is of another version, and says only that its sender lives.
    pub(super) fn heartbeat_received(&mut self, from: NodeId, payload: &[u8]) {
        let Some((kind, sent)) = parse(payload) else {
            return;
        };
        if kind == ASKS {
            return self.send_time(from, ANSWERS, sent);
        }
        let now = self.now;
        if let Some(cluster) = self.cluster.as_mut().filter(|_| sent <= now) {
            cluster.nodes.hears_me(from, sent, cluster.patience_min);
        }
    }

    /// Whether this node, which takes itself for the queue's server, may have a successor without
    /// knowing: it has stood still, or it is not certain that a majority of the members has not given
    /// it up. What it hands out then may have been handed out by that one (contract C8).
    pub(crate) fn may_have_successor(&self, slot: &QueueSlot) -> bool {
        let (Some(cluster), true) = (&self.cluster, slot.is_replicated()) else {
            return false;
        };
        let Some(entry) = self.catalog.queue_by_id(slot.id) else {
            return false;
        };
        let members = &entry.placement.members;
        let (now, patience) = (self.now, cluster.patience_min);
        let stands_by = |id| id == cluster.me || cluster.nodes.stands_by(id, now, patience);
        let count = members.iter().filter(|id| stands_by(**id)).count();
        count <= members.len() / 2 || now.since(cluster.awake_since) < patience
    }

    fn send_time(&mut self, to: NodeId, kind: u8, time: Timestamp) {
        let mut payload = BytesMut::with_capacity(1 + size_of::<u64>());
        payload.put_u8(kind);
        payload.put_u64(time.0);
        self.send(to, PeerPayload::Heartbeat, vec![payload.freeze()]);
    }
}

fn parse(payload: &[u8]) -> Option<(u8, Timestamp)> {
    let (kind, time) = payload.split_first()?;
    let time = u64::from_be_bytes(time.try_into().ok()?);
    (*kind <= ANSWERS).then_some((*kind, Timestamp(time)))
}
