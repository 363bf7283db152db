//! The built binary from outside: messages go in and come out, across every kind of end.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use staunch_client::{ChannelNumber, ConnectOptions, Connection, Incoming, QueueSpec};
use staunch_types::properties::PropertyList;

/// Nothing here should take longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running node; dropping it kills it.
struct Node {
    child: Child,
    port: u16,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    fn start(data_dir: &Path, flags: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_staunch"))
            .arg("server")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--amqp", &format!("127.0.0.1:{port}")])
            .args(["--http", "off"])
            .args(["--metrics", "off"])
            .args(["--log-level", "error"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().unwrap().contains("Server startup complete"));
        assert!(ready.is_some(), "the node ended before it was ready");
        Self { child, port }
    }

    fn connect(&self) -> (Connection, ChannelNumber) {
        let options = ConnectOptions {
            port: self.port,
            timeout: PATIENCE,
            ..ConnectOptions::default()
        };
        let mut connection = Connection::open(&options).unwrap();
        let channel = connection.open_channel().unwrap();
        (connection, channel)
    }

    /// SIGTERM, and the exit status.
    fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn publish(connection: &mut Connection, channel: ChannelNumber, queue: &str, bodies: &[&str]) {
    let properties = PropertyList::default();
    for body in bodies {
        connection
            .publish(channel, "", queue, &properties, body.as_bytes())
            .unwrap();
    }
    let refused = connection.wait_for_confirms(channel, PATIENCE).unwrap();
    assert!(refused.is_empty(), "every publish is confirmed");
}

/// The next `count` deliveries: body, tag, redelivered.
fn receive(connection: &mut Connection, count: usize) -> Vec<(String, u64, bool)> {
    let mut received = Vec::new();
    while received.len() < count {
        let incoming = connection.next(Some(PATIENCE)).unwrap();
        match incoming.expect("a delivery in time") {
            Incoming::Delivery(it) => {
                let body = String::from_utf8(it.body.to_vec()).unwrap();
                received.push((body, it.delivery_tag, it.redelivered));
            }
            other => panic!("a delivery, not {other:?}"),
        }
    }
    received
}

/// Waits for the server to say that it takes no publishes, or takes them again.
fn await_notice(connection: &mut Connection, wanted: &Incoming<'_>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let incoming = connection
            .next(Some(left))
            .unwrap()
            .expect("the notice in time");
        if incoming == *wanted {
            return;
        }
    }
}

#[test]
fn what_is_published_is_delivered_and_what_is_acked_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let (mut connection, channel) = node.connect();
    connection.confirm_select(channel).unwrap();
    connection
        .queue_declare(channel, &QueueSpec::durable("q"))
        .unwrap();
    publish(&mut connection, channel, "q", &["one", "two", "three"]);
    connection.qos(channel, 2).unwrap();
    connection.consume(channel, "q", false).unwrap();
    let received = receive(&mut connection, 2);
    assert_eq!(received[0], ("one".to_owned(), 1, false));
    assert_eq!(received[1], ("two".to_owned(), 2, false));
    connection.ack(channel, 1, false).unwrap();
    assert_eq!(
        receive(&mut connection, 1),
        [("three".to_owned(), 3, false)]
    );
    connection.close().unwrap();
    // A clean stop, and nobody is told that "three" is new, for it was delivered.
    assert_eq!(node.terminate().code(), Some(0));
    let node = Node::start(dir.path(), &[]);
    let (mut connection, channel) = node.connect();
    connection.confirm_select(channel).unwrap();
    publish(&mut connection, channel, "q", &["four"]);
    connection.consume(channel, "q", false).unwrap();
    let received = receive(&mut connection, 3);
    let read: Vec<_> = received
        .iter()
        .map(|(body, _, again)| (body.as_str(), *again))
        .collect();
    assert_eq!(read, [("two", true), ("three", true), ("four", false)]);
    connection.ack(channel, 0, true).unwrap();
    connection.close_channel(channel).unwrap();
    let channel = connection.open_channel().unwrap();
    assert_eq!(connection.get(channel, "q", true).unwrap(), None);
}

#[test]
fn what_was_confirmed_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let bodies: Vec<_> = (0..1000).map(|n| format!("m{n}")).collect();
    let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
    for round in 0..2 {
        let node = Node::start(dir.path(), &[]);
        let (mut connection, channel) = node.connect();
        connection.confirm_select(channel).unwrap();
        let queue = format!("q{round}");
        connection
            .queue_declare(channel, &QueueSpec::durable(&queue))
            .unwrap();
        publish(&mut connection, channel, &queue, &bodies);
        node.kill();
    }
    let node = Node::start(dir.path(), &[]);
    for queue in ["q0", "q1"] {
        let (mut connection, channel) = node.connect();
        connection.consume(channel, queue, true).unwrap();
        let received = receive(&mut connection, 1000);
        let read: Vec<_> = received.iter().map(|(body, _, _)| body.as_str()).collect();
        assert_eq!(read, bodies, "all of them, in order");
        assert!(
            received.iter().all(|(_, _, again)| !again),
            "nobody has seen them"
        );
    }
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn publishers_are_blocked_while_memory_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &["--memory-limit", "16MiB"]);
    let (mut publisher, channel) = node.connect();
    let queue = QueueSpec {
        name: "q".to_owned(),
        ..QueueSpec::default()
    };
    publisher.queue_declare(channel, &queue).unwrap();
    let properties = PropertyList::default();
    let body = vec![7; 1024 * 1024];
    for _ in 0..12 {
        publisher
            .publish(channel, "", "q", &properties, &body)
            .unwrap();
    }
    publisher.flush().unwrap();
    await_notice(&mut publisher, &Incoming::Blocked);
    assert!(publisher.blocked_reason().unwrap().contains("memory"));
    let (mut consumer, channel) = node.connect();
    consumer.consume(channel, "q", true).unwrap();
    for _ in 0..12 {
        let incoming = consumer.next(Some(PATIENCE)).unwrap();
        assert!(matches!(incoming, Some(Incoming::Delivery(it)) if it.body == body));
    }
    await_notice(&mut publisher, &Incoming::Unblocked);
    assert_eq!(node.terminate().code(), Some(0));
}
