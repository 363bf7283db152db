//! A running node with its connections and workers, as the server's runtime would hold them.
//!
//! The runtime is the one part of the product the simulator replaces, so this file does what it
//! does: feed bytes to connections, gather their requests for the node's next drain, hand the
//! node's events back, run jobs. Planted bugs sit here (`crate::wiring`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use staunch_amqp_connection::{Config, Connection, Transport};
use staunch_log::{Background, Note, Reader, Writer};
use staunch_node::{Input, Node, NodeConfig, Output, Recovered, StartError, recover};
use staunch_types::{ConnectionId, Event, Request, Timestamp};

use crate::{
    brief::Brief, disk::SimDisk, machine::Life, planted::Planted, random::Random, wiring::Wiring,
    witness::Witness,
};

/// Drains between two looks at the node's invariants.
const DRAINS_PER_CHECK: u64 = 8;
/// The same of a node with thousands of queues.
const DRAINS_PER_CHECK_OF_MANY: u64 = 512;

/// The process.
pub struct Process {
    /// The node.
    pub node: Node,
    /// Its writer.
    pub writer: Writer<SimDisk>,
    /// Its background worker.
    pub background: Background<SimDisk>,
    /// Its reader.
    pub reader: Reader<SimDisk>,
    /// Its connections.
    pub peers: BTreeMap<ConnectionId, Peer>,
    /// What it has not been told yet.
    pub inbox: VecDeque<Input>,
    /// Which life of which node this is.
    pub life: Life,
    /// A drain is due.
    pub is_drain_planned: bool,
    /// When its timer goes off, as planned, in nanoseconds.
    pub wake_at: Option<u64>,
    /// When the writer is free again, in nanoseconds.
    pub writer_free_at: u64,
    /// When the background worker is free again, in nanoseconds.
    pub background_free_at: u64,
    /// Write jobs under way.
    pub writes_pending: u32,
    /// It has thousands of queues: not all of them are looked at all the time.
    pub has_many_queues: bool,
    connection_config: Arc<Config>,
    wiring: Wiring,
    random: Random,
    drains: u64,
    invariant_phase: u64,
}

/// The server's end of a connection.
pub struct Peer {
    /// The machine.
    pub machine: Connection,
    /// Bytes it has not taken yet.
    pub input: BytesMut,
    /// When its timer is set for.
    pub timer: Option<Timestamp>,
    /// Bytes were handed to the socket and are not all written.
    pub is_writing: bool,
    /// Publishes are with the node: no more input until it says so.
    pub awaits_proceed: bool,
    /// The socket is closed, or to be closed.
    pub is_hung_up: bool,
}

impl Process {
    /// Starts a node on its disk among those of all nodes.
    ///
    /// # Errors
    /// When the node refuses.
    pub fn start(
        disks: Vec<SimDisk>,
        config: NodeConfig,
        life: Life,
        planted: Option<Planted>,
        mut random: Random,
    ) -> Result<(Self, Vec<Note>), StartError> {
        let Recovered {
            node,
            writer,
            background,
            reader,
            notes,
            ..
        } = recover(disks[life.node].clone(), config)?;
        let process = Self {
            node,
            writer,
            background,
            reader,
            peers: BTreeMap::new(),
            inbox: VecDeque::new(),
            life,
            is_drain_planned: false,
            wake_at: None,
            writer_free_at: 0,
            background_free_at: 0,
            writes_pending: 0,
            has_many_queues: false,
            connection_config: Arc::new(Config::default()),
            wiring: Wiring::new(planted, disks, random.split()),
            invariant_phase: random.below(DRAINS_PER_CHECK),
            random,
            drains: 0,
        };
        Ok((process, notes))
    }

    /// A client connected.
    pub fn accept(&mut self, id: ConnectionId, now: Timestamp) {
        let seed = self.random.next_u64();
        let machine = Connection::new(
            Arc::clone(&self.connection_config),
            Transport::loopback(),
            seed,
            now,
        );
        let peer = Peer {
            machine,
            input: BytesMut::new(),
            timer: None,
            is_writing: false,
            awaits_proceed: false,
            is_hung_up: false,
        };
        self.peers.insert(id, peer);
        self.inbox.push_back(Input::Connected(id));
    }

