//! What the runtime knows of a connection before its first byte of AMQP.

use std::net::SocketAddr;

use staunch_types::Name;

/// The road a connection came by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transport {
    /// The client's address, or what a PROXY header said it is.
    pub address: Option<SocketAddr>,
    /// The address it connected to.
    pub local_address: Option<SocketAddr>,
    /// Whether the client's socket is on this host: some users may come from nowhere else. A
    /// PROXY header does not make a remote client local.
    pub is_loopback: bool,
    /// Present on an encrypted connection.
    pub tls: Option<Tls>,
}

/// An encrypted connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Protocol version, such as `TLSv1.3`.
    pub version: &'static str,
    /// Whom the verified certificate of the client names, by the rule the node is configured
    /// for; SASL EXTERNAL logs in as this user.
    pub certificate_user: Option<Name>,
}

impl Transport {
    /// From this host, without TLS or addresses: for tests and simulations.
    pub fn loopback() -> Self {
        Self {
            is_loopback: true,
            ..Self::default()
        }
    }
}
