//! Listeners, configuration, threads and wiring.

pub mod banner;
mod clock;
pub mod config;
pub mod fatal;
mod listener;
pub mod logging;
mod resources;
mod runtime;
mod server;
mod socket;

pub use server::run;
