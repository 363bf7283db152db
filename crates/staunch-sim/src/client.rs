//! The clients: they speak real AMQP bytes through the shipping codec, and remember what a
//! careful application would remember.
//!
//! A client is as much a state machine as the server: it is given bytes and leaves bytes in
//! [`Session::output`]. It never waits: whatever it asked stands in a channel's list of
//! unanswered requests until the answer comes or the channel goes.

pub mod actions;
pub mod channel;
pub mod churn;
pub mod content;
pub mod drain;
pub mod replies;
pub mod setup;
pub mod tx;

use std::collections::BTreeMap;

use staunch_amqp_codec::{
    frame::{FrameKind, HEARTBEAT_FRAME, PROTOCOL_HEADER, decode_frame},
    methods::{
        ConnectionClose, ConnectionCloseOk, ConnectionOpen, ConnectionStartOk, ConnectionTune,
        ConnectionTuneOk, Method,
    },
    wire::ShortStr,
};
use staunch_types::{ConnectionId, field_table::TableRef};

use crate::{
    client::channel::Channel, history::Fact, knobs::Knobs, random::Random, witness::Witness,
};

/// Largest frame a client of the simulator reads before it has tuned.
const FRAME_SIZE_BYTES_MAX: u32 = 1 << 20;

/// What a client does for a living.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes.
    Publisher,
    /// Consumes and gets.
    Consumer,
    /// Changes definitions.
    Churner,
    /// Empties every queue at the end.
    Drainer,
}

/// A client over all its connections.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: usize,
    /// Its role.
    pub role: Role,
    /// Its habits.
    pub habits: Habits,
    /// Its connection, while it has one.
    pub session: Option<Session>,
    /// Its source of chance.
    pub random: Random,
}

/// What a client was drawn to be like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Most publishes in one action.
    pub burst_max: u64,
    /// Most unconfirmed publishes on a channel.
    pub confirm_window: usize,
    /// Per mille of publishes that are persistent.
    pub persistent: u32,
    /// Publish bodies of several frames now and then.
    pub large_bodies: bool,
    /// Offered `frame_max`.
    pub frame_max: u32,
    /// Offered heartbeat, in seconds.
    pub heartbeat: u16,
    /// Channels it works on besides its control channel.
    pub channels: u16,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Until `connection.open-ok`.
    Handshake,
    /// Declaring what it uses.
    Setup,
    /// At work.
    Ready,
    /// `connection.close` sent.
    Closing,
    /// Nothing more will be said.
    Over,
}

/// What a channel needs besides itself.
pub struct Wire<'a> {
    /// Bytes for the server.
    pub out: &'a mut Vec<u8>,
    /// The witness.
    pub witness: &'a mut Witness,
    /// The connection.
    pub connection: ConnectionId,
    /// Largest frame.
    pub frame_max: u32,
}

/// One connection from the client's side.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connection: ConnectionId,
    /// Where it is.
    pub phase: Phase,
    /// Bytes for the server.
    pub output: Vec<u8>,
    /// The server said that publishers must wait.
    pub blocked: bool,
    /// It has begun to declare what it uses.
    pub has_begun_setup: bool,
    /// Channels by number; 1 is the control channel.
    pub channels: BTreeMap<u16, Channel>,
    /// Negotiated heartbeat, in seconds.
    pub heartbeat: u16,
    frame_max: u32,
    input: Vec<u8>,
}

impl Client {
    /// A client that is not connected.
    ///
    /// # Panics
    /// If the confirm window does not fit memory.
    pub fn new(id: usize, role: Role, knobs: &Knobs, mut random: Random) -> Self {
        let habits = Habits {
            burst_max: knobs.burst_max,
            confirm_window: usize::try_from(knobs.confirm_window).expect("a window is small"),
            persistent: *random.pick(&[1_000, 1_000, 500]),
            large_bodies: knobs.large_bodies,
            frame_max: if knobs.tiny_frames { 8_192 } else { 131_072 },
            heartbeat: if knobs.net_half_open > 0 {
                5
            } else {
                *random.pick(&[0, 0, 10, 60])
            },
            channels: u16::try_from(random.between(1, 3)).expect("a small number"),
        };
        Self {
            id,
            role,
            habits,
            session: None,
            random,
        }
    }

