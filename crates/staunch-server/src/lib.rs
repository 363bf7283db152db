//! Listeners, configuration, threads and wiring.

mod arrival;
pub mod banner;
mod clock;
pub mod cluster;
pub mod config;
mod definitions;
pub mod fatal;
mod http;
mod listener;
pub mod logging;
mod proxy;
mod resources;
mod runtime;
mod server;
mod socket;
mod stream;
mod tls;

pub use http::hash_password;
pub use server::run;
