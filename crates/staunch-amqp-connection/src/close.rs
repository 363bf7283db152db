//! How a connection ends: by either side's close method, or without one.
//!
//! Whatever the way, the node is told once (`CloseConnection`) and the channels are forgotten at
//! that moment, so that unsettled deliveries return to their queues without waiting for the peer.

use std::{fmt, time::Duration};

use staunch_amqp_codec::{
    frame::ProtocolHeader,
    methods::{ConnectionClose, ConnectionCloseOk},
    wire::ShortStr,
};
use staunch_types::{ChannelNumber, Request};

use crate::{
    connection::{Connection, State},
    error::{Fault, MethodId, ReplyCode, Scope},
    pending::Awaited,
};

/// How long a peer may take for `connection.close-ok`.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer that cannot be told is kept waiting after a refused login, to slow guessing.
pub const LOGIN_REFUSED_DELAY: Duration = Duration::from_secs(3);

/// Why a connection ended, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said so, with this code and text.
    Client {
        /// Its reply code; 200 is a clean end.
        code: u16,
        /// Its text.
        text: String,
    },
    /// The broker said so, with this code and text.
    Server {
        /// The reply code.
        code: u16,
        /// The text, without the code's name.
        text: String,
    },
    /// Wrong credentials, from a client that cannot be told.
    LoginRefused,
    /// The first bytes were no AMQP 0-9-1 header.
    ForeignProtocol(ProtocolHeader),
    /// The handshake took longer than allowed.
    HandshakeTimeout,
    /// Two heartbeats were missed.
    HeartbeatTimeout,
    /// The socket was closed or failed.
    PeerGone,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { code, text } => write!(f, "closed by the client: {code} {text}"),
            Self::Server { code, text } => write!(f, "closed by the broker: {code} {text}"),
            Self::LoginRefused => f.write_str("login refused"),
            Self::ForeignProtocol(header) => write!(f, "not AMQP 0-9-1: {header:?}"),
            Self::HandshakeTimeout => f.write_str("handshake timeout"),
            Self::HeartbeatTimeout => f.write_str("missed heartbeats from the client"),
            Self::PeerGone => f.write_str("the client closed the socket without a close method"),
        }
    }
}

impl Connection {
    pub(crate) fn close_for_client(&mut self, close: &ConnectionClose<'_>) {
        self.release();
        self.state = State::ClosedByClient;
        self.close_reason = Some(CloseReason::Client {
            code: close.reply_code,
            text: String::from_utf8_lossy(close.reply_text.as_bytes()).into_owned(),
        });
    }

    /// The node answered `CloseConnection`.
    pub(crate) fn handle_connection_closed(&mut self) {
        assert!(
            self.is_released,
            "the node closes a connection only when asked"
        );
        self.is_node_done = true;
        if self.state == State::ClosedByClient {
            self.output.method(0, ConnectionCloseOk);
            self.set_closed();
        }
    }

    /// The connection ends without close-ok for a client that waits for it: what became of its
    /// settlements is not known (contract C9).
    pub(crate) fn withhold_close_ok(&mut self) {
        if self.state == State::ClosedByClient {
            self.set_closed();
        }
    }

    /// Closes what the fault's code says: the channel, behind the refusal, if any, of what was
    /// published on it before, or the connection.
    pub(crate) fn handle_mistake(&mut self, channel: u16, fault: Fault) {
        match fault.code.scope() {
            Scope::Channel if channel != 0 && self.state == State::Running => {
                let number = ChannelNumber(channel);
                if self.open_channel(number).may_be_refused {
                    self.catch_up(number, Awaited::Mistake { fault });
                } else {
                    self.fail_channel(number, &fault);
                }
            }
            Scope::Channel | Scope::Connection => self.fail_connection(&fault),
        }
    }

    /// Sends `connection.close` and lets the node know.
    pub(crate) fn fail_connection(&mut self, fault: &Fault) {
        self.release();
        self.output.method(
            0,
            ConnectionClose {
                reply_code: fault.code.code(),
                reply_text: ShortStr::truncated(&fault.to_string()),
                class_id: fault.method.0,
                method_id: fault.method.1,
            },
        );
        self.state = State::ClosedByServer {
            framing_lost: false,
        };
        self.deadline = Some(self.now + CLOSE_TIMEOUT);
        let (code, text) = (fault.code.code(), fault.text.clone());
        self.close_reason = Some(CloseReason::Server { code, text });
    }

    /// Somebody ends the connection: 320.
    pub(crate) fn handle_forced(&mut self, reason: String) {
        self.force_close(&Fault {
            code: ReplyCode::ConnectionForced,
            text: reason,
            method: MethodId::default(),
        });
    }

    /// Closes the connection with `fault`'s code, whatever that closes otherwise, unless it is
    /// ending anyway.
    pub(crate) fn force_close(&mut self, fault: &Fault) {
        match self.state {
            State::Header => {
                let (code, text) = (fault.code.code(), fault.text.clone());
                self.end(CloseReason::Server { code, text });
            }
            State::Starting
            | State::LoggingIn { .. }
            | State::Tuning
            | State::Opening
            | State::OpeningVhost
            | State::Running => self.fail_connection(fault),
            State::ClosedByClient
            | State::ClosedByServer { .. }
            | State::LoginRefused
            | State::Closed => {}
        }
    }

    /// Ends without a close method.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        self.release();
        self.set_closed();
        self.close_reason.get_or_insert(reason);
    }

    /// Refuses a login without a word, after a while (reference 1.3).
    pub(crate) fn refuse_login_silently(&mut self) {
        self.release();
        self.state = State::LoginRefused;
        self.deadline = Some(self.now + LOGIN_REFUSED_DELAY);
        self.close_reason = Some(CloseReason::LoginRefused);
    }

    pub(crate) fn set_closed(&mut self) {
        self.state = State::Closed;
        self.deadline = None;
        self.heartbeat.stop();
    }

    /// Tells the node, once, that the connection is over, and forgets the channels.
    fn release(&mut self) {
        if self.is_released {
            return;
        }
        self.is_released = true;
        self.flush_confirms();
        self.channels.clear();
        self.assembling_size_bytes = 0;
        self.channels_closing_count = 0;
        self.pending.clear();
        self.publish_stall = None;
        self.heartbeat.stop();
        self.ack_timer.stop();
        self.requests.push(Request::CloseConnection);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.is_released
    }
}
