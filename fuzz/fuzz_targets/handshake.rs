//! The connection machine between a hostile client and a node that keeps its contract: it does
//! not panic, does not contradict itself, and stays within its memory.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use staunch_amqp_codec::{
    frame::{Frame, FrameKind, encode_frame},
    methods::{
        BasicConsume, ChannelOpen, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, Method,
    },
    wire::ShortStr,
};
use staunch_amqp_connection::{Config, Connection, Mechanism, Transport};
use staunch_types::{Event, Refusal, Request, Timestamp, field_table::TableRef};

#[path = "handshake/scripted_node.rs"]
mod scripted_node;

use scripted_node::ScriptedNode;

/// What the machine may have for the peer at one time: the replies it may gather, and what the
/// scripted node delivers.
const OUTPUT_SIZE_BYTES_MAX: usize = 8 << 20;

#[derive(Arbitrary, Debug)]
struct Scenario {
    start: Start,
    steps: Vec<Step>,
}

/// How far the client gets by the rules.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Nothing,
    Header,
    LoggedIn,
    Opened,
    WithChannel,
    WithConsumer,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Bytes of any kind.
    Bytes(Vec<u8>),
    /// A frame that is whole.
    Frame {
        kind: Kind,
        channel: u8,
        payload: Vec<u8>,
    },
    /// A method whose ids exist.
    Method {
        channel: u8,
        method: u8,
        arguments: Vec<u8>,
    },
    /// An ack, nack or reject of some delivery.
    Settle { channel: u8, method: u8, tag: u8 },
    /// The node delivers.
    Deliver(u8),
    /// The node confirms or nacks.
    Resolve(bool),
    /// The node refuses the next request instead of answering it.
    RefuseNext,
    /// The node says something unasked.
    Event(Unasked),
    Pass { seconds: u16 },
    HoldInput(bool),
    /// The socket takes nothing for a while, or again.
    Clog(bool),
    PeerGone,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Unasked {
    Alarm(bool, bool),
    Forced,
    Shutdown,
    ConnectionRefused,
    ConsumerCancelled,
}

/// Ids of the methods a client may send.
const METHODS: [(u16, u16); 36] = [
    (10, 11),
    (10, 31),
    (10, 40),
    (10, 50),
    (10, 51),
    (10, 70),
    (20, 10),
    (20, 20),
    (20, 40),
    (20, 41),
    (30, 10),
    (40, 10),
    (40, 20),
    (40, 30),
    (40, 40),
    (50, 10),
    (50, 20),
    (50, 30),
    (50, 40),
    (50, 50),
    (60, 10),
    (60, 20),
    (60, 30),
    (60, 31),
    (60, 40),
    (60, 70),
    (60, 80),
    (60, 90),
    (60, 100),
    (60, 110),
    (60, 120),
    (85, 10),
    (90, 10),
    (90, 20),
    (90, 30),
    (10, 10),
];

fuzz_target!(|scenario: Scenario| {
    let mut run = Run::new();
    run.begin(scenario.start);
    for step in scenario.steps {
        run.step(step);
        run.settle_down();
    }
    run.end();
});

struct Run {
    connection: Connection,
    node: ScriptedNode,
    now: Timestamp,
    unread: Vec<u8>,
    is_clogged: bool,
    close_requests: usize,
}

