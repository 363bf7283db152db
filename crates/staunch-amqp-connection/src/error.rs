//! What a peer can do wrong, and the reply each mistake gets.
//!
//! [`PeerError::reply_code`] is the one place that maps a cause to its code, and the code alone
//! decides the scope (AMQP 0-9-1, section 1.1 of the reference): soft errors close a channel,
//! hard errors the connection. The texts are RabbitMQ's, because client test suites match them.

use std::fmt;

use staunch_amqp_codec::{
    frame::{Frame, FrameError, PAYLOAD_BYTES_MAX, PayloadStart},
    methods::DecodeError,
    wire::ArgumentError,
};
use staunch_types::{Name, properties::PropertiesError};

use crate::unacked::UnknownTag;

/// Codes of `connection.close`, `channel.close` and `basic.return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCode {
    /// 312, in `basic.return` only.
    NoRoute,
    /// 320
    ConnectionForced,
    /// 403
    AccessRefused,
    /// 404
    NotFound,
    /// 405
    ResourceLocked,
    /// 406
    PreconditionFailed,
    /// 501
    FrameError,
    /// 502
    SyntaxError,
    /// 503
    CommandInvalid,
    /// 504
    ChannelError,
    /// 505
    UnexpectedFrame,
    /// 506
    ResourceError,
    /// 530
    NotAllowed,
    /// 540
    NotImplemented,
}

/// What a reply code closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The channel it happened on.
    Channel,
    /// The connection.
    Connection,
}

impl ReplyCode {
    /// The code on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::NoRoute => 312,
            Self::ConnectionForced => 320,
            Self::AccessRefused => 403,
            Self::NotFound => 404,
            Self::ResourceLocked => 405,
            Self::PreconditionFailed => 406,
            Self::FrameError => 501,
            Self::SyntaxError => 502,
            Self::CommandInvalid => 503,
            Self::ChannelError => 504,
            Self::UnexpectedFrame => 505,
            Self::ResourceError => 506,
            Self::NotAllowed => 530,
            Self::NotImplemented => 540,
        }
    }

    /// The word every reply text begins with.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
        }
    }

    /// What it closes, on a channel other than 0.
    pub fn scope(self) -> Scope {
        match self {
            Self::NoRoute
            | Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Scope::Channel,
            Self::ConnectionForced
            | Self::FrameError
            | Self::SyntaxError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented => Scope::Connection,
        }
    }
}

/// Class and method id; (0, 0) when the mistake is not one method's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MethodId(pub(crate) u16, pub(crate) u16);

impl MethodId {
    /// The ids at the start of a method payload.
    pub(crate) fn of_payload(payload: &[u8]) -> Self {
        let Some(&[c1, c0, m1, m0]) = payload.first_chunk() else {
            return Self::default();
        };
        Self(u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0]))
    }
}

/// The reply to a mistake or a refusal, ready for a close method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ReplyCode,
    /// Without the code's name; cut to 255 bytes where it is written.
    pub(crate) text: String,
    pub(crate) method: MethodId,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code.name(), self.text)
    }
}

