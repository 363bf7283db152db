//! Nodes, network and faults, decided by a seed.

mod node;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use staunch_raft::Message;
use staunch_types::NodeId;

use node::Node;
use random::Random;

const NODES: u64 = 3;
const STEPS: u64 = 1_500;
/// Rounds after the faults stop within which everything must have settled.
const HEAL_ROUNDS: u64 = 4_000;

/// A cluster of one queue.
pub(crate) struct World {
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    /// Messages under way, by the step in which they arrive.
    network: BTreeMap<(u64, u64), Message>,
    step: u64,
    sent: u64,
    next_number: u64,
    /// Numbers that some member has applied.
    confirmed: BTreeSet<u64>,
    /// Numbers that a consumer has acked: they may be gone, or come back.
    acked: BTreeSet<u64>,
    /// A member that keeps no messages.
    witness: Option<NodeId>,
    is_healed: bool,
    pub(crate) crash_count: u64,
    pub(crate) checkpoint_count: u64,
    pub(crate) transfer_count: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, None)
    }

    /// Two members with messages, and a witness.
    pub(crate) fn with_witness(seed: u64) -> Self {
        Self::of(seed, Some(NodeId(1 + seed % NODES)))
    }

    fn of(seed: u64, witness: Option<NodeId>) -> Self {
        let ids = (1..=NODES).map(NodeId);
        let nodes = ids.map(|id| (id, Node::founded(id, witness, seed)));
        let nodes = nodes.collect();
        Self {
            random: Random::new(seed),
            nodes,
            network: BTreeMap::new(),
            step: 0,
            sent: 0,
            next_number: 1,
            confirmed: BTreeSet::new(),
            acked: BTreeSet::new(),
            witness,
            is_healed: false,
            crash_count: 0,
            checkpoint_count: 0,
            transfer_count: 0,
        }
    }

    pub(crate) fn confirmed_count(&self) -> u64 {
        self.confirmed.len() as u64
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..STEPS {
            self.one_step();
        }
    }

    fn one_step(&mut self) {
        self.step += 1;
        self.deliver();
        let id = NodeId(1 + self.random.below(NODES));
        match self.random.below(100) {
            0..30 => self.node(id).tick(),
            30..50 => self.publish(id),
            50..80 => self.node(id).write(),
            80..92 => {
                let acked = self
                    .nodes
                    .get_mut(&id)
                    .expect("ids are of nodes")
                    .consume(&mut self.random);
                self.acked.extend(acked);
            }
            92..95 => {
                let took = self.node(id).checkpoint();
                self.checkpoint_count += u64::from(took);
            }
            95..97 if !self.is_healed && self.random.below(4) == 0 => {
                let seed = self.random.next();
                self.node(id).crash(seed);
                self.crash_count += 1;
            }
            _ => self.node(id).keep_house(),
        }
        self.collect(id);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids are of nodes")
    }

    fn publish(&mut self, id: NodeId) {
        let number = self.next_number;
        let size = usize::try_from(self.random.below(400)).expect("it is small");
        if self.node(id).publish(number, size) {
            self.next_number += 1;
        }
    }

    fn collect(&mut self, id: NodeId) {
        let effects = self.node(id).advance();
        for (_, number) in effects.heard {
            self.confirmed.insert(number);
        }
        if let Some(to) = effects.needs_snapshot
            && (self.is_healed || self.random.below(3) > 0)
        {
            let transfer = self.node(id).transfer(to);
            let meta = self.node(to).stage(&transfer);
            self.node(id).offer(to, meta);
            self.transfer_count += 1;
        }
        for message in effects.send {
            let is_lost = !self.is_healed && self.random.below(12) == 0;
            let copies = 1 + u64::from(!self.is_healed && self.random.below(20) == 0);
            for _ in 0..if is_lost { 0 } else { copies } {
                let delay = 1 + self.random.below(if self.is_healed { 3 } else { 25 });
                self.sent += 1;
                self.network
                    .insert((self.step + delay, self.sent), message.clone());
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.network.split_off(&(self.step + 1, 0));
        for (_, message) in std::mem::replace(&mut self.network, later) {
            let (from, to) = (message.from, message.to);
            if !self.node(to).take(message) {
                self.node(from).withdraw(to);
            }
            self.collect(to);
        }
    }

    /// Without faults all members become equal, and hold what was confirmed.
    pub(crate) fn heal_and_check(&mut self) {
        self.is_healed = true;
        for round in 0..HEAL_ROUNDS {
            self.step += 1;
            self.deliver();
            for id in (1..=NODES).map(NodeId) {
                if round % 3 == 0 {
                    self.node(id).tick();
                }
                self.node(id).write();
                self.node(id).keep_house();
                self.collect(id);
            }
            if round % 50 == 49 && self.has_settled() {
                return self.check();
            }
        }
        let states: Vec<_> = self.nodes.values().map(Node::summary).collect();
        panic!(
            "the replicas do not settle: {states:#?}, {} transfers",
            self.transfer_count
        );
    }

    fn has_settled(&self) -> bool {
        let leaders = self.nodes.values().filter(|node| node.serves()).count();
        let mut applied = self.nodes.values().map(Node::applied);
        let first = applied.next().expect("there are nodes");
        leaders == 1
            && self.nodes.values().all(Node::is_idle)
            && applied.all(|other| other == first)
    }

    fn check(&mut self) {
        let witness = self.witness;
        for node in self
            .nodes
            .values_mut()
            .filter(|node| Some(node.id()) == witness)
        {
            assert!(node.live_numbers().is_empty(), "a witness has no messages");
        }
        let nodes = self.nodes.values();
        let copies = nodes.filter(|node| Some(node.id()) != witness);
        let mut states = copies.map(Node::state);
        let first = states.next().expect("there are nodes");
        assert!(states.all(|other| other == first), "replicas are the same");
        let acked = &self.acked;
        let nodes = self.nodes.values_mut();
        for node in nodes.filter(|node| Some(node.id()) != witness) {
            let live = node.live_numbers();
            for number in &self.confirmed {
                assert!(
                    live.contains(number) || acked.contains(number),
                    "message {number} was confirmed and is gone"
                );
            }
            for number in &live {
                assert!(*number < self.next_number, "nobody published {number}");
            }
        }
    }
}
