//! Threads around the node machine.
//!
//! ```text
//!   connection tasks (tokio) ──requests──▶ ┌───────────┐ ──jobs──▶ writer      (write, fdatasync)
//!                            ◀─mailboxes── │ node,     │ ──jobs──▶ background  (tenure, checkpoint)
//!   node thread, watchers    ──facts─────▶ │ one lock  │ ──jobs──▶ reader      (cold bodies)
//!   links with other nodes   ──frames────▶ │           │ ◀─done─── all three
//!                            ◀─queues───── └───────────┘
//! ```
//!
//! The machine is driven by whoever brings it work ([`driver`]). Answers from the workers come
//! through an inbox of their own, so that a full inbox of client requests, which is how
//! backpressure works, can never keep a finished write from being heard.

mod admin;
mod driver;
mod line;
mod links;
mod mailbox;
mod news;
mod verify;
mod worker;

pub(crate) use driver::{FromConnection, NodeHandle, Stopped, start};
pub(crate) use links::PeerInbox;
pub(crate) use mailbox::Mailbox;
