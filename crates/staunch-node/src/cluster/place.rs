//! Where a new queue is kept.

use staunch_broker::{Placement, QueueKind};
use staunch_types::QueueOptions;

use crate::node::Node;

/// Nodes that keep a replicated queue, where its declaration does not say (RabbitMQ).
const GROUP_SIZE_DEFAULT: usize = 3;

/// Argument that says so.
const GROUP_SIZE: &str = "x-quorum-initial-group-size";

impl Node {
    /// Where a queue is to be kept that is declared with these options, which are complete: a
    /// quorum queue on several nodes, any other on this one.
    pub(crate) fn place_queue(&self, options: &QueueOptions) -> Placement {
        let kind = options.arguments.get("x-queue-type");
        let kind = kind.and_then(|kind| QueueKind::from_name(kind.as_str()?));
        let is_quorum = kind == Some(QueueKind::Quorum);
        let is_lasting = options.durable && !options.exclusive && !options.auto_delete;
        let size = options.arguments.get(GROUP_SIZE);
        let size = size.and_then(|size| usize::try_from(size.as_i64()?).ok());
        self.place_by(is_quorum && is_lasting, size)
    }

    /// Where the queue of an exchange is to be kept that delays messages.
    pub(crate) fn place_holder(&self, is_durable: bool) -> Placement {
        self.place_by(is_durable, None)
    }

    fn place_by(&self, is_replicated: bool, size: Option<usize>) -> Placement {
        let Some(cluster) = &self.cluster else {
            return Placement::HERE;
        };
        if !is_replicated {
            return Placement::at(cluster.me);
        }
        let among: Vec<_> = cluster.nodes.ids().collect();
        let size = size.unwrap_or(GROUP_SIZE_DEFAULT);
        self.catalog.place_group(&among, size, cluster.me)
    }
}
