//! The ways into a node, over real sockets: TLS, client certificates, the PROXY protocol, HTTP.

mod http;
mod node;
mod proxy;
mod tls;
mod wire;
