//! The connection as a passive machine: bytes and events in, requests and bytes out.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use staunch_amqp_codec::{
    frame::{FrameKind, HEARTBEAT_FRAME, decode_frame},
    methods::Method,
};
use staunch_types::{ChannelNumber, FieldTable, Name, Request, Timestamp};

use crate::{
    ack_timeout::AckTimer,
    alarm::Alarms,
    channel::{ChannelState, Channels},
    close::CloseReason,
    config::Config,
    heartbeat::{Beat, Heartbeat},
    output::Output,
    pending::{DECLARATIONS_MAX, Pending},
    token::Tokens,
    transport::Transport,
};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Waits for the protocol header.
    Header,
    /// `connection.start` is out.
    Starting,
    /// The node checks the credentials given by this mechanism.
    LoggingIn { mechanism: &'static str },
    /// `connection.tune` is out.
    Tuning,
    /// Waits for `connection.open`.
    Opening,
    /// The node opens the virtual host.
    OpeningVhost,
    /// In use.
    Running,
    /// The client closed; the node has yet to answer.
    ClosedByClient,
    /// `connection.close` is out; waits for `close-ok`.
    ClosedByServer { framing_lost: bool },
    /// The login was refused; the socket stays open for a while.
    LoginRefused,
    /// Nothing more is read; the socket closes when the output is written.
    Closed,
}

/// What a publish waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishStall {
    Alarm,
    /// Confirms on this channel.
    Confirms(ChannelNumber),
}

/// The server side of one AMQP 0-9-1 connection. See the crate's page for the calls a runtime
/// makes and in which order.
#[derive(Debug)]
pub struct Connection {
    pub(crate) config: Arc<Config>,
    /// Boxed: of no use once the login is over.
    pub(crate) transport: Box<Transport>,
    pub(crate) state: State,
    /// Time of the latest call.
    pub(crate) now: Timestamp,
    pub(crate) channels: Channels,
    pub(crate) requests: Vec<Request>,
    /// How many requests were taken the last time.
    pub(crate) requests_count_last: usize,
    pub(crate) output: Output,
    /// The requests on a channel whose answers reading waits for, in order: one, or declarations of
    /// queues.
    pub(crate) pending: VecDeque<Pending>,
    /// `CloseChannel` requests that reading waits for.
    pub(crate) channels_closing_count: usize,
    pub(crate) publish_stall: Option<PublishStall>,
    pub(crate) alarms: Alarms,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) ack_timer: AckTimer,
    /// When the handshake, a close or the delay after a refused login ends.
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) tokens: Tokens,
    /// Limit in force: the initial one until tuning is over.
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    pub(crate) client: Client,
    /// Channels with confirms to write.
    pub(crate) confirms_unsent: Vec<u16>,
    /// Bytes of unfinished publishes on all channels.
    pub(crate) assembling_size_bytes: usize,
    pub(crate) close_reason: Option<CloseReason>,
    /// `CloseConnection` was sent to the node.
    pub(crate) is_released: bool,
    /// The node answered it.
    pub(crate) is_node_done: bool,
    /// Input that was not consumed last time, to tell new bytes from old.
    unread_size_bytes: usize,
    /// The runtime does not read, see [`Connection::hold_input`].
    is_input_held: bool,
}

/// What the client said about itself.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent abilities of a client, not states of one thing"
)]
pub(crate) struct Client {
    pub(crate) properties: FieldTable,
    pub(crate) user: Option<Name>,
    pub(crate) vhost: Option<Name>,
    /// Capability `connection.blocked`.
    pub(crate) knows_blocked: bool,
    /// Capability `consumer_cancel_notify`.
    pub(crate) knows_cancel: bool,
    /// Capability `authentication_failure_close`.
    pub(crate) knows_login_refused: bool,
    /// It takes `basic.qos` without `global` to change the consumers there are.
    pub(crate) limits_consumers: bool,
}

