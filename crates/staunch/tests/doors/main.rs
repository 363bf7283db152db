//! The ways into a node, over real sockets: TLS, client certificates, the PROXY protocol, HTTP.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod events;
mod horizon;
mod http;
mod jobs;
mod lists;
mod node;
mod openapi;
mod proxy;
mod session;
mod stream;
mod tls;
mod wire;
