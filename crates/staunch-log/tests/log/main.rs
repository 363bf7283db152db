//! The log from outside: its public interface on a disk in memory.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crash;
mod damage;
mod faults;
mod golden;
mod node;
mod real;
mod repair;
mod upkeep;
