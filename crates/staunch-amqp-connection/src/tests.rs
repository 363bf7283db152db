//! The machine as a client and a node see it: methods in, text out.

mod ack_timeout;
mod alarms;
mod channels;
mod chaos;
mod confirms;
mod consumers;
mod declarations;
mod handshake;
mod hostile;
mod limits;
mod order;
mod publishes;
mod replies;
mod sasl;
mod tx;

use std::fmt::Write;

use bytes::Bytes;
use staunch_amqp_codec::{
    content::{ContentHeader, encode_content, encode_publish},
    frame::{FrameKind, decode_frame},
    methods::{
        BasicConsume, BasicPublish, ChannelOpen, ConnectionOpen, ConnectionStartOk,
        ConnectionTuneOk, Method, QueueDeclare,
    },
    wire::ShortStr,
};
use staunch_types::{
    ChannelNumber, ConsumerKey, Delivery, Event, FieldTable, Message, MessageIndex, Name, QueueId,
    Reply, Request, Timestamp,
    field_table::{TableBuilder, TableRef},
};

use crate::{Config, Connection, Transport};

const SECOND: u64 = 1_000_000_000;
const CHANNEL: ChannelNumber = ChannelNumber(1);
const OPEN: ChannelOpen<'_> = ChannelOpen {
    out_of_band: ShortStr::EMPTY,
};

fn text(text: &str) -> ShortStr<'_> {
    ShortStr::new(text.as_bytes()).unwrap()
}

/// A client and a node around one machine.
struct Bench {
    connection: Connection,
    now: Timestamp,
    unread: Vec<u8>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let now = Timestamp(SECOND);
        Self {
            connection: Connection::new(config, Transport::loopback(), 42, now),
            now,
            unread: Vec::new(),
        }
    }

    /// After `connection.open-ok`, as a client that has the usual capabilities.
    fn open_with(config: Config) -> Self {
        Self::open_as(config, &client_properties())
    }

    /// After `connection.open-ok`, as a client that says this about itself.
    fn open_as(config: Config, properties: &FieldTable) -> Self {
        let mut bench = Self::new(config);
        bench.bytes(b"AMQP\0\0\x09\x01");
        bench.method(0, start_ok(properties, "PLAIN", b"\0guest\0guest"));
        bench.event(Event::LoginAccepted {
            user: Name::from_static("guest"),
        });
        bench.method(
            0,
            ConnectionTuneOk {
                channel_max: 5,
                frame_max: 8192,
                heartbeat: 0,
            },
        );
        bench.method(0, open_vhost());
        bench.event(Event::VhostOpened);
        bench.output();
        bench.requests();
        bench
    }

    /// With channel 1 open.
    fn open() -> Self {
        let mut bench = Self::open_with(small_config());
        bench.open_channel(1);
        bench.output();
        bench.requests();
        bench
    }

    /// With a consumer under key 7 and tag `tag`.
    fn consuming() -> Self {
        let mut bench = Self::open();
        bench.method(1, consume("tag"));
        bench.reply(Reply::Consuming {
            consumer: ConsumerKey(7),
            consumer_timeout: None,
        });
        bench.output();
        bench.requests();
        bench
    }

    fn open_channel(&mut self, number: u16) {
        self.method(number, OPEN);
        let channel = ChannelNumber(number);
        self.event(Event::ChannelOpened { channel });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.read();
    }

    /// Presents what was not consumed again.
    fn read(&mut self) {
        let input = Bytes::copy_from_slice(&self.unread);
        let taken = self.connection.handle_input(&input, self.now);
        self.unread.drain(..taken);
        self.connection.check_invariants();
    }

    fn method<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut bytes = Vec::new();
        method.into().encode_frame(channel, &mut bytes);
        self.bytes(&bytes);
    }

    fn publish(&mut self, routing_key: &str, body: &[u8]) {
        let mut bytes = Vec::new();
        put_publish(&mut bytes, 1, routing_key, body);
        self.bytes(&bytes);
    }

    fn event(&mut self, event: Event) {
        self.connection.handle_event(event, self.now);
        self.connection.check_invariants();
        self.read();
    }

    fn reply(&mut self, reply: Reply) {
        self.event(Event::Reply {
            channel: CHANNEL,
            reply,
        });
    }

    fn deliver(&mut self, index: u64) {
        self.event(Event::Delivery(delivery(index)));
    }

    fn pass(&mut self, seconds: u64) {
        self.now = Timestamp(self.now.0 + seconds * SECOND);
        self.connection.handle_timeout(self.now);
        self.connection.check_invariants();
    }

    /// Frames for the client since the last call, one a line.
    fn output(&mut self) -> String {
        let mut bytes = Vec::new();
        self.connection.take_output(&mut bytes);
        self.connection.handle_written();
        print_frames(&bytes)
    }

    /// Requests for the node since the last call, one a line.
    fn requests(&mut self) -> String {
        let mut requests = Vec::new();
        self.connection.take_requests(&mut requests);
        requests.iter().map(print_request).collect()
    }

    #[track_caller]
    fn check(&mut self, output: &str, requests: &str) {
        assert_eq!(self.output(), trimmed(output), "output");
        assert_eq!(self.requests(), trimmed(requests), "requests");
    }
}

/// Drops the indentation of a text in a test.
fn trimmed(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .fold(String::new(), |mut all, line| {
            writeln!(all, "{line}").unwrap();
            all
        })
}

fn small_config() -> Config {
    Config {
        channel_max: 5,
        frame_max: 8192,
        body_size_bytes_max: 20_000,
        ..Config::default()
    }
}

