//! The administration interface over HTTP: a subset of RabbitMQ's management API.
//!
//! Paths, bodies, status codes and errors are RabbitMQ's (its HTTP API reference), so that tools
//! made for it work here. One file per noun in [`nouns`]; [`auth`] is the one place that decides
//! who may do what; [`error`] the one that knows what errors look like.
//!
//! Handlers never touch the node: they ask it through [`NodePort`], one [`AdminRequest`] at a
//! time, and do everything that costs in their own time. What other nodes of a cluster know is asked
//! of their interfaces by [`PeerPort`]; [`question`] has the words for it.
//!
//! [`AdminRequest`]: staunch_node::AdminRequest

mod auth;
mod body;
mod changes;
mod deaths;
mod definitions;
mod directory;
mod error;
mod events;
mod horizons;
mod jobs;
mod json;
mod listing;
mod metrics;
mod node;
mod nouns;
mod objectives;
mod openapi;
mod others;
mod page_session;
mod question;
mod rates;
mod router;
mod routes;
mod session;
mod statistics;

pub use definitions::{DefinitionsError, apply_definitions};
pub use events::{EVENTS_MAX, Event, EventLog};
pub use metrics::metrics_router;
pub use node::{Asked, Line, NodePort};
pub use others::{Answering, PeerPort};
pub use router::{
    BODY_SIZE_BYTES_MAX, DEFINITIONS_SIZE_BYTES_MAX, Interface, REQUEST_TIMEOUT, REQUESTS_MAX,
};
pub use statistics::SharedStatistics;

use std::{collections::BTreeSet, sync::Arc};

use staunch_broker::{HashAlgorithm, PasswordHash, password::SALT_SIZE_BYTES};
use staunch_types::Name;
use tokio::sync::Semaphore;

use crate::{
    directory::Directory,
    jobs::Jobs,
    page_session::{PageSessions, TOKEN_SIZE_BYTES},
};

/// What the interface says about its node, and how it keeps passwords.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the node, `staunch@host`.
    pub node_name: String,
    /// Product announced to clients.
    pub product: String,
    /// Version announced to clients.
    pub product_version: String,
    /// Version of this program.
    pub version: &'static str,
    /// Users that may log in from this machine only.
    pub loopback_users: BTreeSet<Name>,
    /// How passwords are kept that come in the clear.
    pub password_hashing: HashAlgorithm,
    /// Fresh random bytes for a password's salt.
    pub salt: fn() -> [u8; SALT_SIZE_BYTES],
    /// A fresh random token.
    pub token: fn() -> [u8; TOKEN_SIZE_BYTES],
    /// Facts about the process and the machine, looked up when asked for.
    pub machine: MachineFn,
    /// What listens: protocol, address, port.
    pub listeners: Vec<Listener>,
}

/// Looks at the machine.
#[derive(Clone)]
pub struct MachineFn(pub Arc<dyn Fn() -> Machine + Send + Sync>);

impl std::fmt::Debug for MachineFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MachineFn(..)")
    }
}

/// The process and its machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The process's id.
    pub pid: u32,
    /// Since the process was started, milliseconds.
    pub uptime_millis: u64,
    /// Processors.
    pub processor_count: usize,
    /// Memory that the process has, in bytes.
    pub memory_used_size_bytes: u64,
    /// Memory that it may have before publishers are blocked, in bytes.
    pub memory_limit_size_bytes: u64,
    /// Open file descriptors, sockets among them.
    pub fd_used: u64,
    /// How many there may be.
    pub fd_max: u64,
    /// Where the data is.
    pub data_dir: String,
}

/// A listener in the overview.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Such as `amqp`.
    pub protocol: &'static str,
    /// Where.
    pub address: std::net::SocketAddr,
}

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) node: NodePort,
    pub(crate) peers: PeerPort,
    pub(crate) settings: Arc<Settings>,
    pub(crate) statistics: SharedStatistics,
    pub(crate) events: EventLog,
    pub(crate) jobs: Jobs,
    pub(crate) directory: Directory,
    /// The interface in the words of `OpenAPI`.
    pub(crate) document: Arc<str>,
    /// Of browsers.
    pub(crate) sessions: PageSessions,
    /// How this node's cookie is called.
    pub(crate) cookie_name: Arc<str>,
    /// Turns for slow password checks.
    pub(crate) verifying: Arc<Semaphore>,
    /// What a login as somebody unknown, or without a password, is checked against: that takes as
    /// long as with somebody known, and never fits.
    pub(crate) decoy: Arc<PasswordHash>,
}

impl Api {
    /// Of this node, as the catalog has it.
    pub(crate) fn name(&self) -> Name {
        Name::new(self.settings.node_name.as_bytes()).unwrap_or_default()
    }
}
