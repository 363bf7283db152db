//! The nodes of the cluster: names, ids, and who is connected.

use std::collections::BTreeMap;

use staunch_types::{Name, NodeId, Timestamp};

use crate::config::ClusterConfig;

/// Names and ids of all nodes, this one among them.
#[derive(Debug)]
pub(crate) struct Nodes {
    me: NodeId,
    by_id: BTreeMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    name: Name,
    /// Its process, as far as this one has met it.
    incarnation: Option<u64>,
    connected_since: Option<Timestamp>,
}

impl Nodes {
    /// The nodes that found a cluster, numbered from 1 in the order of their names.
    ///
    /// # Panics
    /// If this node is not among them.
    pub(crate) fn founding(config: &ClusterConfig) -> Self {
        let mut names = config.seeds.clone();
        names.sort_unstable();
        names.dedup();
        let by_id: BTreeMap<NodeId, Known> = (1..)
            .map(NodeId)
            .zip(names)
            .map(|(id, name)| {
                let known = Known {
                    name,
                    incarnation: None,
                    connected_since: None,
                };
                (id, known)
            })
            .collect();
        let me = by_id.iter().find(|(_, known)| known.name == config.me);
        let (me, _) = me.expect("a founding node is among the seeds");
        Self { me: *me, by_id }
    }

    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// All of them, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.by_id.keys().copied()
    }

    /// All but this one, in order.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.ids().filter(|id| *id != self.me).collect()
    }

    pub(crate) fn find(&self, name: &Name) -> Option<NodeId> {
        let mut all = self.by_id.iter();
        all.find(|(_, known)| known.name == *name)
            .map(|(id, _)| *id)
    }

    pub(crate) fn name(&self, id: NodeId) -> Option<&Name> {
        self.by_id.get(&id).map(|known| &known.name)
    }

    /// Its name, if it is connected.
    pub(crate) fn connected_name(&self, id: NodeId) -> Option<Name> {
        let known = self.by_id.get(&id)?;
        known.connected_since.map(|_| known.name.clone())
    }

    /// The process it is connected to.
    pub(crate) fn incarnation(&self, id: NodeId) -> Option<u64> {
        self.by_id.get(&id)?.incarnation
    }

    pub(crate) fn is_connected(&self, id: NodeId) -> bool {
        let known = self.by_id.get(&id);
        known.is_some_and(|known| known.connected_since.is_some())
    }

    /// Since when it is connected, if it is.
    pub(crate) fn connected_since(&self, id: NodeId) -> Option<Timestamp> {
        self.by_id.get(&id)?.connected_since
    }

    /// The node whose process it is.
    pub(crate) fn find_incarnation(&self, incarnation: u64) -> Option<NodeId> {
        let mut all = self.by_id.iter();
        all.find(|(_, known)| known.incarnation == Some(incarnation))
            .map(|(id, _)| *id)
    }

    /// It is connected; true if it is another process than the one that was met before.
    pub(crate) fn set_up(&mut self, id: NodeId, incarnation: u64, now: Timestamp) -> bool {
        let Some(known) = self.by_id.get_mut(&id) else {
            return false;
        };
        known.connected_since = Some(now);
        let before = known.incarnation.replace(incarnation);
        before.is_some_and(|before| before != incarnation)
    }

    pub(crate) fn set_down(&mut self, id: NodeId) {
        if let Some(known) = self.by_id.get_mut(&id) {
            known.connected_since = None;
        }
    }
}
