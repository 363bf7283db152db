//! The vocabulary every crate shares, and the waist of the hourglass.
//!
//! Protocols above and storage below never see each other. They meet in two enums:
//! [`Request`] (protocol → node) and [`Event`] (node → protocol). Everything here is plain data;
//! nothing in this crate has behaviour beyond reading and writing its own layout.

pub mod event;
pub mod field_table;
pub mod ids;
pub mod message;
pub mod name;
pub mod options;
pub mod properties;
pub mod refusal;
pub mod request;
pub mod timestamp;

pub use event::{Delivery, Event, Reply, ReturnReason};
pub use field_table::FieldTable;
pub use ids::{
    BodyRef, ChannelNumber, ConnectionId, ConsumerKey, GroupId, LogIndex, MessageIndex, NodeId,
    PublishSeq, QueueId, Term,
};
pub use message::Message;
pub use name::Name;
pub use options::{ExchangeKind, ExchangeOptions, QueueOptions};
pub use refusal::{Operation, Refusal, Resource};
pub use request::{Outcome, Peer, Proof, Request, Secret};
pub use timestamp::{Timestamp, UnixMillis};