    /// Connects: the first bytes are in the session's output.
    pub fn connect(&mut self, connection: ConnectionId) {
        self.session = Some(Session {
            connection,
            phase: Phase::Handshake,
            output: PROTOCOL_HEADER.to_vec(),
            blocked: false,
            has_begun_setup: false,
            channels: BTreeMap::new(),
            heartbeat: 0,
            frame_max: FRAME_SIZE_BYTES_MAX,
            input: Vec::new(),
        });
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, witness: &mut Witness) {
        let Some(session) = self.session.take() else {
            return;
        };
        for (_, mut channel) in session.channels {
            channel.orphan_requests(session.connection, witness);
        }
    }

    /// Bytes came.
    pub fn receive(&mut self, bytes: &[u8], witness: &mut Witness) {
        let habits = self.habits;
        let Some(session) = &mut self.session else {
            return;
        };
        session.receive(bytes, habits, witness);
        self.advance_setup(witness);
    }
}

impl Session {
    /// Splits the session into a channel map and what channels write to.
    pub fn split<'a>(
        &'a mut self,
        witness: &'a mut Witness,
    ) -> (&'a mut BTreeMap<u16, Channel>, Wire<'a>) {
        let wire = Wire {
            out: &mut self.output,
            witness,
            connection: self.connection,
            frame_max: self.frame_max,
        };
        (&mut self.channels, wire)
    }

    /// Sends a heartbeat.
    pub fn send_heartbeat(&mut self) {
        if matches!(self.phase, Phase::Setup | Phase::Ready) {
            self.output.extend_from_slice(&HEARTBEAT_FRAME);
        }
    }

    /// Sends `connection.close`.
    pub fn close(&mut self, witness: &mut Witness) {
        if !matches!(self.phase, Phase::Setup | Phase::Ready) {
            return;
        }
        witness.line(format_args!("connection {} closes", self.connection));
        let close = ConnectionClose {
            reply_code: 200,
            reply_text: ShortStr::from_static("bye"),
            class_id: 0,
            method_id: 0,
        };
        close.encode_frame(0, &mut self.output);
        self.phase = Phase::Closing;
    }

    /// Whether every request and publish has been answered.
    pub fn is_quiet(&self) -> bool {
        self.channels.values().all(Channel::is_quiet)
    }

    fn receive(&mut self, bytes: &[u8], habits: Habits, witness: &mut Witness) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut start = 0;
        while self.phase != Phase::Over {
            match decode_frame(&input[start..], self.frame_max) {
                Ok(Some((frame, size))) => {
                    start += size;
                    match frame.kind {
                        FrameKind::Method => {
                            self.receive_method(frame.channel, frame.payload, habits, witness);
                        }
                        // After its close a client ignores all but the answer.
                        FrameKind::Header | FrameKind::Body if self.phase == Phase::Closing => {}
                        FrameKind::Header | FrameKind::Body => {
                            let (channels, mut wire) = self.split(witness);
                            if let Some(channel) = channels.get_mut(&frame.channel) {
                                channel.receive_content(frame, &mut wire);
                            }
                        }
                        FrameKind::Heartbeat => witness.coverage.hit("heartbeat received"),
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    witness.protocol_broken(format!("unreadable frame from the server: {error}"));
                    self.phase = Phase::Over;
                }
            }
        }
        input.drain(..start);
        self.input = input;
    }

    fn receive_method(
        &mut self,
        channel: u16,
        payload: &[u8],
        habits: Habits,
        witness: &mut Witness,
    ) {
        let method = match Method::decode(payload) {
            Ok(method) => method,
            Err(error) => {
                return witness.protocol_broken(format!("bad method from the server: {error}"));
            }
        };
        witness.detail(format_args!(
            "connection {} <- {channel} {method:?}",
            self.connection
        ));
        if channel == 0 {
            return self.receive_connection_method(method, habits, witness);
        }
        if self.phase == Phase::Closing {
            // What was settled after an error on the channel was ignored.
            if let (Method::ChannelClose(_), Some(state)) =
                (method, self.channels.get_mut(&channel))
            {
                state.provoked = true;
            }
            return;
        }
        let (channels, mut wire) = self.split(witness);
        let Some(state) = channels.get_mut(&channel) else {
            let what = format!("{} on channel {channel}, which is not open", method.name());
            return wire.witness.protocol_broken(what);
        };
        if state.receive_method(method, &mut wire) {
            channels.remove(&channel);
        }
    }

    fn receive_connection_method(
        &mut self,
        method: Method<'_>,
        habits: Habits,
        witness: &mut Witness,
    ) {
        match method {
            Method::ConnectionStart(_) => self.send_start_ok(),
            Method::ConnectionTune(tune) => self.tune(tune, habits),
            Method::ConnectionOpenOk(_) => self.phase = Phase::Setup,
            Method::ConnectionBlocked(_) => {
                witness.coverage.hit("connection.blocked");
                self.blocked = true;
            }
            Method::ConnectionUnblocked(_) => self.blocked = false,
            Method::ConnectionClose(close) => self.closed_by_server(close, witness),
            Method::ConnectionCloseOk(_) => {
                witness.coverage.hit("connection close-ok");
                for channel in self.channels.values().filter(|channel| !channel.provoked) {
                    witness.history.push(Fact::Barrier {
                        channel: channel.key,
                    });
                }
                self.phase = Phase::Over;
            }
            other => witness.protocol_broken(format!("{} on channel 0", other.name())),
        }
    }

    fn closed_by_server(&mut self, close: ConnectionClose<'_>, witness: &mut Witness) {
        let text = String::from_utf8_lossy(close.reply_text.as_bytes()).into_owned();
        witness.line(format_args!(
            "connection {} closed by the server: {} {text}",
            self.connection, close.reply_code
        ));
        if close.reply_code == 320 {
            witness.coverage.hit("connection closed 320");
        } else {
            let what = format!("connection closed with {} {text}", close.reply_code);
            witness.protocol_broken(what);
        }
        ConnectionCloseOk.encode_frame(0, &mut self.output);
        self.phase = Phase::Over;
    }

    fn send_start_ok(&mut self) {
        let capability = |name: &str| {
            let mut field = vec![u8::try_from(name.len()).expect("a short name")];
            field.extend_from_slice(name.as_bytes());
            field.extend_from_slice(b"t\x01");
            field
        };
        let capabilities = [
            "consumer_cancel_notify",
            "connection.blocked",
            "basic.nack",
            "publisher_confirms",
        ]
        .map(capability)
        .concat();
        let mut table = b"\x0ccapabilitiesF".to_vec();
        let size = u32::try_from(capabilities.len()).expect("a short table");
        table.extend_from_slice(&size.to_be_bytes());
        table.extend_from_slice(&capabilities);
        let start_ok = ConnectionStartOk {
            client_properties: TableRef::parse(&table).expect("the table was just built"),
            mechanism: ShortStr::from_static("PLAIN"),
            response: b"\0guest\0guest",
            locale: ShortStr::from_static("en_US"),
        };
        start_ok.encode_frame(0, &mut self.output);
    }

    fn tune(&mut self, tune: ConnectionTune, habits: Habits) {
        self.frame_max = if tune.frame_max == 0 {
            habits.frame_max
        } else {
            tune.frame_max.min(habits.frame_max)
        };
        self.heartbeat = habits.heartbeat;
        let ok = ConnectionTuneOk {
            channel_max: tune.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
        };
        ok.encode_frame(0, &mut self.output);
        let open = ConnectionOpen {
            virtual_host: ShortStr::from_static("/"),
            capabilities: ShortStr::EMPTY,
            insist: false,
        };
        open.encode_frame(0, &mut self.output);
    }
}
