//! The nodes of the cluster: names, ids, and who is connected.
//!
//! A link has a name; which node is at its other end, the peer says itself (`membership`). Names may
//! pass from a node that has lost its data to the one that takes its place; ids do not.

use std::{collections::BTreeMap, time::Duration};

use staunch_broker::Catalog;
use staunch_types::{Name, NodeId, Timestamp};

/// What a node calls itself that has not been given an id. No node ever gets this one.
pub(super) const STRANGER: NodeId = NodeId(u64::MAX);

/// Names and ids of all nodes, this one among them, and the links with those that are connected.
#[derive(Debug)]
pub(crate) struct Nodes {
    me: NodeId,
    my_name: Name,
    by_id: BTreeMap<NodeId, Known>,
    links: BTreeMap<Name, Link>,
}

#[derive(Debug)]
struct Known {
    name: Name,
    /// Its process, as far as this one has met it.
    incarnation: Option<u64>,
    connected_since: Option<Timestamp>,
    /// When something last came from it.
    heard_at: Timestamp,
    hearing: Option<Hearing>,
}

/// That a node hears this one, by its answers to heartbeats. Times are when what it heard was sent,
/// so that nothing is taken for news which has been under way for long.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    /// It has heard this one ever since, without a gap.
    since: Timestamp,
    last: Timestamp,
}

/// A connection with a peer.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Its process.
    pub(super) incarnation: u64,
    /// What it has said of itself.
    pub(super) said: Option<Standing>,
    /// Which node it is, when that is certain.
    node: Option<NodeId>,
}

/// What a peer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no data.
    Fresh {
        /// Of the names that it is to found a cluster with.
        seeds_hash: u64,
    },
    /// It is a node of a cluster.
    Member {
        /// Which cluster.
        cluster: u64,
        /// Its id there.
        node: NodeId,
    },
}

impl Nodes {
    /// A node that knows nobody.
    pub(super) fn new(me: NodeId, my_name: Name) -> Self {
        let mut nodes = Self {
            me,
            my_name,
            by_id: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        nodes.be(me);
        nodes
    }

    /// This node has got another id.
    pub(super) fn be(&mut self, me: NodeId) {
        self.by_id.remove(&self.me);
        self.me = me;
        if me != STRANGER {
            let name = self.my_name.clone();
            self.by_id.insert(me, Known::named(name));
        }
    }

    /// Brings names in line with the catalog. Returns whom this node has not known, and whom it need
    /// not know any more.
    pub(super) fn follow(&mut self, catalog: &Catalog) -> (Vec<NodeId>, Vec<NodeId>) {
        let mut new = Vec::new();
        for (id, entry) in catalog.nodes() {
            let known = self.by_id.entry(id).or_insert_with(|| {
                new.push(id);
                Known::named(entry.name.clone())
            });
            known.name.clone_from(&entry.name);
        }
        let is_gone = |id: &&NodeId| catalog.is_removed(**id) && **id != self.me;
        let gone: Vec<_> = self.by_id.keys().filter(is_gone).copied().collect();
        for id in &gone {
            self.by_id.remove(id);
        }
        for link in self.links.values_mut() {
            link.node = link.node.filter(|id| !gone.contains(id));
        }
        (new, gone)
    }

    /// All of them, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.by_id.keys().copied()
    }

    /// All but this one, in order.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.ids().filter(|id| *id != self.me).collect()
    }

    /// The node that is at the other end of a link.
    pub(crate) fn find(&self, name: &Name) -> Option<NodeId> {
        self.links.get(name)?.node
    }

    /// The node that has a name.
    pub(super) fn named(&self, name: &Name) -> Option<NodeId> {
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

    /// A node says that it has heard what was sent to it at `sent`. If it had heard nothing for
    /// `patience` before, it may have given this one up meanwhile.
    pub(super) fn hears_me(&mut self, id: NodeId, sent: Timestamp, patience: Duration) {
        let Some(known) = self.by_id.get_mut(&id) else {
            return;
        };
        let before = known.hearing;
        let goes_on = before.filter(|before| sent.since(before.last) < patience);
        known.hearing = Some(Hearing {
            since: goes_on.map_or(sent, |before| before.since),
            last: before.map_or(sent, |before| before.last.max(sent)),
        });
    }

    /// Something has come from a node.
    pub(super) fn heard(&mut self, id: NodeId, now: Timestamp) {
        if let Some(known) = self.by_id.get_mut(&id) {
            known.heard_at = now;
        }
    }

    /// When something last came from a node.
    pub(super) fn heard_at(&self, id: NodeId) -> Option<Timestamp> {
        self.by_id.get(&id).map(|known| known.heard_at)
    }

    /// Whether the node is connected, and certainly has heard this one all the time: it has not
    /// given it up, and if it had before that, it would have said so by now.
    pub(super) fn stands_by(&self, id: NodeId, now: Timestamp, patience: Duration) -> bool {
        let connected = self
            .by_id
            .get(&id)
            .filter(|it| it.connected_since.is_some());
        let hearing = connected.and_then(|known| known.hearing);
        hearing.is_some_and(|it| now.since(it.last) < patience && now.since(it.since) >= patience)
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

    /// Somebody of that name is connected.
    pub(super) fn link_up(&mut self, name: Name, incarnation: u64) {
        let link = Link {
            incarnation,
            said: None,
            node: None,
        };
        self.links.insert(name, link);
    }

    /// Nobody of that name is connected any more; which node it was.
    pub(super) fn link_down(&mut self, name: &Name) -> Option<NodeId> {
        let node = self.links.remove(name)?.node?;
        if let Some(known) = self.by_id.get_mut(&node) {
            known.connected_since = None;
        }
        Some(node)
    }

    /// The node is not connected, whatever becomes of its link: who is at the end of that is unknown.
    pub(super) fn set_down(&mut self, id: NodeId) {
        if let Some(known) = self.by_id.get_mut(&id) {
            known.connected_since = None;
        }
        for link in self.links.values_mut().filter(|link| link.node == Some(id)) {
            link.node = None;
            link.said = None;
        }
    }

    pub(super) fn link(&self, name: &Name) -> Option<&Link> {
        self.links.get(name)
    }

    /// Names of all that are connected, in order, and what is known of them.
    pub(super) fn links(&self) -> impl Iterator<Item = (&Name, &Link)> {
        self.links.iter()
    }

    pub(super) fn heard_standing(&mut self, name: &Name, standing: Standing) {
        if let Some(link) = self.links.get_mut(name) {
            link.said = Some(standing);
        }
    }

    /// It is certain which node is at the other end of a link; true if it is another process than
    /// the one that was met before.
    pub(super) fn set_up(&mut self, name: &Name, id: NodeId, now: Timestamp) -> bool {
        let Some(link) = self.links.get_mut(name) else {
            return false;
        };
        link.node = Some(id);
        let known = self.by_id.entry(id);
        let known = known.or_insert_with(|| Known::named(name.clone()));
        known.connected_since = Some(now);
        known.heard_at = now;
        known.hearing = None;
        let before = known.incarnation.replace(link.incarnation);
        before.is_some_and(|before| before != link.incarnation)
    }
}

impl Known {
    fn named(name: Name) -> Self {
        Self {
            name,
            incarnation: None,
            connected_since: None,
            heard_at: Timestamp::default(),
            hearing: None,
        }
    }
}

impl Link {
    /// Whether it is certain who it is.
    pub(super) fn is_known(&self) -> bool {
        self.node.is_some()
    }
}
