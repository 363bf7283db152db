//! What a node is told at its start.

use std::{collections::BTreeSet, time::Duration};

use staunch_broker::{CatalogLimits, HashAlgorithm, PermissionPatterns};
use staunch_raft::LivenessConfig;
use staunch_types::{Name, Secret, UnixMillis};

use crate::limits::NodeLimits;

/// Settings of a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// Bytes of memory the node may use for bodies, indexes and what is on its way; beyond it
    /// publishers wait.
    pub memory_limit_size_bytes: u64,
    /// Free disk space below which publishers wait, in bytes.
    pub disk_free_limit_size_bytes: u64,
    /// Its name, such as `staunch@localhost`, in texts and events.
    pub node_name: String,
    /// The user that is made when the node starts for the first time; none: whoever is needed is
    /// brought by definitions.
    pub first_user: Option<FirstUser>,
    /// Users that may log in from a loopback address only.
    pub loopback_users: BTreeSet<Name>,
    /// Who a client is that proves nothing (SASL, ANONYMOUS); none: nobody gets in that way.
    pub anonymous_user: Option<Name>,
    /// How new passwords are hashed, and what a login as somebody unknown costs.
    pub password_hashing: HashAlgorithm,
    /// Most connections and channels.
    pub limits: NodeLimits,
    /// Most of everything that is declared.
    pub catalog_limits: CatalogLimits,
    /// Seed for hash functions; different on every node.
    pub seed: u64,
    /// The wall clock at `Timestamp(0)` of the clock by which the node is driven: what expires at
    /// a certain time of day does so after a restart as well.
    pub started_at: UnixMillis,
    /// Sizes of the log.
    pub log: staunch_log::Config,
    /// An operator accepts that messages are lost which were kept by this node alone and are
    /// damaged.
    pub accept_loss: bool,
    /// The other nodes; none: this one stands alone.
    pub cluster: Option<ClusterConfig>,
}

/// What a node is told of its cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// This node's name, which is among `seeds`.
    pub me: Name,
    /// Names and addresses of nodes, this one among them. Those that found a cluster have the same;
    /// one that is to join a cluster names any of its nodes.
    pub seeds: Vec<(Name, Name)>,
    /// The node that is to lead everything (mode `standby`); none: leaders are spread.
    pub primary: Option<Name>,
    /// This node is a witness: it votes and keeps no messages, and serves no clients. A node that
    /// has data stays what it is.
    pub is_witness: bool,
    /// A random number, new with every start of the process and the one that peers are told.
    pub incarnation: u64,
    /// How long a node may be away before its replicas are made anew on others; none: for ever.
    pub replica_repair_after: Option<Duration>,
    /// When a silent peer is suspected.
    pub liveness: LivenessConfig,
}

/// The user of a new node.
#[derive(Clone)]
pub struct FirstUser {
    /// Its name.
    pub name: Name,
    /// Its password.
    pub password: Secret,
    /// Its tags, such as `administrator`.
    pub tags: Vec<Name>,
    /// The virtual host it may enter; made if it is not there.
    pub vhost: Name,
    /// What it may do there.
    pub permissions: PermissionPatterns,
}

impl NodeConfig {
    /// Memory for bodies that are on disk as well: a quarter of the limit.
    pub(crate) fn cache_size_bytes(&self) -> u64 {
        self.memory_limit_size_bytes / 4
    }

    /// Memory for what cannot be dropped: the rest, less an eighth for buffers on their way.
    pub(crate) fn kept_size_bytes_max(&self) -> u64 {
        self.memory_limit_size_bytes / 8 * 5
    }
}
