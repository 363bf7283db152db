//! Listeners, configuration, threads and wiring.

mod arrival;
pub mod banner;
mod clock;
pub mod cluster;
pub mod config;
mod definitions;
pub mod fatal;
mod histories;
mod http;
mod listener;
pub mod logging;
mod machine;
mod proxy;
mod questions;
mod resources;
mod runtime;
mod server;
mod socket;
mod stream;
mod tls;
mod traffic;

pub use http::hash_password;
pub use server::run;
