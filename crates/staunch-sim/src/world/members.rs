//! Members of the cluster and of its queues come and go, and disks are lost.
//!
//! A machine that comes back with an empty disk is another node, and so is one that was removed.
//! Only one machine at a time may lack what it has promised to keep: it is *wounded*, until the
//! cluster is whole again. More than that no majority survives, and nobody promises that.

use staunch_broker::{CatalogCommand, NodeCommand};
use staunch_node::{AdminAnswer, AdminId, AdminRequest, Input, Node, OnRefusal};
use staunch_types::NodeId;

use crate::{
    disk::harm::Harm,
    machine::NextDisk,
    schedule::{MILLIS, SECONDS},
    world::{Happening, Stage, World, peers::peer_name},
};

/// Mean time between two changes, in nanoseconds.
const CHANGE_STEP: u64 = 400 * MILLIS;
/// When the last of those who join later comes, in nanoseconds.
const NEWCOMERS_BY: u64 = 8 * SECONDS;
/// Nodes that are left when one is removed, at the least.
const NODES_LEFT_MIN: usize = 3;

/// Who is wounded.
#[derive(Debug, Default)]
pub(super) struct Wounds {
    /// The machine.
    pub(super) machine: Option<usize>,
    /// The cluster was whole at least once: all who found it have joined.
    was_whole: bool,
}

impl World {
    /// Has newcomers start later, and the operator begin.
    pub(super) fn plan_members(&mut self) {
        let founders = self.cluster_knobs.founders;
        for node in founders..self.machines.len() {
            let delay = self.members_random.below(NEWCOMERS_BY);
            self.schedule.after(delay, Happening::Restart(node));
        }
        if self.is_cluster() {
            self.schedule.after(CHANGE_STEP, Happening::ChangeMembers);
        }
    }

    /// Another look at the members, and perhaps a change of them.
    pub(super) fn change_members(&mut self) {
        let knobs = self.cluster_knobs.members.clone();
        if self.stage != Stage::Safety || !self.cluster_knobs.has_operator() {
            return;
        }
        let next = self.members_random.latency(CHANGE_STEP);
        self.schedule.after(next, Happening::ChangeMembers);
        self.look_after_wounds();
        let asked = self.members_random.index(self.machines.len());
        let process = self.machines[asked].process.as_ref();
        if !self.wounds.was_whole || !process.is_some_and(|process| process.node.is_ready()) {
            return;
        }
        if self.members_random.chance(knobs.place) {
            self.place_a_queue(asked);
        }
        if self.members_random.chance(knobs.rebalance) {
            self.ask_operator(asked, AdminRequest::Rebalance);
        }
        if self.members_random.chance(knobs.remove) {
            self.remove_a_node(asked);
        }
        if !self.may_wound(asked) {
            return;
        }
        let damage = self.cluster_knobs.damage;
        if self.members_random.chance(damage.running) {
            self.rot_disk(asked);
        }
        let next_disk = if self.members_random.chance(knobs.lost_disk) {
            NextDisk::Another
        } else if self.members_random.chance(damage.at_start) {
            NextDisk::Damaged
        } else {
            return;
        };
        self.machines[asked].next_disk = next_disk;
        self.crash(asked, "power lost");
    }

    /// Whether the wounded machine is well.
    fn look_after_wounds(&mut self) {
        let is_open = self.wounds.machine.is_some() || !self.wounds.was_whole;
        // What nobody has read yet nobody has repaired.
        let is_rotten = |node: usize| self.machines[node].disk.state().is_rotten();
        let is_hidden = self.wounds.machine.is_some_and(is_rotten);
        if is_open && !is_hidden && self.not_whole().is_none() {
            if let Some(node) = self.wounds.machine.take() {
                self.witness.line(format_args!("node {node} is well again"));
                self.witness.coverage.hit("cluster whole again");
            }
            self.wounds.was_whole = true;
        }
    }

    /// Whether what a machine has on its disk may be lost now.
    pub(super) fn may_wound(&self, node: usize) -> bool {
        let is_only = self.wounds.machine.is_none_or(|machine| machine == node);
        self.stage == Stage::Safety && self.wounds.was_whole && is_only
    }

    /// A machine that is off gets another disk, which is empty.
    pub(super) fn lose_disk(&mut self, node: usize) {
        self.witness
            .line(format_args!("the disk of node {node} is lost"));
        self.machines[node].disk.state().wipe();
        self.machines[node].is_removed = false;
        self.consensus.disk_lost(node);
    }

