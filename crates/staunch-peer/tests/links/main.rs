//! Links over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod breaks;
mod flow;
mod joins;
mod meet;
mod node;
mod protection;
mod questions;
