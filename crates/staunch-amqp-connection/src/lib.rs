//! The server side of one AMQP 0-9-1 connection as a passive state machine.
//!
//! [`Connection`] takes bytes from a peer, events from the node and the passing of time, and
//! gives requests for the node and bytes for the peer. It has no socket, clock or thread; the
//! server's runtime and the simulator run the same code.
//!
//! # How it is run
//!
//! 1. Bytes came: [`Connection::handle_input`] with everything not consumed so far, unless
//!    [`Connection::is_stalled`]. Events came: [`Connection::handle_event`] for each.
//!    [`Connection::poll_timeout`] has passed: [`Connection::handle_timeout`]. The socket ended:
//!    [`Connection::handle_peer_gone`].
//! 2. Then [`Connection::take_requests`], and if nothing is being written,
//!    [`Connection::take_output`]; write it, then [`Connection::handle_written`] and
//!    [`Connection::take_requests`] again. Leaving output where it is while the previous one is
//!    being written is what bounds memory.
//! 3. When [`Connection::is_closed`] and the output is written, close the socket. When also
//!    [`Connection::is_node_done`], drop the machine. Every connection, however it ends, sends
//!    the node exactly one `CloseConnection`.
//!
//! # One answer at a time
//!
//! A request that the node answers stops reading until the answer is there. So what a client
//! does on one channel happens in the order it was sent in relation to every other channel,
//! at most one question needs memory, and no answer has to be matched to its question. The price
//! is a round trip to the node per declaration, which is a matter of microseconds; publishes,
//! settlements and deliveries are one-way and never wait. Pipelining declarations per channel
//! was rejected: clients that declare thousands of queues do it one by one or over many
//! connections.
//!
//! # Why not a channel per task
//!
//! RabbitMQ runs every channel as a process. Here a channel is a struct in its connection's
//! machine: a batch of input is decoded in one pass, a publish costs one reference count and one
//! entry in the list of requests, and a connection costs memory only for what it uses.
//!
//! # What bounds memory
//!
//! Frames before tuning: [`Config::initial_frame_max`]. Bodies: `body_size_bytes_max`, grown as
//! bytes arrive, four unfinished ones per connection. Unconfirmed publishes:
//! [`UNCONFIRMED_PER_CHANNEL_MAX`], then reading stops. Unsettled deliveries:
//! [`UNACKED_PER_CHANNEL_MAX`], then the node gets no more credit. Settlements of a transaction:
//! [`TX_SETTLES_MAX`], then the channel is closed. Replies: [`REPLIES_SIZE_BYTES_MAX`], then
//! reading stops. Deliveries to be written: the node's window. Consumers:
//! [`CONSUMERS_PER_CHANNEL_MAX`] per channel. Requests: what one call of `handle_input` was given.

mod ack_timeout;
mod alarm;
mod channel;
mod close;
mod config;
mod confirms;
mod connection;
mod declare;
mod error;
mod events;
mod handshake;
mod heartbeat;
mod input;
mod methods;
mod output;
mod pending;
mod publish;
mod refusal;
mod sasl;
mod token;
mod transport;
mod tx;
mod unacked;

#[cfg(test)]
mod tests;

pub use channel::CONSUMERS_PER_CHANNEL_MAX;
pub use close::{CLOSE_TIMEOUT, CloseReason, LOGIN_REFUSED_DELAY};
pub use config::Config;
pub use confirms::UNCONFIRMED_PER_CHANNEL_MAX;
pub use connection::Connection;
pub use error::ReplyCode;
pub use output::REPLIES_SIZE_BYTES_MAX;
pub use sasl::Mechanism;
pub use transport::{Tls, Transport};
pub use tx::TX_SETTLES_MAX;
pub use unacked::UNACKED_PER_CHANNEL_MAX;
