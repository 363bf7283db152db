//! Links between nodes: who hears what, and when.

use bytes::Bytes;
use staunch_node::{
    Input, MembershipNews, PeerInput, PeerOutput, PeerPayload, SendClass, deliveries_in,
};
use staunch_raft::Message;
use staunch_types::Name;

use crate::{
    meddling::{ask_who_it_was, corrupt_piece, in_name_of, meddle, pass_early},
    mesh::{Content, Sent},
    planted::Planted,
    schedule::{MILLIS, SECONDS},
    world::{Happening, World},
};

/// First wait before the next attempt to connect, as `staunch-peer` has it, in nanoseconds.
const DIAL_WAIT_FIRST: u64 = 50 * MILLIS;
/// The longest.
const DIAL_WAIT_MAX: u64 = SECONDS;
/// How long a kernel waits for an answer to what it has sent, in nanoseconds.
const KERNEL_PATIENCE: u64 = 3 * SECONDS;

/// How a process ended, as its peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It stopped and said goodbye.
    Stopped,
    /// It is gone.
    Crashed,
}

/// The name by which the others know a node.
pub(super) fn peer_name(node: usize) -> Name {
    Name::new(format!("node-{node}").as_bytes()).expect("a short name")
}

impl World {
    /// A node has found out something about its cluster.
    pub(super) fn note_membership(&mut self, node: usize, news: &MembershipNews) {
        let name = self.name(node);
        self.witness.line(format_args!("{name}: {news:?}"));
        match news {
            MembershipNews::Founded => self.witness.coverage.hit("cluster founded"),
            MembershipNews::Joined { .. } => self.witness.coverage.hit("node joined"),
            MembershipNews::Removed => {
                self.witness.coverage.hit("node removed");
                self.removed(node);
            }
            MembershipNews::Links(_) | MembershipNews::Foreign { .. } => {}
        }
    }

    /// A node's process runs: peers connect.
    pub(super) fn open_links(&mut self, node: usize) {
        for peer in 0..self.machines.len() {
            if peer != node {
                self.mesh.connection(node, peer).wait_nanos = DIAL_WAIT_FIRST;
                self.dial_later(node, peer);
            }
        }
    }

    /// A node's process is gone: the others may have sent to it in vain, and what it had sent may
    /// still arrive.
    pub(super) fn close_links(&mut self, node: usize, ending: Ending) {
        let now = self.schedule.now_nanos();
        for peer in 0..self.machines.len() {
            if peer == node {
                continue;
            }
            let connection = self.mesh.connection(node, peer);
            let had_session = connection.session.take().is_some();
            *self.mesh.heard(node, peer) = None;
            self.mesh.pipe(peer, node).truncate(0);
            if !had_session {
                continue;
            }
            let latency = self.network.latency(self.knobs.net_delay_nanos);
            let pipe = self.mesh.pipe(node, peer);
            let is_cut = pipe.cut_until > now;
            let (goodbye, delay) = match ending {
                Ending::Stopped => (true, latency),
                Ending::Crashed => {
                    let left = self.network.index(pipe.len() + 1);
                    pipe.truncate(left);
                    let is_silent = self.network.chance(500);
                    let silence = self.network.below(KERNEL_PATIENCE);
                    (false, if is_silent { silence } else { latency })
                }
            };
            let (delay, is_local) = if is_cut {
                (KERNEL_PATIENCE, true)
            } else {
                (delay, false)
            };
            let pipe = self.mesh.pipe(node, peer);
            let at = pipe.tell(Content::Down { goodbye, is_local }, now + delay);
            self.schedule.at(at, Happening::PeerArrival(node, peer));
        }
    }

    /// The lower of two nodes tries to connect, when it has waited.
    fn dial_later(&mut self, one: usize, other: usize) {
        let (low, high) = (one.min(other), one.max(other));
        let connection = self.mesh.connection(low, high);
        if std::mem::replace(&mut connection.is_dialling, true) {
            return;
        }
        let wait = connection.wait_nanos.max(DIAL_WAIT_FIRST);
        connection.wait_nanos = (wait * 2).min(DIAL_WAIT_MAX);
        let wait = wait - self.network.below(wait / 2);
        self.schedule.after(wait, Happening::PeerDial(low, high));
    }

