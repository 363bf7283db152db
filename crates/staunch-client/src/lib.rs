//! A fast blocking AMQP 0-9-1 client for the bench, the demo, the chaos tests and our tests.
//!
//! One [`Connection`] belongs to one thread. Publishes and acks gather in a buffer until
//! [`Connection::flush`] or until the buffer is large; everything the server sends comes out of
//! [`Connection::next`] as [`Incoming`], which borrows from the read buffer, so a delivery costs
//! no allocation and no copy. A write never waits for a server that waits for us: while the
//! socket takes no more, what arrives is read. A lost connection is an error; whether and how to
//! connect again is the caller's business, because only the caller knows what was not confirmed.

mod confirms;
mod connection;
mod consume;
mod declare;
mod error;
mod handshake;
mod incoming;
mod options;
pub mod proof;
mod publish;
mod transport;

pub use confirms::Unconfirmed;
pub use connection::Connection;
pub use consume::GotMessage;
pub use declare::{ExchangeSpec, QueueDeclared, QueueSpec};
pub use error::ClientError;
pub use incoming::{Confirm, Delivery, Incoming, Returned};
pub use options::ConnectOptions;
pub use publish::PublishTemplate;

/// A channel of a connection.
pub use staunch_types::ChannelNumber;
