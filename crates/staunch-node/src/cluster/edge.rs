//! What clients of this node ask of queues that are served elsewhere, and what clients of other
//! nodes ask of queues that are served here.
//!
//! * `asked`, `answers`: the client's node. A request for a queue that is not served here goes to
//!   the node that serves it; what that one says of it comes back. `abroad` remembers what is under
//!   way, `remotes` are consumers on other nodes.
//! * `shadow`: the serving node. A client of another node has a session here as well, its shadow,
//!   with the same id, so that consumers, limits and gets are those of any session.
//! * `claims`: when another node begins to serve a queue, consumers move there with what they hold.
//! * `settled`: settlements that are not known to be committed, and closings that wait for them.
//!
//! Frames of a peer are handled in their order, and none before this node has applied as much of
//! the catalog as the sender had: so nobody is asked about a queue that he does not know yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use staunch_broker::{Origin, QueueEntry};
use staunch_types::{
    ConnectionId, Event, Name, NodeId, QueueId, Refusal, Request, Term, Timestamp,
};

use super::{
    PeerPayload,
    abroad::Abroad,
    claims::Claiming,
    settled::Settlements,
    shadow::Home,
    wire::{self, Frame, Heard},
};
use crate::{input::Output, node::Node, queues::QueueSlot};

/// How often waits are looked at that may have become too long.
const CHECK_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

/// Bytes of frames of one peer that wait for the catalog; beyond it the peer has to begin anew.
const PARKED_SIZE_BYTES_MAX: usize = 32 << 20;

/// Frames of a peer that speak of a catalog which is ahead of this node's.
#[derive(Debug, Default)]
struct Parked {
    /// How much of the catalog each needs, and its size.
    frames: VecDeque<(u64, usize, Frame)>,
    size_bytes: usize,
    /// They were too many: they are gone, and nothing counts before the link was made anew.
    is_over: bool,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    /// Who serves a replicated queue, and in which term.
    servers: BTreeMap<QueueId, (NodeId, Term)>,
    /// What this node has begun to serve and has not told the others.
    announced: Vec<(QueueId, Term)>,
    /// Queues of whose next server this node heard while it still served them.
    succeeded: Vec<QueueId>,
    parked: BTreeMap<NodeId, Parked>,
    /// What goes to each node when the drain ends.
    outgoing: BTreeMap<NodeId, Vec<Frame>>,
    pub(super) abroad: Abroad,
    pub(super) settlements: Settlements,
    /// Queues that this node has begun to serve whose holders have not all spoken.
    pub(super) claiming: BTreeMap<QueueId, Claiming>,
    /// What came for queues that are kept here alone.
    pub(super) homes: BTreeMap<(QueueId, NodeId), Home>,
    /// Queues that this node has ceased to serve since each node's last barrier, or did not serve
    /// when that one asked something, with the term up to which what it was told is lost.
    pub(super) lost: BTreeMap<NodeId, BTreeMap<QueueId, Term>>,
    next_check: Timestamp,
}

impl Parked {
    /// Keeps a frame until the catalog is far enough. True when it is one too many.
    fn park(&mut self, at: u64, size_bytes: usize, frame: Frame) -> bool {
        if self.is_over {
            return false;
        }
        self.size_bytes += size_bytes;
        self.frames.push_back((at, size_bytes, frame));
        self.is_over = self.size_bytes > PARKED_SIZE_BYTES_MAX;
        if self.is_over {
            self.frames.clear();
        }
        self.is_over
    }

    /// The next frame, if the catalog is far enough for it.
    fn unpark(&mut self, applied: u64) -> Option<Frame> {
        let next = self.frames.pop_front_if(|(at, ..)| *at <= applied);
        let (_, size_bytes, frame) = next?;
        self.size_bytes -= size_bytes;
        Some(frame)
    }
}

impl Edge {
    /// Has a frame sent when the drain ends.
    pub(super) fn push(&mut self, to: NodeId, frame: Frame) {
        self.outgoing.entry(to).or_default().push(frame);
    }