    /// An attempt to connect.
    pub(super) fn dial(&mut self, low: usize, high: usize) {
        let now = self.schedule.now_nanos();
        let is_cut = [(low, high), (high, low)]
            .iter()
            .any(|(from, to)| self.mesh.pipe(*from, *to).cut_until > now);
        let is_heard = self.mesh.heard(low, high).is_some() || self.mesh.pipe(high, low).has_up();
        self.mesh.connection(low, high).is_dialling = false;
        let are_up = [low, high]
            .iter()
            .all(|node| self.machines[*node].process.is_some());
        if !are_up || is_heard {
            return;
        }
        if is_cut || self.is_paused(high) {
            return self.dial_later(low, high);
        }
        let session = self.mesh.next_session();
        self.witness
            .line(format_args!("nodes {low} and {high} connect as {session}"));
        self.witness.coverage.hit("peers connect");
        let connection = self.mesh.connection(low, high);
        connection.session = Some(session);
        connection.wait_nanos = DIAL_WAIT_FIRST;
        for (from, to) in [(low, high), (high, low)] {
            let latency = self.network.latency(self.knobs.net_delay_nanos) * 3;
            let has_heard = self.mesh.heard(to, from).is_some();
            let pipe = self.mesh.pipe(from, to);
            pipe.truncate(0);
            if has_heard {
                let (goodbye, is_local) = (false, false);
                pipe.tell(Content::Down { goodbye, is_local }, now + latency);
            }
            let incarnation = self.machines[from].incarnation;
            let up = Content::Up {
                session,
                incarnation,
            };
            let at = pipe.tell(up, now + latency);
            self.schedule.at(at, Happening::PeerArrival(from, to));
        }
    }

    /// A node sends a frame.
    pub(super) fn send_to_peer(&mut self, from: usize, output: PeerOutput) {
        let nodes = 0..self.machines.len();
        let Some(to) = nodes
            .into_iter()
            .find(|node| peer_name(*node) == output.peer)
        else {
            return self.stuck(format!("a frame for a stranger: {}", output.peer));
        };
        let session = self.mesh.connection(from, to).session;
        if session.is_none() || *self.mesh.heard(from, to) != session {
            return;
        }
        let is_reliable = output.kind.class() == SendClass::Reliable;
        if self.planted == Some(Planted::DropFrame) && is_reliable && self.network.chance(10) {
            self.witness.coverage.hit("planted bug struck");
            return;
        }
        let mut payload = join(output.payload);
        if self.machines[from].keeps_id
            && output.kind == PeerPayload::Catalog
            && let Some(changed) = ask_who_it_was(&payload)
        {
            payload = changed;
        }
        let (mut from, mut to) = (from, to);
        if self.planted == Some(Planted::PassEarly)
            && output.kind == PeerPayload::Queue
            && let Some(answer) = pass_early(&payload)
        {
            self.witness.coverage.hit("planted bug struck");
            (from, to, payload) = (to, from, answer);
        }
        if output.kind == PeerPayload::Raft {
            self.plant_in_batch(&mut payload);
            self.overhear(from, to, &payload);
        }
        if self.planted == Some(Planted::CorruptRepair)
            && output.kind == PeerPayload::Transfer
            && let Some(changed) = corrupt_piece(&payload)
        {
            self.witness.coverage.hit("planted bug struck");
            payload = changed;
        }
        if output.kind == PeerPayload::Queue {
            for (connection, delivery) in deliveries_in(&payload) {
                self.witness.hand_out(from, connection, &delivery);
            }
        }
        let now = self.schedule.now_nanos();
        let mut delay = self.network.latency(self.knobs.net_delay_nanos);
        let pipe = self.mesh.pipe(from, to);
        if pipe.clogged_until > now {
            delay += self.network.below(SECONDS);
        }
        let overtakes = self.network.chance(300);
        match pipe.send((output.kind, payload), (now, delay), overtakes) {
            Sent::Arrives(at) => self.schedule.at(at, Happening::PeerArrival(from, to)),
            Sent::Dropped => self.witness.coverage.hit("frame between nodes dropped"),
            Sent::Full => {
                self.witness.coverage.hit("link between nodes full");
                self.break_link(from, to);
            }
        }
    }

    fn plant_in_batch(&mut self, batch: &mut Bytes) {
        if let Some(planted) = self.planted
            && let Some(changed) = meddle(planted, batch, &mut self.network)
        {
            self.witness.coverage.hit("planted bug struck");
            *batch = changed;
        }
    }

    /// Looks at what members of groups tell each other.
    fn overhear(&mut self, from: usize, to: usize, batch: &Bytes) {
        match staunch_raft::wire::decode(batch) {
            Ok(messages) => {
                for message in messages {
                    if self.planted == Some(Planted::LearnerCounts) {
                        self.count_learner(to, &message);
                    }
                    self.witness
                        .detail(format_args!("node {from} says {message:?}"));
                    let wrong = self.consensus.hear(&message);
                    self.consensus_broken(wrong);
                }
            }
            Err(error) => self.consensus_broken(vec![format!("an unreadable message: {error}")]),
        }
    }