impl Connection {
    /// A connection that was accepted at `now`. `seed` decides the names it makes up.
    pub fn new(
        config: impl Into<Arc<Config>>,
        transport: Transport,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let config = config.into();
        let deadline = Some(now + config.handshake_timeout);
        let (frame_max, ack_timer) = (
            config.initial_frame_max,
            AckTimer::new(config.consumer_timeout),
        );
        Self {
            config,
            transport: Box::new(transport),
            state: State::Header,
            now,
            channels: Channels::default(),
            requests: Vec::new(),
            requests_count_last: 0,
            output: Output::default(),
            pending: VecDeque::new(),
            channels_closing_count: 0,
            publish_stall: None,
            alarms: Alarms::default(),
            heartbeat: Heartbeat::off(),
            ack_timer,
            deadline,
            tokens: Tokens::new(seed),
            frame_max,
            channel_max: 0,
            client: Client::default(),
            confirms_unsent: Vec::new(),
            assembling_size_bytes: 0,
            close_reason: None,
            is_released: false,
            is_node_done: false,
            unread_size_bytes: 0,
            is_input_held: false,
        }
    }

    /// Takes what it can from the front of `input` and returns how many bytes that were; the
    /// caller presents the rest again, with more behind it or once the connection is no longer
    /// stalled. Messages hold on to `input`.
    ///
    /// A buffer as large as a frame (`frame_max` and 8 bytes) is enough to make progress.
    pub fn handle_input(&mut self, input: &Bytes, now: Timestamp) -> usize {
        self.now = now;
        if input.len() > self.unread_size_bytes {
            self.heartbeat.saw_input();
        }
        if self.requests.is_empty() {
            self.requests.reserve(self.requests_count_last);
        }
        let mut taken = 0;
        while taken < input.len() && (!self.is_stalled() || self.may_declare_more(&input[taken..]))
        {
            match self.take_some(input, taken) {
                Some(size) => taken += size,
                None => break,
            }
        }
        self.unread_size_bytes = input.len() - taken;
        taken
    }