impl Run {
    fn new() -> Self {
        let config = Config {
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous],
            frame_max: 8_192,
            channel_max: 4,
            body_size_bytes_max: 20_000,
            ..Config::default()
        };
        let now = Timestamp(0);
        Self {
            connection: Connection::new(config, Transport::loopback(), 1, now),
            node: ScriptedNode::default(),
            now,
            unread: Vec::new(),
            is_clogged: false,
            close_requests: 0,
        }
    }

    fn begin(&mut self, start: Start) {
        if start >= Start::Header {
            self.bytes(b"AMQP\0\0\x09\x01");
        }
        if start >= Start::LoggedIn {
            self.method(
                0,
                ConnectionStartOk {
                    client_properties: TableRef::default(),
                    mechanism: ShortStr::from_static("PLAIN"),
                    response: b"\0guest\0guest",
                    locale: ShortStr::from_static("en_US"),
                },
            );
        }
        if start >= Start::Opened {
            self.method(
                0,
                ConnectionTuneOk {
                    channel_max: 4,
                    frame_max: 8_192,
                    heartbeat: 10,
                },
            );
            self.method(0, ConnectionOpen::default());
        }
        if start >= Start::WithChannel {
            self.method(1, ChannelOpen::default());
        }
        if start >= Start::WithConsumer {
            self.method(
                1,
                BasicConsume {
                    queue: ShortStr::from_static("q"),
                    ..BasicConsume::default()
                },
            );
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Bytes(bytes) => self.bytes(&bytes),
            Step::Frame {
                kind,
                channel,
                payload,
            } => {
                let kind = match kind {
                    Kind::Method => FrameKind::Method,
                    Kind::Header => FrameKind::Header,
                    Kind::Body => FrameKind::Body,
                    Kind::Heartbeat => FrameKind::Heartbeat,
                };
                self.frame(kind, channel, &payload);
            }
            Step::Method {
                channel,
                method,
                arguments,
            } => {
                let (class_id, method_id) = METHODS[usize::from(method) % METHODS.len()];
                let ids = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
                let payload = [ids, arguments].concat();
                self.frame(FrameKind::Method, channel, &payload);
            }
            Step::Settle {
                channel,
                method,
                tag,
            } => {
                let tag_bytes = u64::from(tag).to_be_bytes();
                let method_id = [80, 90, 120][usize::from(method) % 3];
                let bits = method >> 4 & if method_id == 90 { 1 } else { 3 };
                let payload = [&[0, 60, 0, method_id][..], &tag_bytes, &[bits]].concat();
                self.frame(FrameKind::Method, channel, &payload);
            }
            Step::Deliver(count) => {
                for event in self.node.deliver(count) {
                    self.event(event);
                }
            }
            Step::Resolve(is_good) => {
                for event in self.node.resolve(is_good) {
                    self.event(event);
                }
            }
            Step::RefuseNext => self.node.refuses_next = true,
            Step::Event(unasked) => self.unasked(unasked),
            Step::Pass { seconds } => {
                self.now = Timestamp(self.now.0 + u64::from(seconds) * 1_000_000_000);
                self.connection.handle_timeout(self.now);
            }
            Step::HoldInput(is_held) => self.connection.hold_input(is_held),
            Step::Clog(is_clogged) => self.is_clogged = is_clogged,
            Step::PeerGone => self.connection.handle_peer_gone(self.now),
        }
    }

    fn unasked(&mut self, unasked: Unasked) {
        let event = match unasked {
            Unasked::Alarm(memory, disk) if self.node.is_open => Event::Alarm { memory, disk },
            Unasked::Alarm(..) => return,
            Unasked::Forced => Event::Forced {
                reason: "Closed via management plugin".to_owned(),
            },
            Unasked::Shutdown => Event::Shutdown,
            Unasked::ConnectionRefused => Event::ConnectionRefused {
                operation: staunch_types::Operation::OpenVhost,
                refusal: Box::new(Refusal::NotAllowed("a limit is reached".to_owned())),
            },
            Unasked::ConsumerCancelled => match self.node.cancel_consumer() {
                Some(event) => event,
                None => return,
            },
        };
        self.event(event);
    }

    fn frame(&mut self, kind: FrameKind, channel: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        let channel = u16::from(channel % 6);
        let frame = Frame {
            kind,
            channel,
            payload,
        };
        encode_frame(frame, &mut bytes);
        self.bytes(&bytes);
    }

    fn method<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut bytes = Vec::new();
        method.into().encode_frame(channel, &mut bytes);
        self.bytes(&bytes);
        self.settle_down();
    }

    /// Bytes of the client; a runtime does not read while the machine takes nothing.
    fn bytes(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.read();
    }

    fn read(&mut self) -> usize {
        let input = bytes::Bytes::copy_from_slice(&self.unread);
        let taken = self.connection.handle_input(&input, self.now);
        self.unread.drain(..taken);
        self.connection.check_invariants();
        taken
    }

    fn event(&mut self, event: Event) {
        self.connection.handle_event(event, self.now);
        self.connection.check_invariants();
    }

    /// Carries everything to and fro until nobody has anything to say.
    fn settle_down(&mut self) {
        loop {
            let mut output = Vec::new();
            if !self.is_clogged {
                self.connection.take_output(&mut output);
                self.connection.handle_written();
            }
            assert!(output.len() < OUTPUT_SIZE_BYTES_MAX);
            let mut requests = Vec::new();
            self.connection.take_requests(&mut requests);
            let mut events = Vec::new();
            for request in requests {
                if let Request::CloseConnection = request {
                    self.close_requests += 1;
                }
                self.node.take(request, &mut events);
            }
            let is_quiet = events.is_empty();
            events.into_iter().for_each(|event| self.event(event));
            if self.read() == 0 && is_quiet {
                break;
            }
        }
    }

    fn end(&mut self) {
        self.is_clogged = false;
        self.connection.handle_peer_gone(self.now);
        self.settle_down();
        assert_eq!(self.close_requests, 1, "the node is told once");
        assert!(self.connection.is_closed() && self.connection.is_node_done());
        assert_eq!(self.connection.poll_timeout(), None);
    }
}
