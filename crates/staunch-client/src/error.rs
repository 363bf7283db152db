//! What can go wrong between a client and a server.

use std::{io, time::Duration};

use staunch_amqp_codec::{content::ContentHeaderError, frame::FrameError, methods::DecodeError};

/// Why an operation of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed, or the server closed it without a word.
    #[error("connection to {peer}: {source}")]
    Io {
        /// The server's address.
        peer: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server closed the connection (AMQP 0-9-1, connection.close).
    #[error("server closed the connection: {code} {text}")]
    ConnectionClosed {
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// The server closed a channel (AMQP 0-9-1, channel.close).
    #[error("server closed channel {channel}: {code} {text}")]
    ChannelClosed {
        /// The channel.
        channel: u16,
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// Nothing came in time.
    #[error("no answer within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The server sent a method that is no answer to ours.
    #[error("server sent {found}, expected {expected}")]
    Unexpected {
        /// The method that came.
        found: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// Bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame is no method.
    #[error(transparent)]
    Method(#[from] DecodeError),
    /// A frame is no content header.
    #[error(transparent)]
    ContentHeader(#[from] ContentHeaderError),
    /// The frames of a message are out of order.
    #[error("frames of a message are out of order on channel {channel}")]
    ContentOutOfOrder {
        /// The channel.
        channel: u16,
    },
    /// An address cannot be understood.
    #[error("{url:?} is not amqp://user:password@host:port/vhost: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name is longer than 255 bytes.
    #[error("name of {size_bytes} bytes is longer than 255")]
    NameTooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// The channel is not open, or no more channels may be opened.
    #[error("channel {channel} is not open")]
    NoChannel {
        /// The channel.
        channel: u16,
    },
}

impl ClientError {
    /// The server's reply code, if it gave one.
    pub fn reply_code(&self) -> Option<u16> {
        match self {
            Self::ConnectionClosed { code, .. } | Self::ChannelClosed { code, .. } => Some(*code),
            Self::Io { .. }
            | Self::Timeout { .. }
            | Self::Unexpected { .. }
            | Self::Frame(_)
            | Self::Method(_)
            | Self::ContentHeader(_)
            | Self::ContentOutOfOrder { .. }
            | Self::Url { .. }
            | Self::NameTooLong { .. }
            | Self::NoChannel { .. } => None,
        }
    }
}
