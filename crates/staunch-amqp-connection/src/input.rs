//! Bytes from the peer: what they are, by the state of the connection.
//!
//! An open connection first tries whether a whole publish lies in the buffer; everything else,
//! and every publish that is not perfect, goes frame by frame.

use bytes::Bytes;
use staunch_amqp_codec::{
    frame::{Frame, FrameKind, decode_frame},
    methods::{ConnectionCloseOk, ConnectionUpdateSecret, Method},
};
use staunch_types::{ChannelNumber, Request, Secret, request::Publish};

use crate::{
    connection::{Connection, State},
    error::{MethodId, PeerError},
    pending::{Awaited, WriteReply},
    publish::WholePublish,
};

/// Whether a frame was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// A publish that has to wait: reading stops before it.
    No,
}

/// Class and method id, before the arguments of a method.
const METHOD_ID_BYTES: usize = 4;

/// A content header without properties, and without their flags.
const CONTENT_HEADER_BYTES_MIN: usize = 12;

/// A mistake and the method it was made in.
pub(crate) type Mistake = (PeerError, MethodId);

impl Connection {
    /// Takes one protocol header, frame or whole publish. `None`: nothing more can be taken.
    #[inline]
    pub(crate) fn take_some(&mut self, input: &Bytes, at: usize) -> Option<usize> {
        let rest = &input[at..];
        match self.state {
            State::Running => {
                if let Some(size) = self.take_whole_publish(input, rest) {
                    return Some(size);
                }
            }
            State::Header => return self.take_header(rest),
            State::ClosedByServer { framing_lost: true } | State::LoginRefused | State::Closed => {
                return Some(rest.len());
            }
            State::Starting
            | State::LoggingIn { .. }
            | State::Tuning
            | State::Opening
            | State::OpeningVhost
            | State::ClosedByClient
            | State::ClosedByServer {
                framing_lost: false,
            } => {}
        }
        match decode_frame(rest, self.frame_max) {
            Ok(Some((frame, size))) => {
                let channel = frame.channel;
                match self.take_frame(frame) {
                    Ok(Taken::Yes) => Some(size),
                    Ok(Taken::No) => None,
                    Err((error, method)) => {
                        self.handle_mistake(channel, error.into_fault(method));
                        Some(size)
                    }
                }
            }
            Ok(None) => None,
            Err(error) => {
                if !self.is_released() {
                    self.fail_connection(&PeerError::Frame(error).into_fault(MethodId::default()));
                }
                self.state = State::ClosedByServer { framing_lost: true };
                Some(rest.len())
            }
        }
    }

    /// The common case of a small publish that lies complete in the buffer.
    #[inline]
    fn take_whole_publish(&mut self, input: &Bytes, rest: &[u8]) -> Option<usize> {
        if self.alarms.any() {
            return None;
        }
        let publish = WholePublish::parse(rest, self.frame_max, self.config.body_size_bytes_max)?;
        let channel = self.channels.get(publish.channel)?;
        if !channel.is_open() || channel.assembly.is_some() || channel.is_confirms_full() {
            return None;
        }
        self.alarms.saw_publish();
        channel.may_be_refused = true;
        self.requests.push(Request::Publish(Publish {
            channel: channel.number,
            seq: channel.number_publish(),
            mandatory: publish.mandatory,
            message: publish.message(input),
        }));
        Some(publish.size)
    }

    fn take_frame(&mut self, frame: Frame<'_>) -> Result<Taken, Mistake> {
        if !has_possible_size(frame) && !self.is_released() {
            return Err((PeerError::unknown_frame(frame), MethodId::default()));
        }
        match self.state {
            State::Running if frame.channel != 0 => self.take_channel_frame(frame),
            State::Running => self.take_connection_frame(frame).map(|()| Taken::Yes),
            State::Starting | State::Tuning | State::Opening => {
                self.take_handshake_frame(frame).map(|()| Taken::Yes)
            }
            State::ClosedByServer { .. } => {
                self.take_last_frame(frame);
                Ok(Taken::Yes)
            }
            State::Header
            | State::LoggingIn { .. }
            | State::OpeningVhost
            | State::ClosedByClient
            | State::LoginRefused
            | State::Closed => unreachable!("frames are not decoded in {:?}", self.state),
        }
    }

    /// Channel 0 of an open connection.
    fn take_connection_frame(&mut self, frame: Frame<'_>) -> Result<(), Mistake> {
        let Some(method) = decode_method_on_0(frame)? else {
            return Ok(());
        };
        match method {
            Method::ConnectionClose(close) => {
                self.close_for_client(&close);
                Ok(())
            }
            Method::ConnectionUpdateSecret(update) => {
                self.take_update_secret(&update);
                Ok(())
            }
            _ => Err((
                PeerError::UnexpectedMethod { state: "running" },
                MethodId::of_payload(frame.payload),
            )),
        }
    }

    fn take_update_secret(&mut self, update: &ConnectionUpdateSecret<'_>) {
        let secret = Secret(update.new_secret.to_vec());
        self.requests.push(Request::UpdateSecret { secret });
        self.await_reply(ChannelNumber(0), WriteReply::Yes, Awaited::SecretUpdated);
    }

    /// After `connection.close` from this side only its answer counts, or a close that crossed.
    fn take_last_frame(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => self.set_closed(),
            Ok(Method::ConnectionClose(_)) => self.output.method(0, ConnectionCloseOk),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether the payload could be one of the frame's type, as far as sizes tell.
fn has_possible_size(frame: Frame<'_>) -> bool {
    match frame.kind {
        FrameKind::Method => frame.payload.len() >= METHOD_ID_BYTES,
        FrameKind::Header => frame.payload.len() >= CONTENT_HEADER_BYTES_MIN,
        FrameKind::Body => true,
        FrameKind::Heartbeat => frame.payload.is_empty(),
    }
}

/// The method of a frame on channel 0; `None` for a heartbeat.
pub(crate) fn decode_method_on_0(frame: Frame<'_>) -> Result<Option<Method<'_>>, Mistake> {
    match frame.kind {
        FrameKind::Heartbeat => Ok(None),
        FrameKind::Method => decode_method(frame.payload).map(Some),
        FrameKind::Header | FrameKind::Body => {
            Err((PeerError::unexpected_frame(frame), MethodId::default()))
        }
    }
}

pub(crate) fn decode_method(payload: &[u8]) -> Result<Method<'_>, Mistake> {
    Method::decode(payload)
        .map_err(|error| (PeerError::Method(error), MethodId::of_payload(payload)))
}
