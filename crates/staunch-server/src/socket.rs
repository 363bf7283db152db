//! One connection: its socket, its protocol machine, and the road to the node.
//!
//! A round of the task is: hear the node, feed the machine, hand on its requests, write its
//! output, wait. Everything is done in batches, one wake-up for as much as has gathered.
//!
//! An idle connection must cost little, so it owns no buffers: the read buffer exists from the
//! moment bytes are there until the last of them is consumed, and the output buffer is dropped
//! when it has been written.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use staunch_amqp_connection::{Connection, Tls, Transport};
use staunch_stats::Traffic;
use staunch_types::{ConnectionId, Request, Timestamp};
use tokio::time;

use crate::{
    arrival::Arrival,
    listener::Shared,
    runtime::{FromConnection, Mailbox},
    stream::Stream,
    tls,
    traffic::Gauge,
};

/// First read of a connection that was idle, in bytes.
const READ_SIZE_BYTES_MIN: usize = 4 * 1024;
/// Largest read; a full one doubles the next up to here.
const READ_SIZE_BYTES_MAX: usize = 256 * 1024;
/// A connection that waits keeps its read buffer only when its reads are larger than this.
const READ_SIZE_KEPT_BYTES_MAX: usize = 16 * 1024;
/// Output waiting for the socket beyond which the task takes no more events. It goes on reading:
/// a client that writes before it reads would otherwise wait for a broker that waits for it.
const OUTPUT_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// A peer that takes none of its output for this long is cut off.
const WRITE_STALL_MAX: Duration = Duration::from_mins(1);
/// Output buffers above this are given back when they are empty, in bytes.
const OUTPUT_KEPT_SIZE_BYTES_MAX: usize = 16 * 1024;

struct Socket {
    id: ConnectionId,
    stream: Stream,
    machine: Box<Connection>,
    mailbox: Arc<Mailbox>,
    shared: Shared,
    /// Bytes read and not yet consumed by the machine.
    input: Bytes,
    /// Where the next bytes are read to, behind what `input` left over.
    buffer: BytesMut,
    read_size_bytes: usize,
    output: Vec<u8>,
    written_size_bytes: usize,
    write_stalled_since: Option<Timestamp>,
    peer_gone: bool,
    /// The mailbox was not emptied, because the output is full.
    has_unheard: bool,
    /// Publishes are with the node: no more input until it says so.
    awaits_proceed: bool,
    traffic: Traffic,
    gauge: Arc<Gauge>,
    /// Fires at the deadline or before it.
    alarm: Option<Pin<Box<time::Sleep>>>,
}

/// Serves one client until its connection is over on both sides.
pub(crate) async fn serve(id: ConnectionId, arrival: Arrival, shared: Shared) {
    let peer = arrival.peer;
    let now = shared.clock.now();
    let seed = shared.seed ^ id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let config = shared.connection_config.clone();
    let transport = Transport {
        address: Some(peer),
        local_address: arrival.local,
        is_loopback: arrival.is_loopback,
        tls: arrival.tls.map(|version| Tls {
            version,
            certificate_user: arrival.certificate_user.clone(),
        }),
    };
    let machine = Connection::new(config, transport, seed, now);
    let mailbox = Arc::new(Mailbox::default());
    let connected = FromConnection::Connected(id, mailbox.clone());
    if !shared.node.send(connected).await {
        return;
    }
    tracing::debug!(
        event = "connection.accepted",
        connection = id.0,
        %peer,
        local = ?arrival.local,
        tls = arrival.tls,
        certificate_user = ?arrival.certificate_user,
        "accepted"
    );
    let gauge = shared.gauges.open(id);
    let mut socket = Socket {
        id,
        stream: arrival.stream,
        machine: Box::new(machine),
        mailbox,
        shared,
        input: Bytes::new(),
        buffer: BytesMut::new(),
        read_size_bytes: READ_SIZE_BYTES_MIN,
        output: Vec::new(),
        written_size_bytes: 0,
        write_stalled_since: None,
        peer_gone: false,
        has_unheard: false,
        awaits_proceed: false,
        traffic: Traffic::default(),
        gauge,
        alarm: None,
    };
    while socket.round().await {}
    tracing::debug!(event = "connection.closed", connection = id.0, %peer, "closed");
}