/// A mistake of the peer; [`fmt::Display`] is the text it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("{}", frame_text(.0))]
    Frame(FrameError),
    #[error("type {kind}, {}", Octets(.start))]
    UnexpectedFrame { kind: u8, start: Box<[u8]> },
    #[error("expected method frame, got non method frame instead")]
    ContentWithoutMethod,
    #[error("expected content header for class 60, got non content header frame instead")]
    HeaderExpected,
    #[error("expected content header for class 60, got one for class {class_id} instead")]
    HeaderOfClass { class_id: u16 },
    #[error("expected content body, got non content body frame instead")]
    BodyExpected,
    #[error("content body frame exceeds remaining content size")]
    BodyTooLong,
    #[error("content header: {0}")]
    Properties(PropertiesError),
    #[error("type {kind}, {}: unknown_frame", Octets(.start))]
    UnknownFrame { kind: u8, start: Box<[u8]> },
    #[error("{0}")]
    Method(DecodeError),
    #[error("unimplemented method")]
    UnimplementedMethod,
    #[error("unexpected method in connection state {state}")]
    UnexpectedMethod { state: &'static str },
    #[error("expected 'channel.open'")]
    ChannelNotOpen,
    #[error("second 'channel.open' seen")]
    ChannelOpenTwice,
    #[error(
        "number of channels opened ({channel_max}) has reached the negotiated channel_max ({channel_max})"
    )]
    TooManyChannels { channel_max: u16 },
    #[error("negotiated {field} = {value}{detail} is {relation} allowed value ({limit})")]
    Negotiation {
        field: &'static str,
        value: u32,
        detail: &'static str,
        relation: &'static str,
        limit: u32,
    },
    #[error("unknown authentication mechanism '{mechanism}'")]
    UnknownMechanism { mechanism: Name },
    #[error("invalid authentication mechanism '{mechanism}'")]
    InvalidMechanism { mechanism: &'static str },
    #[error("response of authentication mechanism {mechanism} is malformed")]
    MalformedResponse { mechanism: &'static str },
    #[error(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    )]
    LoginRefused { mechanism: &'static str },
    #[error("New secret was refused by one of the backends")]
    SecretRefused,
    #[error("no previously declared queue")]
    NoQueueDeclared,
    #[error("attempt to reuse consumer tag '{tag}'")]
    ConsumerTagReused { tag: Name },
    #[error("reached maximum ({max}) of consumers per channel")]
    TooManyConsumers { max: usize },
    #[error("reply consumer cannot acknowledge")]
    ReplyConsumerAcks,
    #[error("reply consumer already set")]
    ReplyConsumerTwice,
    #[error("cannot bind or unbind to a volatile (direct reply-to) queue")]
    ReplyQueueBound,
    #[error("cannot switch from confirm to tx mode")]
    TxAfterConfirm,
    #[error("cannot switch from tx to confirm mode")]
    ConfirmAfterTx,
    #[error("channel is not transactional")]
    NotTransactional,
    #[error("transaction settles more than {max} deliveries")]
    TxTooLarge { max: usize },
    #[error("unknown delivery tag {tag}")]
    UnknownDeliveryTag { tag: u64 },
    #[error("{max} deliveries on the channel wait for their acknowledgement")]
    TooManyUnacked { max: usize },
    #[error(
        "message size {size_bytes} is larger than {}max size {size_bytes_max}",
        if *.size_bytes_max < u64::from(PAYLOAD_BYTES_MAX) { "configured " } else { "" }
    )]
    MessageTooLarge {
        size_bytes: u64,
        size_bytes_max: u64,
    },
    #[error(
        "unfinished messages of the connection are larger than {size_bytes_max} bytes together"
    )]
    UnfinishedTooLarge { size_bytes_max: usize },
    #[error("{0}")]
    NotImplemented(String),
}

impl PeerError {
    /// The code the peer is told; it decides what is closed.
    pub(crate) fn reply_code(&self) -> ReplyCode {
        match self {
            Self::Frame(_) | Self::UnknownFrame { .. } | Self::BodyTooLong => ReplyCode::FrameError,
            Self::UnexpectedFrame { .. }
            | Self::ContentWithoutMethod
            | Self::HeaderExpected
            | Self::HeaderOfClass { .. }
            | Self::BodyExpected => ReplyCode::UnexpectedFrame,
            Self::Properties(_) | Self::MalformedResponse { .. } => ReplyCode::SyntaxError,
            Self::Method(error) => match error {
                DecodeError::UnknownMethod { .. } => ReplyCode::CommandInvalid,
                DecodeError::Arguments {
                    source: ArgumentError::Table(_),
                    ..
                } => ReplyCode::SyntaxError,
                DecodeError::NoId { .. } | DecodeError::Arguments { .. } => ReplyCode::FrameError,
            },
            Self::UnimplementedMethod
            | Self::UnknownMechanism { .. }
            | Self::InvalidMechanism { .. } => ReplyCode::CommandInvalid,
            Self::UnexpectedMethod { .. } | Self::ChannelNotOpen | Self::ChannelOpenTwice => {
                ReplyCode::ChannelError
            }
            Self::TooManyChannels { .. }
            | Self::Negotiation { .. }
            | Self::SecretRefused
            | Self::ConsumerTagReused { .. }
            | Self::TooManyConsumers { .. } => ReplyCode::NotAllowed,
            Self::LoginRefused { .. } | Self::ReplyQueueBound => ReplyCode::AccessRefused,
            Self::NoQueueDeclared => ReplyCode::NotFound,
            Self::UnknownDeliveryTag { .. }
            | Self::ReplyConsumerAcks
            | Self::ReplyConsumerTwice
            | Self::TxAfterConfirm
            | Self::ConfirmAfterTx
            | Self::NotTransactional
            | Self::TxTooLarge { .. }
            | Self::TooManyUnacked { .. }
            | Self::MessageTooLarge { .. } => ReplyCode::PreconditionFailed,
            Self::UnfinishedTooLarge { .. } => ReplyCode::ResourceError,
            Self::NotImplemented(_) => ReplyCode::NotImplemented,
        }
    }

