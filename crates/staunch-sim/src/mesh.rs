//! The links between the nodes of a cluster, as `staunch-peer` and TCP make them.
//!
//! Each pair of nodes has at most one connection, and two pipes. A pipe keeps its order and loses
//! nothing until the connection ends; what may get lost is dropped by its sender when too much
//! waits, and what may not ends the connection then. A cut holds everything back: after a while the
//! kernels give up, on both sides and not at the same time.
//!
//! What a node is told waits in the pipe as well, so that it hears `Up`, frames and `Down` in order.

use std::collections::VecDeque;

use bytes::Bytes;
use staunch_node::{PeerPayload, SendClass};

/// Frames that wait in a pipe before some are dropped, or the connection is ended.
const FRAMES_MAX: usize = 4_096;

/// What a node is told, or a frame for it.
#[derive(Debug)]
pub enum Content {
    /// It is connected.
    Up {
        /// The connection's number.
        session: u64,
        /// The peer's process.
        incarnation: u64,
    },
    /// A frame.
    Frame(PeerPayload, Bytes),
    /// The connection is gone, and the peer has or has not said goodbye.
    Down {
        /// It has.
        goodbye: bool,
        /// Its own kernel says so: no cut holds that back.
        is_local: bool,
    },
}

#[derive(Debug)]
struct Item {
    at: u64,
    content: Content,
}

/// What is on its way from one node to another.
#[derive(Debug, Default)]
pub struct Pipe {
    items: VecDeque<Item>,
    /// Nothing arrives before this virtual time, in nanoseconds.
    pub cut_until: u64,
    /// What is sent before this virtual time takes long.
    pub clogged_until: u64,
}

/// What became of a frame that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It arrives at this virtual time, in nanoseconds, if nothing comes in between.
    Arrives(u64),
    /// It was dropped.
    Dropped,
    /// It must not be dropped: the connection is to be ended.
    Full,
}

/// The connection of two nodes.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its number; none: there is no connection.
    pub session: Option<u64>,
    /// The session of which the lower and the higher node have heard.
    pub heard: [Option<u64>; 2],
    /// How long the next attempt waits, in nanoseconds.
    pub wait_nanos: u64,
    /// An attempt is planned.
    pub is_dialling: bool,
}

/// All links.
#[derive(Debug)]
pub struct Mesh {
    nodes: usize,
    pipes: Vec<Pipe>,
    connections: Vec<Connection>,
    sessions: u64,
}

impl Pipe {
    /// Sends a frame that takes `delay` nanoseconds; it may go before frames of the other class
    /// that have not gone.
    pub fn send(
        &mut self,
        (kind, payload): (PeerPayload, Bytes),
        (now, delay): (u64, u64),
        overtakes: bool,
    ) -> Sent {
        let class = kind.class();
        if self.items.len() >= FRAMES_MAX {
            return match class {
                SendClass::Lossy => Sent::Dropped,
                SendClass::Reliable => Sent::Full,
            };
        }
        let mut place = self.items.len();
        if overtakes && class == SendClass::Lossy {
            let is_reliable = |item: &Item| matches!(&item.content, Content::Frame(kind, _) if kind.class() == SendClass::Reliable);
            while place > 0 && is_reliable(&self.items[place - 1]) {
                place -= 1;
            }
        }
        let content = Content::Frame(kind, payload);
        Sent::Arrives(self.insert(place, content, now + delay))
    }

    /// Adds news for the node at the end.
    pub fn tell(&mut self, content: Content, at: u64) -> u64 {
        self.insert(self.items.len(), content, at)
    }

    fn insert(&mut self, place: usize, content: Content, at: u64) -> u64 {
        let before = place
            .checked_sub(1)
            .map_or(0, |before| self.items[before].at);
        let at = at.max(before);
        self.items.insert(place, Item { at, content });
        at
    }

    /// What has arrived by now.
    pub fn arrive(&mut self, now: u64) -> Option<Content> {
        let is_cut = self.cut_until > now;
        let is_here = |item: &mut Item| {
            let is_local = matches!(item.content, Content::Down { is_local: true, .. });
            item.at <= now && (!is_cut || is_local)
        };
        self.items.pop_front_if(is_here).map(|item| item.content)
    }

    /// Whether the node will hear that it is connected.
    pub fn has_up(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|item| matches!(item.content, Content::Up { .. }))
    }

    /// Frames and news that have not arrived.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Loses all but the first so many.
    pub fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }
}

impl Mesh {
    /// Links between so many nodes; all are down.
    pub fn new(nodes: usize) -> Self {
        let count = nodes * nodes;
        Self {
            nodes,
            pipes: (0..count).map(|_| Pipe::default()).collect(),
            connections: (0..count).map(|_| Connection::default()).collect(),
            sessions: 0,
        }
    }

    /// What goes from one node to another.
    pub fn pipe(&mut self, from: usize, to: usize) -> &mut Pipe {
        &mut self.pipes[from * self.nodes + to]
    }

    /// The connection of two nodes.
    pub fn connection(&mut self, one: usize, other: usize) -> &mut Connection {
        let (low, high) = (one.min(other), one.max(other));
        &mut self.connections[low * self.nodes + high]
    }

    /// The session of which `node` has heard on its connection with `peer`.
    pub fn heard(&mut self, node: usize, peer: usize) -> &mut Option<u64> {
        &mut self.connection(node, peer).heard[usize::from(node > peer)]
    }

    /// The number of a new session.
    pub fn next_session(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    /// All pairs, the lower first.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let nodes = self.nodes;
        (0..nodes).flat_map(move |low| (low + 1..nodes).map(move |high| (low, high)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: PeerPayload) -> (PeerPayload, Bytes) {
        (kind, Bytes::new())
    }

    #[test]
    fn a_cut_holds_back_all_but_what_the_own_kernel_says() {
        let mut pipe = Pipe {
            cut_until: 100,
            ..Pipe::default()
        };
        let sent = pipe.send(frame(PeerPayload::Queue), (0, 10), false);
        assert_eq!(sent, Sent::Arrives(10));
        assert!(pipe.arrive(50).is_none());
        assert!(matches!(pipe.arrive(100), Some(Content::Frame(..))));
        pipe.cut_until = 200;
        pipe.tell(
            Content::Down {
                goodbye: false,
                is_local: true,
            },
            120,
        );
        assert!(matches!(pipe.arrive(120), Some(Content::Down { .. })));
    }

    #[test]
    fn what_may_get_lost_may_overtake_what_may_not_and_nothing_else() {
        let mut pipe = Pipe::default();
        let (session, incarnation) = (1, 1);
        pipe.tell(
            Content::Up {
                session,
                incarnation,
            },
            0,
        );
        for kind in [PeerPayload::Raft, PeerPayload::Queue, PeerPayload::Queue] {
            pipe.send(frame(kind), (0, 5), true);
        }
        pipe.send(frame(PeerPayload::Heartbeat), (0, 1), true);
        let kinds: Vec<_> = std::iter::from_fn(|| pipe.arrive(5))
            .map(|content| match content {
                Content::Frame(kind, _) => Some(kind),
                Content::Up { .. } | Content::Down { .. } => None,
            })
            .collect();
        let (raft, queue) = (Some(PeerPayload::Raft), Some(PeerPayload::Queue));
        assert_eq!(
            kinds,
            [None, raft, Some(PeerPayload::Heartbeat), queue, queue]
        );
    }
}