    /// What somebody says who only learns is said once more in the name of a voter.
    fn count_learner(&mut self, to: usize, message: &Message) {
        let Some((voter, machine)) = self.consensus.voter_beside(message) else {
            return;
        };
        if let Some(forged) = in_name_of(voter, message) {
            self.witness.coverage.hit("planted bug struck");
            let times = (self.schedule.now_nanos(), 0);
            let frame = (PeerPayload::Raft, forged);
            if let Sent::Arrives(at) = self.mesh.pipe(machine, to).send(frame, times, true) {
                let arrival = Happening::PeerArrival(machine, to);
                self.schedule.at(at, arrival);
            }
        }
    }

    /// Something may have arrived.
    pub(super) fn peer_arrival(&mut self, from: usize, to: usize) {
        let now = self.schedule.now_nanos();
        while let Some(content) = self.mesh.pipe(from, to).arrive(now) {
            let peer = peer_name(from);
            let input = match content {
                Content::Up {
                    session,
                    incarnation,
                } => {
                    *self.mesh.heard(to, from) = Some(session);
                    PeerInput::Up { peer, incarnation }
                }
                Content::Down { goodbye, .. } => {
                    if self.mesh.heard(to, from).take().is_none() {
                        continue;
                    }
                    self.dial_later(from, to);
                    PeerInput::Down { peer, goodbye }
                }
                Content::Frame(kind, payload) => {
                    self.witness.trace.absorb(&payload);
                    PeerInput::Received {
                        peer,
                        kind,
                        payload,
                    }
                }
            };
            if let Some(process) = &mut self.machines[to].process {
                process.inbox.push_back(Input::Peer(input));
            }
        }
        self.plan_drain(to);
    }

    /// A connection breaks: both ends hear of it, and what was under way is lost.
    /// A node wants a link ended.
    pub(super) fn end_link(&mut self, node: usize, peer: &Name) {
        let other = (0..self.machines.len()).find(|other| peer_name(*other) == *peer);
        if let Some(other) = other {
            self.break_link(node, other);
        }
    }

    pub(super) fn break_link(&mut self, one: usize, other: usize) {
        if self.mesh.connection(one, other).session.take().is_none() {
            return;
        }
        self.witness
            .line(format_args!("the link of nodes {one} and {other} breaks"));
        let now = self.schedule.now_nanos();
        for (from, to) in [(one, other), (other, one)] {
            let latency = self.network.latency(self.knobs.net_delay_nanos);
            let pipe = self.mesh.pipe(from, to);
            let left = self.network.index(pipe.len() + 1);
            // Where nothing arrives the own kernel tells, and has nothing else.
            let is_local = pipe.cut_until > now;
            pipe.truncate(if is_local { 0 } else { left });
            let goodbye = false;
            let at = pipe.tell(Content::Down { goodbye, is_local }, now + latency);
            self.schedule.at(at, Happening::PeerArrival(from, to));
        }
        // If one of them has not heard of this session it will not hear of its end.
        self.dial_later(one, other);
    }

    /// Nothing arrives from one node at another for a while.
    pub(super) fn cut(&mut self, from: usize, to: usize, nanos: u64) {
        let until = self.schedule.now_nanos() + nanos;
        let pipe = self.mesh.pipe(from, to);
        pipe.cut_until = pipe.cut_until.max(until);
        self.schedule.at(until, Happening::PeerArrival(from, to));
        if nanos > KERNEL_PATIENCE
            && let Some(session) = self.mesh.connection(from, to).session
        {
            let given_up = Happening::PeerGivenUp(from, to, session);
            self.schedule.after(KERNEL_PATIENCE, given_up);
        }
    }

    /// A kernel has waited long enough.
    pub(super) fn give_up_peer(&mut self, from: usize, to: usize, session: u64) {
        let now = self.schedule.now_nanos();
        let is_cut = self.mesh.pipe(from, to).cut_until > now;
        if is_cut && self.mesh.connection(from, to).session == Some(session) {
            self.witness.coverage.hit("connection of peers timed out");
            self.break_link(from, to);
        }
    }

    /// Every cut ends.
    pub(super) fn mend_links(&mut self) {
        let now = self.schedule.now_nanos();
        for (low, high) in self.mesh.pairs() {
            for (from, to) in [(low, high), (high, low)] {
                let pipe = self.mesh.pipe(from, to);
                pipe.cut_until = now;
                pipe.clogged_until = now;
                self.schedule.after(0, Happening::PeerArrival(from, to));
            }
        }
    }
}

fn join(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => parts.concat().into(),
    }
}
