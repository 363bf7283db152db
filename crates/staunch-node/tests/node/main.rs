//! The node from outside: its inputs and outputs, on a disk in memory.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod access;
mod admin;
mod alarms;
mod boundaries;
mod chaos;
mod cold;
mod confirms;
mod consumers;
mod copies;
mod dead_letters;
mod definitions;
mod delays;
mod expiry;
mod firehose;
mod gets;
mod journal;
mod limits;
mod login;
mod order;
mod partitions;
mod policies;
mod redelivery;
mod replies;
mod restraint;
mod script;
mod statistics;
mod stop;
mod transactions;
mod upkeep;
mod world;
