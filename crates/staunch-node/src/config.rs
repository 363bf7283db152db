//! What a node is told at its start.

use std::collections::BTreeMap;

use staunch_types::{Name, UnixMillis};

/// Settings of a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// Bytes of memory the node may use for bodies, indexes and what is on its way; beyond it
    /// publishers wait.
    pub memory_limit_size_bytes: u64,
    /// Free disk space below which publishers wait, in bytes.
    pub disk_free_limit_size_bytes: u64,
    /// Who may log in.
    pub users: BTreeMap<Name, User>,
    /// Seed for hash functions; different on every node.
    pub seed: u64,
    /// The wall clock at `Timestamp(0)` of the clock by which the node is driven: what expires at
    /// a certain time of day does so after a restart as well.
    pub started_at: UnixMillis,
    /// Sizes of the log.
    pub log: staunch_log::Config,
}

/// Someone who may log in.
#[derive(Clone)]
pub struct User {
    /// The password.
    pub password: Vec<u8>,
    /// Only from a loopback address.
    pub loopback_only: bool,
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

impl User {
    /// Compares without telling by its duration where the difference is.
    pub(crate) fn has_password(&self, given: &[u8]) -> bool {
        let differences = self
            .password
            .iter()
            .zip(given)
            .fold(0, |found, (own, given)| found | (own ^ given));
        differences == 0 && self.password.len() == given.len() && !given.is_empty()
    }
}
