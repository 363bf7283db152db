//! Several nodes from outside, on disks in memory, joined by links that the tests cut and mend.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "the harness is ahead of the tests")]

mod chaos;
mod client;
mod definitions;
mod edges;
mod leaders;
mod links;
mod machine;
mod turmoil;
mod world;
