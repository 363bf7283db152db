//! Where a new queue is kept.

use staunch_broker::{Placement, QueueKind, partition_count};
use staunch_types::{Name, NodeId, QueueOptions};

use crate::node::Node;

/// Nodes that keep a replicated queue, where its declaration does not say (RabbitMQ).
pub(super) const GROUP_SIZE_DEFAULT: usize = 3;

/// Argument that says so.
pub(super) const GROUP_SIZE: &str = "x-quorum-initial-group-size";

impl Node {
    /// Where a queue is to be kept that is declared with these options, which are complete, and
    /// each of its partitions: a quorum queue on several nodes, as one that a policy wants
    /// replicated, and a durable one that is classic only because of its arguments (`is_kind_open`);
    /// any other on this one, unless it is a witness. A queue that goes with its connection goes with this node
    /// as well.
    pub(crate) fn place_queue(
        &self,
        vhost: &Name,
        name: &Name,
        options: &QueueOptions,
        is_kind_open: bool,
    ) -> (Placement, Vec<Placement>) {
        let count = usize::from(partition_count(options));
        if self.cluster.is_none() {
            return (Placement::HERE, vec![Placement::HERE; count]);
        }
        let kind = options.arguments.get("x-queue-type");
        let kind = kind.and_then(|kind| QueueKind::from_name(kind.as_str()?));
        let kind = kind.unwrap_or(QueueKind::Classic);
        let is_safe = options.durable && !options.auto_delete;
        let is_replicated = !options.exclusive
            && (is_safe && (kind == QueueKind::Quorum || is_kind_open)
                || self.catalog.is_replicated_by_policy(vhost, name, kind));
        let size = options.arguments.get(GROUP_SIZE);
        let size = size.and_then(|size| usize::try_from(size.as_i64()?).ok());
        if count > 0 {
            return (Placement::HERE, self.place_several(count, size));
        }
        (self.place_by(is_replicated, size), Vec::new())
    }

    fn place_several(&self, count: usize, size: Option<usize>) -> Vec<Placement> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let among: Vec<_> = cluster
            .nodes
            .ids()
            .filter(|id| self.catalog.is_member(*id))
            .collect();
        let size = size.unwrap_or(GROUP_SIZE_DEFAULT);
        let (me, primary) = (cluster.me, cluster.primary());
        self.catalog
            .place_groups(count, (&among, size), me, primary)
    }

    /// Where the queue of an exchange is to be kept that delays messages.
    pub(crate) fn place_holder(&self, is_durable: bool) -> Placement {
        self.place_by(is_durable, None)
    }

    /// Which node keeps what only one keeps: this one; if it is a witness, the one with the least.
    fn home_of_new(&self) -> NodeId {
        let Some(cluster) = &self.cluster else {
            return NodeId::default();
        };
        let is_fit = |id: &NodeId| self.catalog.is_member(*id) && !self.catalog.is_witness(*id);
        let others = cluster.nodes.ids().filter(is_fit);
        let least = others.min_by_key(|id| {
            (
                !cluster.nodes.is_connected(*id),
                self.catalog.kept_count(*id),
            )
        });
        least.filter(|_| cluster.is_witness).unwrap_or(cluster.me)
    }

    /// Where more queues are to be kept that are like one which will be kept as in `first`.
    pub(crate) fn place_more(
        &self,
        first: &Placement,
        count: usize,
    ) -> impl Iterator<Item = Placement> + use<> {
        let placements = if first.is_replicated {
            self.place_several(count + 1, Some(first.members.len()))
        } else {
            vec![first.clone(); count + 1]
        };
        placements.into_iter().skip(1)
    }

    fn place_by(&self, is_replicated: bool, size: Option<usize>) -> Placement {
        let Some(cluster) = &self.cluster else {
            return Placement::HERE;
        };
        if !is_replicated {
            return Placement::at(self.home_of_new());
        }
        let members = cluster.nodes.ids().filter(|id| self.catalog.is_member(*id));
        let among: Vec<_> = members.collect();
        let size = size.unwrap_or(GROUP_SIZE_DEFAULT);
        let primary = cluster.primary();
        self.catalog.place_group(&among, size, cluster.me, primary)
    }
}