    /// Bytes came from a client.
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Timestamp, out: &mut Witness) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !peer.is_hung_up
        {
            peer.input.extend_from_slice(bytes);
            self.pump(id, now, out);
        }
    }

    /// The client's socket is gone.
    pub fn hang_up(&mut self, id: ConnectionId, now: Timestamp, out: &mut Witness) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.is_hung_up = true;
            peer.input.clear();
            peer.machine.handle_peer_gone(now);
            self.pump(id, now, out);
        }
    }

    /// A connection's timer went off.
    pub fn expire(&mut self, id: ConnectionId, now: Timestamp, out: &mut Witness) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.timer = None;
            peer.machine.handle_timeout(now);
            self.pump(id, now, out);
        }
    }

    /// Lets a connection take its input and moves its requests to the node's inbox.
    pub fn pump(&mut self, id: ConnectionId, now: Timestamp, out: &mut Witness) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let reads = !peer.awaits_proceed && !peer.machine.is_stalled();
        if reads && !peer.input.is_empty() && !peer.machine.is_closed() {
            let input: Bytes = peer.input.split().freeze();
            let taken = peer.machine.handle_input(&input, now);
            peer.input = BytesMut::from(&input[taken..]);
        }
        peer.machine.check_invariants();
        let mut requests: Vec<Request> = Vec::new();
        peer.machine.take_requests(&mut requests);
        if peer.machine.is_stalled() {
            out.coverage.hit("connection stalled");
        }
        if !requests.is_empty() {
            let (requests, answers) = self.wiring.requests(id, requests, out);
            if !requests.is_empty() {
                peer.awaits_proceed |= staunch_node::is_paced(&requests);
                self.inbox.push_back(Input::Requests(id, requests));
            }
            if !answers.is_empty() {
                self.deliver(id, answers, now, out);
            }
        }
    }

    /// The node's last batch of publishes of a connection has been taken.
    pub fn proceed(&mut self, id: ConnectionId, now: Timestamp, out: &mut Witness) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.awaits_proceed = false;
            self.pump(id, now, out);
        }
    }

    /// Tells the node what has gathered; what it asks for in return.
    pub fn drain(
        &mut self,
        input_count_max: usize,
        now: Timestamp,
        out: &mut Witness,
    ) -> Vec<Output> {
        self.is_drain_planned = false;
        let mut left = input_count_max;
        for input in std::mem::take(&mut self.inbox) {
            let is_request = matches!(input, Input::Requests(..) | Input::Connected(_));
            // Facts always; requests while the disk keeps up.
            if is_request && (left == 0 || self.node.is_saturated()) {
                left = 0;
                self.inbox.push_back(input);
                continue;
            }
            left -= usize::from(is_request);
            observe(&input, out);
            self.node.handle(input, now);
        }
        self.node.finish_drain(now);
        self.drains += 1;
        let per_check = if self.has_many_queues {
            DRAINS_PER_CHECK_OF_MANY
        } else {
            DRAINS_PER_CHECK
        };
        if self.drains % per_check == self.invariant_phase {
            self.node.check_invariants();
        }
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    /// Hands events to a connection.
    pub fn deliver(
        &mut self,
        id: ConnectionId,
        events: Vec<Event>,
        now: Timestamp,
        out: &mut Witness,
    ) {
        for event in self.wiring.events(id, events, out) {
            out.detail(format_args!("node -> {id} {}", Brief(&event)));
            self.wiring.observe(id, &event, out);
            if matches!(event, Event::ConnectionClosed) {
                out.connection_over(id);
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.machine.handle_event(event, now);
            }
        }
        self.pump(id, now, out);
    }
}

fn observe(input: &Input, out: &mut Witness) {
    let Input::Requests(id, requests) = input else {
        return;
    };
    for request in requests {
        out.detail(format_args!("node <- {id} {}", Brief(request)));
        if let Request::OpenChannel { channel } = request {
            out.channel_opened(*id, *channel);
        }
    }
}