fn client_properties() -> FieldTable {
    let capabilities = TableBuilder::new()
        .bool("connection.blocked", true)
        .bool("consumer_cancel_notify", true)
        .bool("authentication_failure_close", true)
        .build();
    TableBuilder::new()
        .table("capabilities", &capabilities)
        .build()
}

fn start_ok<'a>(
    properties: &'a FieldTable,
    mechanism: &'a str,
    response: &'a [u8],
) -> ConnectionStartOk<'a> {
    ConnectionStartOk {
        client_properties: properties.as_table_ref(),
        mechanism: text(mechanism),
        response,
        locale: text("en_US"),
    }
}

fn open_vhost() -> ConnectionOpen<'static> {
    ConnectionOpen {
        virtual_host: text("/"),
        capabilities: ShortStr::EMPTY,
        insist: false,
    }
}

fn consume(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        ticket: 0,
        queue: text("q"),
        consumer_tag: text(tag),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: TableRef::default(),
    }
}

fn declare(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        ticket: 0,
        queue: text(queue),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: TableRef::default(),
    }
}

fn publish_method(routing_key: &str) -> BasicPublish<'_> {
    BasicPublish {
        ticket: 0,
        exchange: text("x"),
        routing_key: text(routing_key),
        mandatory: true,
        immediate: false,
    }
}

fn put_publish(out: &mut Vec<u8>, channel: u16, routing_key: &str, body: &[u8]) {
    encode_publish(out, channel, &publish_method(routing_key));
    encode_content(out, channel, b"\x10\0\x02", body, 8192);
}

fn delivery(index: u64) -> Delivery {
    Delivery {
        channel: CHANNEL,
        consumer: ConsumerKey(7),
        queue: QueueId(3),
        index: MessageIndex(index),
        redelivered: false,
        settled: false,
        message: Message::copied(b"x", b"key", b"\0\0", b"body"),
    }
}

fn print_frames(mut bytes: &[u8]) -> String {
    let mut all = String::new();
    if bytes.starts_with(b"AMQP") {
        writeln!(all, "{}", bytes[..8].escape_ascii()).unwrap();
        bytes = &bytes[8..];
    }
    while !bytes.is_empty() {
        let (frame, size) = decode_frame(bytes, 0)
            .unwrap()
            .expect("whole frames are written");
        bytes = &bytes[size..];
        let channel = frame.channel;
        match frame.kind {
            FrameKind::Method => {
                print_method(&mut all, channel, Method::decode(frame.payload).unwrap());
            }
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).unwrap();
                writeln!(all, "{channel} header {}", header.body_size_bytes).unwrap();
            }
            FrameKind::Body => writeln!(all, "{channel} body {}", frame.payload.len()).unwrap(),
            FrameKind::Heartbeat => writeln!(all, "heartbeat").unwrap(),
        }
    }
    all
}

fn print_method(all: &mut String, channel: u16, method: Method<'_>) {
    let name = method.name();
    let str = |text: ShortStr<'_>| String::from_utf8_lossy(text.as_bytes()).into_owned();
    let line = match method {
        Method::ConnectionClose(m) => {
            format!(
                "{} {} ({}.{})",
                m.reply_code,
                str(m.reply_text),
                m.class_id,
                m.method_id
            )
        }
        Method::ChannelClose(m) => {
            format!(
                "{} {} ({}.{})",
                m.reply_code,
                str(m.reply_text),
                m.class_id,
                m.method_id
            )
        }
        Method::ConnectionTune(m) => format!("{} {} {}", m.channel_max, m.frame_max, m.heartbeat),
        Method::ConnectionBlocked(m) => str(m.reason),
        Method::QueueDeclareOk(m) => {
            format!("{} {} {}", str(m.queue), m.message_count, m.consumer_count)
        }
        Method::QueuePurgeOk(m) => m.message_count.to_string(),
        Method::QueueDeleteOk(m) => m.message_count.to_string(),
        Method::BasicConsumeOk(m) => str(m.consumer_tag),
        Method::BasicCancelOk(m) => str(m.consumer_tag),
        Method::BasicCancel(m) => format!("{} nowait={}", str(m.consumer_tag), m.nowait),
        Method::BasicDeliver(m) => format!("{} {}", str(m.consumer_tag), m.delivery_tag),
        Method::BasicGetOk(m) => format!("{} {}", m.delivery_tag, m.message_count),
        Method::BasicReturn(m) => format!("{} {}", m.reply_code, str(m.reply_text)),
        Method::BasicAck(m) => format!("{} multiple={}", m.delivery_tag, m.multiple),
        Method::BasicNack(m) => format!(
            "{} multiple={} requeue={}",
            m.delivery_tag, m.multiple, m.requeue
        ),
        _ => String::new(),
    };
    writeln!(all, "{}", format!("{channel} {name} {line}").trim()).unwrap();
}

fn print_request(request: &Request) -> String {
    match request {
        Request::Publish(publish) => {
            let (message, seq) = (&publish.message, publish.seq.map_or(0, |seq| seq.0));
            format!(
                "publish {} {seq} {}/{} {} {}\n",
                publish.channel,
                message.exchange().escape_ascii(),
                message.routing_key().escape_ascii(),
                message.properties().escape_ascii(),
                message.body().len(),
            )
        }
        Request::Settle(settle) => {
            let last = settle.first.0 + u64::from(settle.count) - 1;
            format!(
                "settle {} {}..={last} {:?}\n",
                settle.consumer, settle.first, settle.outcome
            )
        }
        Request::Login(login) => format!(
            "login {:?} {} {:?}\n",
            login.user, login.peer.mechanism, login.proof
        ),
        other => format!("{other:?}\n"),
    }
}