    /// As [`Edge::push`] for a request of a client, about that queue if it is about one; those that
    /// follow each other share a frame.
    pub(super) fn push_request(
        &mut self,
        to: NodeId,
        (connection, vhost): (ConnectionId, &Name),
        queue: Option<QueueId>,
        request: Request,
    ) {
        let about = queue.map(|queue| (queue, self.term_of(queue)));
        let outgoing = self.outgoing.entry(to).or_default();
        if let Some(Frame::Requests {
            connection: of,
            about: same,
            requests,
            ..
        }) = outgoing.last_mut()
            && (*of, *same) == (connection, about)
        {
            return requests.push(request);
        }
        outgoing.push(Frame::Requests {
            connection,
            vhost: vhost.clone(),
            about,
            requests: vec![request],
        });
    }

    /// The term in which a queue is served, as far as this node knows; 0 if it is not replicated.
    pub(super) fn term_of(&self, queue: QueueId) -> Term {
        let known = self.servers.get(&queue);
        known.map_or(Term::default(), |(_, term)| *term)
    }

    /// What a node has said about a queue up to a term is lost.
    fn note_lost(&mut self, from: NodeId, queue: QueueId, term: Term) {
        let upto = self.lost.entry(from).or_default().entry(queue).or_default();
        *upto = term.max(*upto);
    }

    /// As [`Edge::push`] for what a shadow session is told.
    pub(crate) fn push_events(
        &mut self,
        to: NodeId,
        connection: ConnectionId,
        mut events: Vec<Event>,
    ) {
        events.retain(wire::travels);
        if !events.is_empty() {
            self.push(to, Frame::Events { connection, events });
        }
    }
}

impl Node {
    /// How much of the catalog this node has applied.
    fn catalog_applied(&self) -> u64 {
        let cluster = self.cluster.as_ref();
        cluster.map_or(0, |cluster| cluster.catalog.applied())
    }

    pub(crate) fn outboxes_size_bytes(&self) -> u64 {
        let cluster = self.cluster.as_ref();
        cluster.map_or(0, |cluster| cluster.outboxes.size_bytes() as u64)
    }

    /// The node that serves the queue; none if that is not known, or it is not connected.
    pub(crate) fn server_of(&self, id: QueueId) -> Option<NodeId> {
        let cluster = self.cluster.as_ref()?;
        if self.queues.get(id)?.is_served_here() {
            return Some(cluster.me);
        }
        let node = match self.home_of(id) {
            Some(home) => home,
            None => cluster.edge.servers.get(&id)?.0,
        };
        (node != cluster.me && cluster.nodes.is_connected(node)).then_some(node)
    }

    /// The node that keeps the queue alone.
    pub(super) fn home_of(&self, id: QueueId) -> Option<NodeId> {
        self.catalog.queue_by_id(id)?.placement.home()
    }

    /// Whether another node serves the queue, or none does: also if this one has decided that it
    /// goes, and the others have not yet agreed.
    #[inline]
    pub(crate) fn is_elsewhere(&self, id: QueueId) -> bool {
        let Some(cluster) = &self.cluster else {
            return false;
        };
        let slot = self.queues.get(id);
        slot.is_some_and(|slot| !slot.is_served_here() || cluster.catalog.is_doomed(id))
    }