    /// Lets time pass: heartbeats, deliveries that wait for their acknowledgement, and the end of
    /// what a peer may take too long for.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = now;
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            match self.state {
                State::Header
                | State::Starting
                | State::LoggingIn { .. }
                | State::Tuning
                | State::Opening
                | State::OpeningVhost => self.end(CloseReason::HandshakeTimeout),
                State::ClosedByServer { .. } | State::LoginRefused => self.set_closed(),
                State::Running | State::ClosedByClient | State::Closed => {}
            }
        }
        self.check_ack_timeouts();
        let reads = !self.is_stalled() && !self.is_input_held;
        match self.heartbeat.tick(now, reads) {
            Beat::Idle => {}
            // What waits for the socket already is a sign of life.
            Beat::Send if self.has_output() => {}
            Beat::Send => self.output.raw(&HEARTBEAT_FRAME),
            Beat::PeerDead => self.end(CloseReason::HeartbeatTimeout),
        }
    }

    /// Tells whether the runtime itself has stopped reading: silence is then not the peer's.
    pub fn hold_input(&mut self, is_held: bool) {
        self.is_input_held = is_held;
    }

    /// The socket was closed by the peer or failed: nothing can be read or written any more.
    pub fn handle_peer_gone(&mut self, now: Timestamp) {
        self.now = now;
        self.end(CloseReason::PeerGone);
    }

    /// The runtime has written everything it took so far.
    pub fn handle_written(&mut self) {
        self.output.written();
    }

    /// When [`Connection::handle_timeout`] is due, if ever.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let timers = [
            self.deadline,
            self.heartbeat.next_tick(),
            self.ack_timer.due(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Moves the requests for the node to `into`, in order. Call after every `handle_*`.
    pub fn take_requests(&mut self, into: &mut Vec<Request>) {
        if !self.is_released
            && !self.is_node_held_back()
            && let Some(size_bytes) = self.output.take_drained(!self.requests.is_empty())
        {
            self.requests.push(Request::Drained { size_bytes });
        }
        if !self.requests.is_empty() {
            self.requests_count_last = self.requests.len();
        }
        if into.is_empty() {
            std::mem::swap(&mut self.requests, into);
        } else {
            into.append(&mut self.requests);
        }
    }

    /// Moves the bytes for the peer to `into`. If `into` is empty, its capacity is kept for the
    /// next output. [`Connection::handle_written`] reports them written.
    pub fn take_output(&mut self, into: &mut Vec<u8>) {
        self.flush_confirms();
        if !self.output.is_empty() {
            self.heartbeat.saw_output();
            self.output.take(into);
        }
    }

    /// Whether [`Connection::take_output`] has something to hand out.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty() || !self.confirms_unsent.is_empty()
    }

    /// Whether input is not read for now: an event or [`Connection::handle_written`] ends this.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        match self.state {
            State::Running => {
                !self.pending.is_empty()
                    || self.channels_closing_count > 0
                    || self.publish_stall.is_some()
                    || self.output.is_full()
            }
            State::LoggingIn { .. } | State::OpeningVhost | State::ClosedByClient => true,
            State::Header
            | State::Starting
            | State::Tuning
            | State::Opening
            | State::ClosedByServer { .. }
            | State::LoginRefused
            | State::Closed => false,
        }
    }

    /// Whether what comes next is a declaration of a queue behind others that are not answered, and
    /// nothing else is in its way.
    fn may_declare_more(&self, rest: &[u8]) -> bool {
        let Some(last) = self.pending.back() else {
            return false;
        };
        let is_busy = self.channels_closing_count > 0
            || self.publish_stall.is_some()
            || self.output.is_full()
            || self.pending.len() >= DECLARATIONS_MAX;
        if is_busy || self.state != State::Running {
            return false;
        }
        let next = decode_frame(rest, self.frame_max);
        next.is_ok_and(|next| {
            next.is_some_and(|(frame, _)| {
                last.is_declaration_on(frame.channel)
                    && frame.kind == FrameKind::Method
                    && matches!(Method::decode(frame.payload), Ok(Method::QueueDeclare(_)))
            })
        })
    }

    /// Whether the socket is to be closed once the output is written.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether nothing more comes from the node: `ConnectionClosed` was seen.
    pub fn is_node_done(&self) -> bool {
        self.is_node_done
    }

    /// Why the connection ended or is about to.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.close_reason.as_ref()
    }

    /// Who logged in.
    pub fn user(&self) -> Option<&Name> {
        self.client.user.as_ref()
    }

    /// The virtual host, from `connection.open` on.
    pub fn vhost(&self) -> Option<&Name> {
        self.client.vhost.as_ref()
    }

    /// What the client said about itself (`connection.start-ok`); `connection_name` is in it.
    pub fn client_properties(&self) -> &FieldTable {
        &self.client.properties
    }

    /// Channels that are open or closing.
    pub fn channel_count(&self) -> usize {
        self.channels.count()
    }

    /// Panics if the machine contradicts itself.
    ///
    /// # Panics
    /// On a bug of this crate or of its caller.
    pub fn check_invariants(&self) {
        let mut closing_count = 0;
        let mut assembling_size_bytes = 0;
        for channel in self.channels.iter() {
            channel.check_invariants();
            match channel.state {
                ChannelState::Open | ChannelState::AwaitingCloseOk => {}
                ChannelState::ClosedByClient | ChannelState::ClosedByServer => closing_count += 1,
            }
            assembling_size_bytes += channel.assembly.as_ref().map_or(0, |a| a.size_bytes());
        }
        assert_eq!(
            closing_count, self.channels_closing_count,
            "closing channels are counted"
        );
        assert_eq!(
            assembling_size_bytes, self.assembling_size_bytes,
            "unfinished publishes too"
        );
        self.output.check_invariants();
        let is_over = matches!(
            self.state,
            State::ClosedByClient
                | State::ClosedByServer { .. }
                | State::LoginRefused
                | State::Closed
        );
        assert_eq!(
            is_over, self.is_released,
            "the node is told of the end, and only of the end"
        );
        assert!(
            !is_over || self.channels.count() == 0,
            "an ended connection holds no channels"
        );
        assert!(
            self.pending.is_empty() || self.state == State::Running,
            "only channels ask"
        );
    }
}
