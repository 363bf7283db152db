//! Which node it is.

use staunch_types::{ConnectionId, Name, Timestamp};

use crate::{
    machine::Life,
    process::Process,
    world::{World, peers::peer_name},
};

/// The node at which a connection is, of so many.
pub(super) fn home_of(connection: ConnectionId, nodes: usize) -> usize {
    usize::try_from(connection.0 % nodes as u64).expect("there are few nodes")
}

impl World {
    /// The node at which a connection is.
    pub(super) fn home(&self, connection: ConnectionId) -> usize {
        home_of(connection, self.machines.len())
    }

    /// What a node's clock shows.
    pub(super) fn now_at(&self, node: usize) -> Timestamp {
        self.machines[node].clock.at(self.schedule.now_nanos())
    }

    /// The process, if it is still that one.
    pub(super) fn process_of(&mut self, life: Life) -> Option<&mut Process> {
        let process = self.machines[life.node].process.as_mut();
        process.filter(|process| process.life == life)
    }

    /// Whether a node stands still.
    pub(super) fn is_paused(&self, node: usize) -> bool {
        self.machines[node].paused_until > self.schedule.now_nanos()
    }

    /// What a node is called in the trace.
    pub(super) fn name(&self, node: usize) -> String {
        if self.is_cluster() {
            format!("node {node}")
        } else {
            "node".to_owned()
        }
    }

    /// " of node 1", where there are several.
    pub(super) fn of(&self, node: usize) -> String {
        if self.is_cluster() {
            format!(" of node {node}")
        } else {
            String::new()
        }
    }

    /// Whether there are several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        self.machines.len() > 1
    }

    /// Names and addresses that a node is told when it starts: all who found the cluster, and
    /// itself.
    pub(super) fn seeds_of(&self, node: usize) -> Vec<(Name, Name)> {
        let mut seeds: Vec<usize> = (0..self.cluster_knobs.founders).collect();
        if !seeds.contains(&node) {
            seeds.push(node);
        }
        let named = seeds.into_iter();
        named
            .map(|node| (peer_name(node), Name::default()))
            .collect()
    }

    /// Any node.
    pub(super) fn pick_node(&mut self) -> usize {
        if self.is_cluster() {
            self.network.index(self.machines.len())
        } else {
            0
        }
    }

    /// Where the next fault strikes.
    pub(super) fn pick_fault_node(&mut self) -> usize {
        if self.is_cluster() {
            self.faults.index(self.machines.len())
        } else {
            0
        }
    }

    /// Where a client connects: often where it was, else anywhere.
    pub(super) fn pick_node_for(&mut self, client: usize) -> usize {
        if self.is_cluster() && self.network.chance(500) {
            self.homes[client] = self.network.index(self.machines.len());
        }
        self.homes[client]
    }
}