    /// Whether this node has decided that the queue goes, and the others have not yet agreed.
    pub(crate) fn is_doomed(&self, id: QueueId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.catalog.is_doomed(id))
    }

    /// As [`Catalog::check_queue`](staunch_broker::Catalog::check_queue), but of an exclusive queue
    /// that is about to go nobody is told that it is locked: who asks waits until it has gone.
    pub(crate) fn known_queue(
        &self,
        vhost: &[u8],
        name: &[u8],
        connection: ConnectionId,
    ) -> Result<&QueueEntry, Refusal> {
        match self.catalog.check_queue(vhost, name, connection) {
            Err(refusal @ Refusal::QueueLocked { .. }) => {
                let entry = self.catalog.queue(vhost, name);
                entry.filter(|it| self.is_doomed(it.id)).ok_or(refusal)
            }
            found => found,
        }
    }

    pub(crate) fn edge_peer_up(&mut self, node: NodeId, is_restarted: bool) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.edge.outgoing.remove(&node);
        let me = cluster.me;
        let served = cluster.edge.servers.iter();
        let served = served.filter(|(_, (server, _))| *server == me);
        let served: Vec<_> = served.map(|(id, (_, term))| (*id, *term)).collect();
        if !served.is_empty() {
            cluster.edge.push(node, Frame::Serves(served));
        }
        self.greet_with_alarms(node);
        if is_restarted {
            self.give_up_sent(node);
        }
        for id in self.queues_of_interest() {
            if self.home_of(id) == Some(node) {
                self.resume(id, node);
            }
        }
    }

    /// Queues that something of this node waits for.
    fn queues_of_interest(&self) -> BTreeSet<QueueId> {
        let Some(cluster) = &self.cluster else {
            return BTreeSet::new();
        };
        let outboxes = cluster.outboxes.queues().into_iter();
        let edge = &cluster.edge;
        let others = edge.abroad.queues().chain(edge.settlements.queues());
        outboxes.chain(others).collect()
    }

    pub(crate) fn edge_peer_down(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let edge = &mut cluster.edge;
        edge.outgoing.remove(&node);
        edge.parked.remove(&node);
        edge.lost.remove(&node);
        edge.servers.retain(|_, (server, _)| *server != node);
        edge.settlements.server_lost(node);
        self.forget_link(node);
        let Some(cluster) = &self.cluster else { return };
        let edge = &cluster.edge;
        let spoke: Vec<_> = edge.claiming.keys().copied().collect();
        for id in spoke {
            self.has_claimed_all(id, node, None);
        }
        self.end_shadows_of(node);
        self.lose_server(node);
        self.hear_alarms(node, false, false);
    }

    /// [`super::PeerPayload::Queue`] has come.
    pub(crate) fn queue_received(&mut self, from: NodeId, payload: Bytes) {
        if !self.takes_requests() {
            return;
        }
        let size_bytes = payload.len();
        let Ok((at, frame)) = wire::decode(payload) else {
            // Of another version: who cannot be understood is as good as silent.
            return;
        };
        if let Frame::Alarm { memory, disk } = frame {
            // About its sender, whatever the catalog is.
            return self.hear_alarms(from, memory, disk);
        }
        let applied = self.catalog_applied();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if at <= applied && !cluster.edge.parked.contains_key(&from) {
            return self.take_frame(from, frame);
        }
        let parked = cluster.edge.parked.entry(from).or_default();
        if parked.park(at, size_bytes, frame)
            && let Some(peer) = cluster.nodes.connected_name(from)
        {
            self.outputs.push_back(Output::EndLink(peer));
        }
    }

    /// Handles what has waited for the catalog.
    fn unpark(&mut self) {
        let applied = self.catalog_applied();
        let Some(cluster) = &self.cluster else { return };
        if cluster.edge.parked.is_empty() {
            return;
        }
        let nodes: Vec<_> = cluster.edge.parked.keys().copied().collect();
        for node in nodes {
            while let Some(cluster) = &mut self.cluster
                && let Some(parked) = cluster.edge.parked.get_mut(&node)
            {
                let Some(frame) = parked.unpark(applied) else {
                    if parked.frames.is_empty() && !parked.is_over {
                        cluster.edge.parked.remove(&node);
                    }
                    break;
                };
                self.take_frame(node, frame);
            }
        }
    }

    fn take_frame(&mut self, from: NodeId, frame: Frame) {
        match frame {
            Frame::Publish(published) => self.take_published(from, published),
            Frame::Heard(heard) => self.outbox_heard(&heard),
            Frame::Room(queue) => self.use_room(queue),
            Frame::Alarm { memory, disk } => self.hear_alarms(from, memory, disk),
            Frame::Serves(queues) => {
                for (id, term) in &queues {
                    self.served_by(*id, from, *term);
                }
                self.queue_frame(from, Frame::ClaimedAll(queues));
            }
            Frame::Requests {
                connection,
                vhost,
                about,
                requests,
            } => {
                if self.is_for_this_server(from, about) {
                    self.take_requests(from, connection, &vhost, requests);
                }
            }
            Frame::Events { connection, events } => self.take_events(from, connection, events),
            Frame::Forget(connection) => self.forget_asked_here(from, connection),
            Frame::Forgotten(connection) => self.has_forgotten_asked(from, connection),
            Frame::Barrier(number) => self.answer_barrier(from, number),
            Frame::Passed { number, lost } => self.barrier_passed(from, number, &lost),
            Frame::Claim(claim) => {
                if self.is_for_this_server(from, Some((claim.queue, claim.term))) {
                    self.take_claim(from, &claim);
                }
            }
            Frame::Claimed { token, consumer } => self.claim_answered(from, token, consumer),
            Frame::ClaimedAll(queues) => {
                for (id, term) in queues {
                    self.has_claimed_all(id, from, Some(term));
                }
            }
            Frame::Settled { queue, term, runs } => {
                if self.is_for_this_server(from, Some((queue, term))) {
                    self.take_settled(queue, &runs);
                }
            }
        }
    }

    /// Whether what a node says about a queue is meant for the server that this node is now: not if
    /// it does not serve the queue, or has begun to once more since. Then it is as if it had
    /// been lost, and the sender says it again to whoever serves the queue.
    fn is_for_this_server(&mut self, from: NodeId, about: Option<(QueueId, Term)>) -> bool {
        let Some((queue, term)) = about else {
            return true;
        };
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let serves = match self.queues.get(queue) {
            Some(slot) if slot.is_replicated() => {
                let served = cluster.edge.servers.get(&queue);
                slot.is_served_here() && served == Some(&(cluster.me, term))
            }
            Some(slot) => slot.is_served_here() && !cluster.catalog.is_doomed(queue),
            None => false,
        };
        if !serves {
            cluster.edge.note_lost(from, queue, term);
        }
        serves
    }

    /// Some node serves the queue from now on, in this term; it may be this one.
    pub(crate) fn served_by(&mut self, queue: QueueId, leader: NodeId, term: Term) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let (me, edge) = (cluster.me, &mut cluster.edge);
        if let Some((_, known)) = edge.servers.get(&queue)
            && *known >= term
        {
            return;
        }
        edge.servers.insert(queue, (leader, term));
        if leader == me {
            edge.announced.push((queue, term));
            self.begin_claims(queue, term);
        }
        self.resume(queue, leader);
    }

    /// What waited for the queue's server goes on.
    fn resume(&mut self, queue: QueueId, server: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let resent_count = cluster.outboxes.rewind(queue);
        cluster.failovers.resent(queue, resent_count);
        self.settle_again(queue, server);
        self.move_consumers(queue, server);
        self.ask_again(queue, server);
    }

    /// What waited for queues that this node has ceased to serve goes to servers that it had heard of
    /// before.
    fn follow_successors(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for id in std::mem::take(&mut cluster.edge.succeeded) {
            if let Some(cluster) = &self.cluster
                && let Some((server, _)) = cluster.edge.servers.get(&id).copied()
                && server != cluster.me
            {
                self.resume(id, server);
            }
        }
    }

    /// This node served the queue in `slot`, which is at hand, in that term and does not any more:
    /// what its clients wait for goes to the next server, and shadows' consumers are forgotten.
    pub(super) fn leave_to_others(&mut self, slot: &mut QueueSlot, term: Term) {
        let queue = slot.id;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let me = cluster.me;
        cluster.edge.claiming.remove(&queue);
        match cluster.edge.servers.get(&queue) {
            Some((server, _)) if *server == me => drop(cluster.edge.servers.remove(&queue)),
            // That one was faster to say so than this node to notice.
            Some(_) => cluster.edge.succeeded.push(queue),
            None => {}
        }
        cluster.outboxes.rewind(queue);
        for node in cluster.nodes.others() {
            cluster.edge.note_lost(node, queue, term);
        }
        self.keep_uncommitted(slot, term);
        self.disperse(slot);
    }

    /// This node, which serves the queue, has applied everything of `origin` up to `number`.
    pub(crate) fn heard(&mut self, queue: QueueId, origin: Origin, number: u64) {
        let member = self.queues.get(queue).and_then(QueueSlot::member);
        let refused = member.and_then(|member| member.refused.get(&origin));
        let heard = Heard {
            queue,
            upto: number,
            doubtful: 0,
            // The answer to the offer may have been lost with its link.
            refused: refused.into_iter().flatten().copied().collect(),
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if origin == cluster.origin {
            return self.outbox_heard(&heard);
        }
        if let Some(node) = cluster.nodes.find_incarnation(origin.0) {
            cluster.edge.push(node, Frame::Heard(heard));
        }
    }

    /// A queue is gone from the catalog.
    pub(crate) fn edge_queue_removed(&mut self, slot: &mut QueueSlot) {
        let id = slot.id;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.edge.servers.remove(&id);
        cluster.edge.claiming.remove(&id);
        let of_queue = (id, NodeId(0))..=(id, NodeId(u64::MAX));
        let homes: Vec<_> = cluster.edge.homes.range(of_queue).collect();
        let homes: Vec<_> = homes.into_iter().map(|(key, _)| *key).collect();
        for key in homes {
            cluster.edge.homes.remove(&key);
        }
        self.settlements_void(id);
        self.drop_outbox(id);
        self.cancel_abroad(slot);
    }

    /// Does what is due; part of every drain.
    pub(crate) fn advance_edge(&mut self, now: Timestamp) {
        self.follow_successors();
        self.unpark();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if now < cluster.edge.next_check {
            return;
        }
        cluster.edge.next_check = now + CHECK_PERIOD;
        self.check_outboxes(now);
        self.check_asked(now);
        self.check_claiming(now);
        self.check_closings(now);
    }

    /// Tells a node that a queue which has refused something of it has room.
    pub(crate) fn send_room(&mut self, to: NodeId, queue: QueueId) {
        self.queue_frame(to, Frame::Room(queue));
    }

    /// Has a frame sent when the drain ends.
    pub(crate) fn queue_frame(&mut self, to: NodeId, frame: Frame) {
        if let Some(cluster) = &mut self.cluster {
            cluster.edge.push(to, frame);
        }
    }

    /// Sends a frame, before those that wait for the end of the drain.
    pub(super) fn send_frame(&mut self, to: NodeId, frame: &Frame) {
        let at = self.catalog_applied();
        self.send(to, PeerPayload::Queue, wire::encode(at, frame));
    }

    /// Sends what has gathered in this drain.
    pub(crate) fn flush_edge(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let announced = std::mem::take(&mut cluster.edge.announced);
        if !announced.is_empty() {
            for node in cluster.nodes.others() {
                cluster.edge.push(node, Frame::Serves(announced.clone()));
            }
        }
        cluster.edge.push_drained();
        for (node, number) in cluster.edge.settlements.take_barriers() {
            cluster.edge.push(node, Frame::Barrier(number));
        }
        for (node, frames) in std::mem::take(&mut cluster.edge.outgoing) {
            for frame in frames {
                self.send_frame(node, &frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Frame {
        Frame::Room(QueueId(1))
    }

    #[test]
    fn frames_wait_for_the_catalog_in_order() {
        let mut parked = Parked::default();
        assert!(!parked.park(5, 10, Frame::Barrier(1)) && !parked.park(3, 10, Frame::Barrier(2)));
        assert!(
            parked.unpark(4).is_none(),
            "the first is not to be overtaken"
        );
        assert!(matches!(parked.unpark(5), Some(Frame::Barrier(1))));
        assert!(matches!(parked.unpark(5), Some(Frame::Barrier(2))));
        assert_eq!(parked.size_bytes, 0);
    }

    #[test]
    fn too_many_end_the_link_once() {
        let mut parked = Parked::default();
        let one = PARKED_SIZE_BYTES_MAX / 4;
        let is_over: Vec<_> = (0..7).map(|_| parked.park(1, one, room())).collect();
        assert_eq!(is_over, [false, false, false, false, true, false, false]);
        assert!(parked.unpark(9).is_none() && parked.frames.is_empty());
    }
}
