//! The administration interface over HTTP: a subset of RabbitMQ's management API.
//!
//! Paths, bodies, status codes and errors are RabbitMQ's (its HTTP API reference), so that tools
//! made for it work here. One file per noun in [`nouns`]; [`auth`] is the one place that decides
//! who may do what; [`error`] the one that knows what errors look like.
//!
//! Handlers never touch the node: they ask it through [`NodePort`], one [`AdminRequest`] at a
//! time, and do everything that costs in their own time.
//!
//! [`AdminRequest`]: staunch_node::AdminRequest

mod auth;
mod body;
mod definitions;
mod error;
mod json;
mod node;
mod nouns;
mod router;
mod session;

pub use definitions::{DefinitionsError, apply_definitions};
pub use node::{Asked, Line, NodePort};
pub use router::{
    BODY_SIZE_BYTES_MAX, DEFINITIONS_SIZE_BYTES_MAX, REQUEST_TIMEOUT, REQUESTS_MAX, router,
};

use std::{collections::BTreeSet, sync::Arc};

use staunch_broker::{HashAlgorithm, PasswordHash, password::SALT_SIZE_BYTES};
use staunch_types::Name;
use tokio::sync::Semaphore;

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
    /// What listens: protocol, address, port.
    pub listeners: Vec<Listener>,
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
    pub(crate) settings: Arc<Settings>,
    /// Turns for slow password checks.
    pub(crate) verifying: Arc<Semaphore>,
    /// What a login as somebody unknown, or without a password, is checked against: that takes as
    /// long as with somebody known, and never fits.
    pub(crate) decoy: Arc<PasswordHash>,
}