impl Socket {
    /// One round; false when the connection is over.
    async fn round(&mut self) -> bool {
        self.look_at_clock();
        self.hear_node();
        self.feed_machine();
        if !self.send_requests().await {
            return false;
        }
        self.collect_output();
        self.write();
        self.show_traffic();
        // What has drained lets the node go on delivering.
        if !self.send_requests().await {
            return false;
        }
        let is_closed = self.machine.is_closed() && self.output_is_empty();
        if self.machine.is_node_done() && (self.peer_gone || is_closed) {
            return false;
        }
        if is_closed && !self.peer_gone {
            self.stream.finish();
            self.lose_peer();
            return true;
        }
        // Events left in the mailbox have rung already and will not ring again.
        let can_hear = self.has_unheard && !self.output_is_full();
        if self.can_feed() || can_hear {
            return true;
        }
        self.wait().await;
        true
    }

    fn show_traffic(&mut self) {
        self.traffic.waiting_bytes = (self.output.len() - self.written_size_bytes) as u64;
        self.gauge.show(&self.traffic);
    }

    /// Whether everything has left for the socket.
    fn output_is_empty(&self) -> bool {
        self.written_size_bytes == self.output.len() && self.stream.is_flushed()
    }

    fn output_is_full(&self) -> bool {
        self.output.len() - self.written_size_bytes > OUTPUT_SIZE_BYTES_MAX
    }

    fn hear_node(&mut self) {
        if self.awaits_proceed && self.mailbox.take_proceed() {
            self.awaits_proceed = false;
        }
        self.has_unheard = self.output_is_full() && !self.peer_gone;
        if self.has_unheard {
            return;
        }
        let now = self.shared.clock.now();
        for event in self.mailbox.take() {
            self.machine.handle_event(event, now);
        }
    }

    /// Whether input waits that the machine would take.
    fn can_feed(&self) -> bool {
        !self.input.is_empty() && !self.awaits_proceed && !self.machine.is_stalled()
    }

    fn feed_machine(&mut self) {
        if !self.can_feed() {
            return;
        }
        let consumed = self
            .machine
            .handle_input(&self.input, self.shared.clock.now());
        if consumed == self.input.len() {
            self.input = Bytes::new();
            return;
        }
        let rest = self.input.split_off(consumed);
        if self.machine.is_stalled() || self.machine.is_closed() {
            self.input = rest;
            return;
        }
        // A frame's first part: the rest of it is read in behind a copy.
        self.input = Bytes::new();
        self.buffer.reserve(rest.len() + self.read_size_bytes);
        assert!(
            self.buffer.is_empty(),
            "bytes are read only when all input is consumed"
        );
        self.buffer.extend_from_slice(&rest);
    }

    /// False when the node is gone.
    async fn send_requests(&mut self) -> bool {
        let mut requests: Vec<Request> = Vec::new();
        self.machine.take_requests(&mut requests);
        if requests.is_empty() {
            return true;
        }
        self.awaits_proceed |= staunch_node::is_paced(&requests);
        let message = FromConnection::Requests(self.id, requests);
        self.shared.node.send(message).await
    }

    fn collect_output(&mut self) {
        if self.output_is_empty() {
            self.output.clear();
            self.written_size_bytes = 0;
            if self.output.capacity() > OUTPUT_KEPT_SIZE_BYTES_MAX {
                self.output = Vec::new();
            }
        }
        self.machine.take_output(&mut self.output);
        if self.peer_gone {
            self.output.clear();
            self.written_size_bytes = 0;
        }
    }

