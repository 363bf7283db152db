//! The deterministic simulator: a node or a cluster of three to six, their disks, links and
//! clients in one thread and virtual time, all from one seed.
//!
//! It links the crates that ship. What it replaces is the runtime around them: threads, sockets,
//! clock and disk. A run is repeated exactly by its seed; every failure prints how.
//!
//! Where to look: `world` for the loop and the faults, `process` and `wiring` for what stands in
//! for the server's runtime, `client` for the workload, `disk` for what a crash does,
//! `definitions` for the reference model, `history` and `check` for what is promised and how it
//! is checked.
//!
//! A node's state is all in [`process::Process`], its disk and clock in [`machine::Machine`], and
//! events carry which life of which node they belong to. [`mesh`] is the links between nodes,
//! [`consensus`] what every group must keep after every drain. `world::members` changes members and
//! harms disks (`disk::harm`), `world::wellness` says whether a cluster is what it should be.

pub mod brief;
pub mod check;
pub mod client;
pub mod consensus;
pub mod coverage;
pub mod definitions;
pub mod disk;
pub mod history;
pub mod knobs;
pub mod link;
pub mod machine;
pub mod meddling;
pub mod mesh;
pub mod panic;
pub mod payload;
pub mod planted;
pub mod process;
pub mod random;
pub mod register;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod topology;
pub mod trace;
pub mod wiring;
pub mod witness;
pub mod world;