    /// Before a node starts: perhaps its disk is another one, or is damaged.
    pub(super) fn look_at_disk(&mut self, node: usize) {
        if self.machines[node].is_removed {
            // Some do not know it and try again with what they have.
            if self.stage != Stage::Safety || self.members_random.chance(700) {
                self.lose_disk(node);
            }
            return;
        }
        let planned = std::mem::take(&mut self.machines[node].next_disk);
        if self.machines[node].lives == 0 || !self.may_wound(node) {
            return;
        }
        match planned {
            NextDisk::Same => {}
            NextDisk::Damaged => self.damage_disk(node),
            NextDisk::Another => {
                self.witness.coverage.hit("fault: lost disk");
                self.wounds.machine = Some(node);
                self.lose_disk(node);
            }
        }
    }

    /// A file of a machine that is off is damaged.
    pub(super) fn damage_disk(&mut self, node: usize) {
        let mut state = self.machines[node].disk.state();
        let harm = state.harm(&mut self.members_random);
        drop(state);
        self.note_harm(node, harm);
    }

    /// A bit flips in a segment of a node that runs.
    pub(super) fn rot_disk(&mut self, node: usize) {
        let mut state = self.machines[node].disk.state();
        let harm = state.rot(&mut self.members_random);
        drop(state);
        self.note_harm(node, harm);
    }

    fn note_harm(&mut self, node: usize, harm: Option<Harm>) {
        let Some(Harm { file, what }) = harm else {
            return;
        };
        self.wounds.machine = Some(node);
        self.witness.coverage.hit("fault: damage");
        self.witness
            .line(format_args!("{file} of node {node}: {what}"));
    }

    /// A node has heard that it was removed: whoever runs it stops it.
    pub(super) fn removed(&mut self, node: usize) {
        self.machines[node].is_removed = true;
        // The group of the catalog counts on it until its members have changed, too: it is one
        // that is missing.
        self.wounds.was_whole = false;
        if let Some(process) = &mut self.machines[node].process {
            process.inbox.push_back(Input::Stop);
            self.plan_drain(node);
        }
    }

    fn place_a_queue(&mut self, asked: usize) {
        let Some(node) = self.node(asked) else { return };
        let (placements, mut nodes) = (node.placements(), node.members());
        if placements.is_empty() {
            return;
        }
        let placed = self.members_random.pick(&placements).clone();
        let mut members: Vec<NodeId> = Vec::new();
        while members.len() < placed.members.len() && !nodes.is_empty() {
            members.push(nodes.swap_remove(self.members_random.index(nodes.len())));
        }
        self.witness.coverage.hit("fault: queue moves");
        let command = NodeCommand::Place {
            queue: placed.queue,
            changes: placed.changes,
            members,
        };
        let request = AdminRequest::Apply {
            commands: vec![CatalogCommand::Node(command)],
            on_refusal: OnRefusal::Stop,
        };
        self.ask_operator(asked, request);
    }

    /// Has a node leave, or gives one up that is off.
    fn remove_a_node(&mut self, asked: usize) {
        let victim = self.members_random.index(self.machines.len());
        let node_count = self.node(asked).map_or(0, |node| node.members().len());
        let is_dead = self.machines[victim].process.is_none();
        let is_fit = node_count > NODES_LEFT_MIN && !self.machines[victim].is_removed;
        if !is_fit || victim == asked || (is_dead && !self.may_wound(victim)) {
            return;
        }
        if is_dead {
            self.wounds.machine = Some(victim);
        }
        // What it alone keeps goes with it, sooner or later.
        let now = self.witness.history.next_stamp();
        self.witness.definitions.doubt(now);
        self.witness.coverage.hit("fault: node is to go");
        let node = peer_name(victim);
        self.ask_operator(asked, AdminRequest::RemoveNode { node, is_dead });
    }

    fn node(&self, number: usize) -> Option<&Node> {
        let process = self.machines[number].process.as_ref();
        process.map(|process| &process.node)
    }

    pub(super) fn ask_operator(&mut self, asked: usize, request: AdminRequest) {
        self.witness
            .detail(format_args!("operator asks node {asked}: {request:?}"));
        if let Some(process) = &mut self.machines[asked].process {
            process.inbox.push_back(Input::Admin(AdminId(0), request));
            self.plan_drain(asked);
        }
    }

    /// An operator of a cluster has its answer.
    pub(super) fn members_changed(&mut self, answer: &AdminAnswer) {
        match answer {
            AdminAnswer::Applied(results) if results.iter().all(Result::is_ok) => {
                self.witness.coverage.hit("members changed");
            }
            other => {
                self.witness.line(format_args!("operator hears {other:?}"));
                self.witness.coverage.hit("change of members refused");
            }
        }
    }
}
