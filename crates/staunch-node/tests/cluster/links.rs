//! Links between nodes: what is sent arrives in order after a fixed delay, unless the link ends
//! before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use staunch_node::{PeerOutput, PeerPayload};
use staunch_types::Timestamp;

/// From one node to another.
const DELAY: Duration = Duration::from_millis(1);

/// Two nodes by their numbers, the lower first.
type Pair = (usize, usize);

/// All links of a cluster.
#[derive(Default)]
pub(crate) struct Links {
    /// Connections, with a number that no other has.
    up: BTreeMap<Pair, u64>,
    /// Pairs that cannot be connected.
    cut: BTreeSet<Pair>,
    /// Nothing of this node arrives, and with it nothing but heartbeats.
    pub(crate) muted: Option<usize>,
    connection_count: u64,
    /// Frames of the catalog that have arrived, by receiver.
    pub(crate) catalog_frames: BTreeMap<usize, usize>,
    /// Frames that have arrived: heartbeats, and all others.
    pub(crate) arrived: (usize, usize),
    under_way: VecDeque<Frame>,
}

/// Something under way.
pub(crate) struct Frame {
    at: Timestamp,
    connection: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) kind: PeerPayload,
    pub(crate) payload: Bytes,
}

pub(crate) fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

impl Links {
    /// Forbids or allows connections; true if there was one, which has ended.
    pub(crate) fn set_cut(&mut self, a: usize, b: usize, is_cut: bool) -> bool {
        if is_cut {
            self.cut.insert(pair(a, b));
            return self.end(a, b);
        }
        self.cut.remove(&pair(a, b));
        false
    }

    /// Connects two nodes that run, if that is possible and they are not yet.
    pub(crate) fn begin(&mut self, a: usize, b: usize) -> bool {
        let pair = pair(a, b);
        if self.cut.contains(&pair) || self.up.contains_key(&pair) {
            return false;
        }
        self.connection_count += 1;
        self.up.insert(pair, self.connection_count);
        true
    }

    /// Ends a connection, with all that is under way on it.
    pub(crate) fn end(&mut self, a: usize, b: usize) -> bool {
        let ended = self.up.remove(&pair(a, b));
        if let Some(ended) = ended {
            self.under_way.retain(|frame| frame.connection != ended);
        }
        ended.is_some()
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, frame: PeerOutput, now: Timestamp) {
        let Some(connection) = self.up.get(&pair(from, to)) else {
            return;
        };
        let is_lost = |muted| from == muted || to == muted && frame.kind != PeerPayload::Heartbeat;
        if self.muted.is_some_and(is_lost) {
            return;
        }
        let mut payload = BytesMut::new();
        for part in frame.payload {
            payload.extend_from_slice(&part);
        }
        self.under_way.push_back(Frame {
            at: now + DELAY,
            connection: *connection,
            from,
            to,
            kind: frame.kind,
            payload: payload.freeze(),
        });
    }

    /// The next frame that has arrived.
    pub(crate) fn arrived(&mut self, now: Timestamp) -> Option<Frame> {
        let frame = self.under_way.pop_front_if(|frame| frame.at <= now)?;
        match frame.kind {
            PeerPayload::Heartbeat => self.arrived.0 += 1,
            _ => self.arrived.1 += 1,
        }
        if frame.kind == PeerPayload::Catalog {
            *self.catalog_frames.entry(frame.to).or_default() += 1;
        }
        Some(frame)
    }
}
