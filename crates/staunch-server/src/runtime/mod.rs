//! Threads around the node machine.
//!
//! ```text
//!   connection tasks (tokio) ──requests──▶ ┌───────────┐ ──jobs──▶ writer      (write, fdatasync)
//!                            ◀─mailboxes── │ node      │ ──jobs──▶ background  (tenure, checkpoint)
//!   ticker, disk watcher     ──facts─────▶ │ thread    │ ──jobs──▶ reader      (cold bodies)
//!                                          └───────────┘ ◀─done─── all three
//! ```
//!
//! The node thread owns the machine and never blocks on anything but its inboxes. Answers from the
//! workers come through an inbox of their own, so that a full inbox of client requests, which is
//! how backpressure works, can never keep a finished write from being heard.

mod mailbox;
mod node_thread;
mod worker;

pub(crate) use mailbox::Mailbox;
pub(crate) use node_thread::{FromConnection, NodeHandle, NodeThread};