    /// A frame that has no place here.
    pub(crate) fn unexpected_frame(frame: Frame<'_>) -> Self {
        Self::UnexpectedFrame {
            kind: frame.kind as u8,
            start: payload_start(frame),
        }
    }

    /// A frame whose payload its type cannot have, wherever it comes.
    pub(crate) fn unknown_frame(frame: Frame<'_>) -> Self {
        Self::UnknownFrame {
            kind: frame.kind as u8,
            start: payload_start(frame),
        }
    }

    pub(crate) fn not_implemented(what: impl Into<String>) -> Self {
        Self::NotImplemented(what.into())
    }

    pub(crate) fn into_fault(self, method: MethodId) -> Fault {
        Fault {
            code: self.reply_code(),
            text: self.to_string(),
            method,
        }
    }
}

impl From<UnknownTag> for PeerError {
    fn from(unknown: UnknownTag) -> Self {
        Self::UnknownDeliveryTag { tag: unknown.0 }
    }
}

fn payload_start(frame: Frame<'_>) -> Box<[u8]> {
    frame.payload[..frame.payload.len().min(OCTETS_SHOWN + 1)].into()
}

/// How many octets of a payload RabbitMQ prints.
const OCTETS_SHOWN: usize = 16;

fn frame_text(error: &FrameError) -> String {
    match error {
        FrameError::UnknownType {
            type_octet, start, ..
        } => {
            format!("type {type_octet}, {}: unknown_frame", start_text(start))
        }
        FrameError::BadEnd {
            type_octet,
            end_octet,
            start,
            ..
        } => format!(
            "type {type_octet}, {}: {{invalid_frame_end_marker,{end_octet}}}",
            start_text(start)
        ),
        FrameError::TooLarge {
            type_octet,
            payload_size_bytes,
            payload_size_bytes_max,
            ..
        } => {
            format!(
                "type {type_octet}, all octets = <<>>: \
                 {{frame_too_large,{payload_size_bytes},{payload_size_bytes_max}}}"
            )
        }
    }
}

fn start_text(start: &PayloadStart) -> String {
    let which = if start.is_whole() { "all" } else { "first 16" };
    format!("{which} octets = {}", ErlangBinary(start.octets()))
}

/// A payload's start with at most one octet more than is shown.
struct Octets<'a>(&'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..OCTETS_SHOWN) {
            Some(first) if self.0.len() > OCTETS_SHOWN => {
                write!(f, "first 16 octets = {}", ErlangBinary(first))
            }
            _ => write!(f, "all octets = {}", ErlangBinary(self.0)),
        }
    }
}

/// Bytes as Erlang's `~p` prints them.
struct ErlangBinary<'a>(&'a [u8]);

impl fmt::Display for ErlangBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.iter().all(|b| (b' '..=b'~').contains(b)) {
            return write!(f, "<<\"{}\">>", String::from_utf8_lossy(self.0));
        }
        f.write_str("<<")?;
        for (place, octet) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
        f.write_str(">>")
    }
}
