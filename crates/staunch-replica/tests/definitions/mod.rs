//! Nodes, network and faults, decided by a seed.

mod node;
#[path = "../world/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};

use staunch_raft::{Change as MemberChange, ChangeStep, Message};
use staunch_types::NodeId;

use node::Node;
use random::Random;

const NODES: u64 = 3;
const STEPS: u64 = 1_500;
/// Rounds after the faults stop within which everything must have settled.
const HEAL_ROUNDS: u64 = 4_000;

/// A cluster and its catalog.
pub(crate) struct World {
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    network: BTreeMap<(u64, u64), Message>,
    step: u64,
    sent: u64,
    is_healed: bool,
    /// What some node has applied.
    pub(crate) made: BTreeSet<String>,
    pub(crate) crash_count: u64,
    pub(crate) transfer_count: u64,
    pub(crate) change_count: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let ids = (1..=NODES).map(NodeId);
        Self {
            random: Random::new(seed),
            nodes: ids.map(|id| (id, Node::founded(id, NODES, seed))).collect(),
            network: BTreeMap::new(),
            step: 0,
            sent: 0,
            is_healed: false,
            made: BTreeSet::new(),
            crash_count: 0,
            transfer_count: 0,
            change_count: 0,
        }
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
            30..55 => self.propose(id),
            55..85 => self.node(id).write(),
            85..92 => self.node(id).checkpoint(),
            92..94 if self.random.below(4) == 0 => {
                let seed = self.random.next();
                self.node(id).crash(seed);
                self.crash_count += 1;
            }
            94..95 => self.change_members(id),
            _ => self.node(id).keep_house(),
        }
        self.collect(id);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids are of nodes")
    }

    /// A node has something new, or says again what it has not heard of; some leader hears it, or
    /// nobody.
    fn propose(&mut self, id: NodeId) {
        if self.random.below(2) == 0 && !self.is_healed {
            self.node(id).wish();
        }
        let batches = self.node(id).wishes();
        for batch in batches {
            if !self.is_healed && self.random.below(5) == 0 {
                continue;
            }
            for node in self.nodes.values_mut() {
                node.propose(&batch);
            }
        }
        for other in (1..=NODES).map(NodeId) {
            self.collect(other);
        }
    }

    /// A leader makes another member a learner, or a voter again.
    fn change_members(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("ids are of nodes");
        let members = node.members();
        let step = match members.learners.first() {
            Some(learner) => ChangeStep::Promote(*learner),
            None => ChangeStep::Demote(NodeId(1 + id.0 % NODES)),
        };
        self.change_count += u64::from(node.change(&MemberChange::of([step])));
    }

    fn collect(&mut self, id: NodeId) {
        let (effects, made) = self.nodes.get_mut(&id).expect("ids are of nodes").advance();
        self.made.extend(made);
        if let Some(to) = effects.needs_snapshot
            && (self.is_healed || self.random.below(3) > 0)
        {
            let state = self.node(id).state();
            let meta = state.meta.clone();
            self.node(to).stage(state);
            self.node(id).offer(to, meta);
            self.transfer_count += 1;
        }
        for message in effects.send {
            let is_lost = !self.is_healed && self.random.below(12) == 0;
            if !is_lost {
                let delay = 1 + self.random.below(if self.is_healed { 3 } else { 25 });
                self.sent += 1;
                self.network.insert((self.step + delay, self.sent), message);
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

    /// Without faults all nodes become equal, and hold what any had applied.
    pub(crate) fn heal_and_check(&mut self) {
        self.is_healed = true;
        for round in 0..HEAL_ROUNDS {
            self.step += 1;
            self.deliver();
            for id in (1..=NODES).map(NodeId) {
                if round % 3 == 0 {
                    self.node(id).tick();
                }
                if round % 40 == 0 {
                    self.propose(id);
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
        panic!("the nodes do not settle: {states:#?}");
    }

    fn has_settled(&self) -> bool {
        let mut applied = self.nodes.values().map(Node::applied);
        let first = applied.next().expect("there are nodes");
        self.nodes.values().filter(|node| node.serves()).count() == 1
            && self.nodes.values().all(Node::is_idle)
            && applied.all(|other| other == first)
    }

    fn check(&self) {
        let mut images = self.nodes.values().map(Node::image);
        let first = images.next().expect("there are nodes");
        assert!(images.all(|other| other == first), "catalogs are the same");
        for node in self.nodes.values() {
            for vhost in &self.made {
                assert!(node.has(vhost), "{vhost} was made and is gone");
            }
        }
    }
}
