//! Several nodes from outside, on disks in memory, joined by links that the tests cut and mend.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod chaos;
mod client;
mod damage;
mod definitions;
mod doubts;
mod edges;
mod everyday;
mod holds;
mod leaders;
mod links;
mod machine;
mod members;
mod moves;
mod partitions;
mod stalled;
mod turmoil;
mod witness;
mod world;