    fn write(&mut self) {
        while !self.output_is_empty() {
            match self.write_some() {
                Ok(()) => self.write_stalled_since = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.stall_write();
                }
                Err(_) => return self.lose_peer(),
            }
        }
        self.machine.handle_written();
    }

    fn write_some(&mut self) -> io::Result<()> {
        let rest = &self.output[self.written_size_bytes..];
        if rest.is_empty() {
            return self.stream.try_flush();
        }
        match self.stream.try_write(rest)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            size => {
                self.written_size_bytes += size;
                self.traffic.sent_bytes += size as u64;
                self.traffic.sent_count += 1;
                Ok(())
            }
        }
    }

    fn stall_write(&mut self) {
        let now = self.shared.clock.now();
        let since = *self.write_stalled_since.get_or_insert(now);
        if now.since(since) >= WRITE_STALL_MAX {
            tracing::warn!(
                event = "connection.stalled",
                connection = self.id.0,
                "client takes no output: cut off"
            );
            self.lose_peer();
        }
    }

    /// The socket is of no use any more; the node still has to hear of it.
    fn lose_peer(&mut self) {
        self.peer_gone = true;
        self.write_stalled_since = None;
        self.input = Bytes::new();
        self.buffer = BytesMut::new();
        self.output.clear();
        self.written_size_bytes = 0;
        self.machine.handle_peer_gone(self.shared.clock.now());
    }

    async fn wait(&mut self) {
        if self.read_size_bytes <= READ_SIZE_KEPT_BYTES_MAX {
            self.drop_empty_buffer();
        }
        let wants_read = !self.peer_gone
            && self.input.is_empty()
            && !self.awaits_proceed
            && !self.machine.is_stalled();
        let wants_write = !self.peer_gone && !self.output_is_empty();
        self.set_alarm();
        // The socket comes before the mailbox: deliveries keep the mailbox busy by themselves, and
        // an ack or a close must not wait for the last of them.
        tokio::select! {
            biased;
            ready = self.stream.ready(wants_read, wants_write), if wants_read || wants_write => match ready {
                Ok(is_readable) => if is_readable && wants_read { self.read() },
                Err(_) => self.lose_peer(),
            },
            () = self.mailbox.arrived() => {}
            () = ring(&mut self.alarm), if self.alarm.is_some() => self.alarm = None,
        }
    }

    /// Lets the machine's timers run if they are due, however busy the connection is.
    fn look_at_clock(&mut self) {
        let now = self.shared.clock.now();
        if self.machine.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.machine.hold_input(self.awaits_proceed);
        self.machine.handle_timeout(now);
        // Timers run about twice a minute: whoever was busy before may be idle now.
        self.drop_empty_buffer();
    }

    /// Deadlines move on with what a connection does. One that fires too early is set anew then:
    /// that costs less than setting it each time the connection waits.
    fn set_alarm(&mut self) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        let deadline = self.shared.clock.instant(deadline).into();
        match &mut self.alarm {
            Some(alarm) if alarm.deadline() <= deadline => {}
            Some(alarm) => alarm.as_mut().reset(deadline),
            None => self.alarm = Some(Box::pin(time::sleep_until(deadline))),
        }
    }

    /// When the machine or a peer that takes no output has to be looked at.
    fn deadline(&self) -> Option<Timestamp> {
        let stall = self
            .write_stalled_since
            .map(|since| since + WRITE_STALL_MAX);
        match (self.machine.poll_timeout(), stall) {
            (Some(timer), Some(stall)) => Some(timer.min(stall)),
            (either, other) => either.or(other),
        }
    }

    fn drop_empty_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn read(&mut self) {
        if self.buffer.capacity() - self.buffer.len() < self.read_size_bytes / 2 {
            self.buffer.reserve(self.read_size_bytes);
        }
        match self.stream.try_read(&mut self.buffer) {
            Ok(0) => self.lose_peer(),
            Ok(size) => {
                self.resize_next_read(size);
                self.input = self.buffer.split().freeze();
                if self.traffic.received_bytes == 0 {
                    self.look_at_first_bytes();
                }
                self.traffic.received_bytes += size as u64;
                self.traffic.received_count += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose_peer(),
        }
    }

    /// The machine answers a stranger as AMQP wants it; what it probably meant is said here.
    fn look_at_first_bytes(&self) {
        if tls::is_client_hello(&self.input) {
            tracing::warn!(
                event = "connection.foreign",
                connection = self.id.0,
                "the client speaks TLS, this listener does not"
            );
        }
    }

    /// A connection that fills its reads gets larger ones; a quiet one gives its buffer back.
    fn resize_next_read(&mut self, size: usize) {
        if size >= self.read_size_bytes {
            self.read_size_bytes = (self.read_size_bytes * 2).min(READ_SIZE_BYTES_MAX);
        } else if size < self.read_size_bytes / 8 {
            self.read_size_bytes = (self.read_size_bytes / 2).max(READ_SIZE_BYTES_MIN);
        }
    }
}

async fn ring(alarm: &mut Option<Pin<Box<time::Sleep>>>) {
    if let Some(alarm) = alarm {
        alarm.as_mut().await;
    }
}
