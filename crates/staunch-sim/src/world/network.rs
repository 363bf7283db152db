//! Connections: their bytes, their beginnings and their ends.

use staunch_types::ConnectionId;

use crate::{
    client::{Phase, drain::Stage as DrainStage},
    link::{Link, WINDOW_SIZE_BYTES},
    machine::Machine,
    schedule::{MILLIS, SECONDS},
    world::{Happening, Line, Stage, World},
};

impl World {
    pub(super) fn connect(&mut self, client: usize) {
        if self.clients[client].session.is_some() || !self.wants_connection(client) {
            return;
        }
        let node = self.pick_node_for(client);
        if self.machines[node].process.is_none() {
            let delay = self.network.between(100 * MILLIS, SECONDS);
            self.schedule.after(delay, Happening::Connect(client));
            return;
        }
        let connection = self.accept(Some(client), node);
        self.witness
            .line(format_args!("client {client} connects as {connection}"));
        self.clients[client].connect(connection);
        self.flush_client(client);
        let heartbeat = u64::from(self.clients[client].habits.heartbeat);
        if heartbeat > 0 {
            let next = Happening::Heartbeat(client, connection);
            self.schedule.after(heartbeat * SECONDS / 2, next);
        }
    }

    /// A new connection at both ends.
    pub(super) fn accept(&mut self, client: Option<usize>, node: usize) -> ConnectionId {
        self.next_connection += 1;
        let nodes = self.machines.len() as u64;
        let connection = ConnectionId(self.next_connection * nodes + node as u64);
        self.lines.insert(
            connection,
            Line {
                link: Link::default(),
                client,
            },
        );
        let now = self.now_at(node);
        if let Some(process) = &mut self.machines[node].process {
            process.accept(connection, now);
        }
        self.after_peer(connection);
        connection
    }

    pub(super) fn heartbeat(&mut self, client: usize, connection: ConnectionId) {
        let Some(session) = &mut self.clients[client].session else {
            return;
        };
        if session.connection != connection {
            return;
        }
        session.send_heartbeat();
        let heartbeat = u64::from(self.clients[client].habits.heartbeat);
        self.schedule.after(
            heartbeat * SECONDS / 2,
            Happening::Heartbeat(client, connection),
        );
        self.flush_client(client);
    }

    /// Sends what a client has to say, and hangs up if it has said all.
    pub(super) fn flush_client(&mut self, client: usize) {
        let Some(session) = &mut self.clients[client].session else {
            return;
        };
        let (connection, output) = (session.connection, std::mem::take(&mut session.output));
        let is_over = session.phase == Phase::Over;
        self.send_to_server(connection, &output);
        if is_over {
            self.clients[client].disconnected(&mut self.witness);
            let at = self
                .lines
                .get(&connection)
                .map_or(0, |line| line.link.to_server.last_arrival());
            self.schedule.at(at, Happening::ClosedByClient(connection));
            self.reconnect_later(client);
        }
    }

    pub(super) fn send_to_server(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(line) = self
            .lines
            .get_mut(&connection)
            .filter(|line| !line.link.half_open)
        else {
            return;
        };
        let now = self.schedule.now_nanos();
        let pipe = &mut line.link.to_server;
        for at in pipe.send(bytes, (now, 0), &self.knobs, &mut self.network) {
            self.schedule.at(at, Happening::ToServer(connection));
        }
    }

    pub(super) fn bytes_to_server(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        let Some(piece) = line.link.to_server.arrive() else {
            return;
        };
        if line.link.half_open {
            return;
        }
        self.witness.trace.absorb(&piece);
        let node = self.home(connection);
        let now = self.now_at(node);
        if let Some(process) = &mut self.machines[node].process {
            process.receive(connection, &piece, now, &mut self.witness);
        }
        self.after_peer(connection);
    }

    pub(super) fn bytes_to_client(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        let Some(piece) = line.link.to_client.arrive() else {
            return;
        };
        let (half_open, client) = (line.link.half_open, line.client);
        self.witness.trace.absorb(&piece);
        if let Some(client) = client.filter(|_| !half_open)
            && self.is_session(client, connection)
        {
            self.clients[client].receive(&piece, &mut self.witness);
            self.flush_client(client);
        }
        self.after_peer(connection);
    }

    /// Whatever a connection at the node did: moves its bytes, sets its timer, closes it, and
    /// has the node drained.
    pub(super) fn after_peer(&mut self, connection: ConnectionId) {
        let node = self.home(connection);
        if self.is_paused(node) {
            return;
        }
        self.write_to_client(connection);
        self.plan_drain(node);
        let Machine { process, clock, .. } = &mut self.machines[node];
        let Some(process) = process else {
            return;
        };
        let Some(peer) = process.peers.get_mut(&connection) else {
            return;
        };
        if let Some(due) = peer.machine.poll_timeout()
            && peer.timer.is_none_or(|timer| due < timer)
        {
            peer.timer = Some(due);
            let at = clock.when(due);
            self.schedule.at(at, Happening::PeerTimer(connection));
        }
        let written = !peer.is_writing && !peer.machine.has_output();
        if peer.machine.is_closed() && (written || peer.is_hung_up) {
            peer.is_hung_up = true;
            if peer.machine.is_node_done() {
                process.peers.remove(&connection);
            }
            if let Some(line) = self.lines.get_mut(&connection)
                && !line.link.closed_by_server
            {
                line.link.closed_by_server = true;
                let at = line.link.to_client.last_arrival();
                self.schedule.at(at, Happening::ClosedByServer(connection));
            }
        }
    }

    fn write_to_client(&mut self, connection: ConnectionId) {
        let node = self.home(connection);
        let (now, now_nanos) = (self.now_at(node), self.schedule.now_nanos());
        let Some(process) = &mut self.machines[node].process else {
            return;
        };
        loop {
            let Some(peer) = process.peers.get_mut(&connection) else {
                return;
            };
            let Some(line) = self.lines.get_mut(&connection) else {
                return;
            };
            let pipe = &mut line.link.to_client;
            if peer.is_writing && pipe.in_flight_bytes() < WINDOW_SIZE_BYTES {
                peer.is_writing = false;
                peer.machine.handle_written();
                process.pump(connection, now, &mut self.witness);
                continue;
            }
            if peer.is_writing || !peer.machine.has_output() {
                break;
            }
            let mut output = Vec::new();
            peer.machine.take_output(&mut output);
            peer.is_writing = true;
            let times = (now_nanos, line.link.paused_until);
            for at in pipe.send(&output, times, &self.knobs, &mut self.network) {
                self.schedule.at(at, Happening::ToClient(connection));
            }
        }
        if process
            .peers
            .get(&connection)
            .is_some_and(|peer| peer.is_writing)
        {
            self.witness.coverage.hit("socket full");
        }
    }

    pub(super) fn peer_timer(&mut self, connection: ConnectionId) {
        let node = self.home(connection);
        let now = self.now_at(node);
        if let Some(process) = &mut self.machines[node].process
            && process
                .peers
                .get(&connection)
                .is_some_and(|peer| peer.timer.is_some_and(|timer| timer <= now))
        {
            process.expire(connection, now, &mut self.witness);
            self.after_peer(connection);
        }
    }

    pub(super) fn closed_by_server(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get(&connection) else {
            return;
        };
        let (client, half_open) = (line.client, line.link.half_open);
        if let Some(client) = client.filter(|_| !half_open) {
            self.drop_session(client, connection);
        }
        self.lines.remove(&connection);
        self.hang_up(connection);
    }

    pub(super) fn closed_by_client(&mut self, connection: ConnectionId) {
        self.hang_up(connection);
        if self
            .lines
            .get(&connection)
            .is_some_and(|line| !line.link.half_open)
        {
            self.lines.remove(&connection);
        }
    }

    /// Cuts a connection: both ends hear of it, and what was under way is gone.
    pub(super) fn reset(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.remove(&connection) else {
            return;
        };
        self.witness
            .line(format_args!("connection {connection} is reset"));
        if let Some(client) = line.client {
            self.drop_session(client, connection);
        }
        self.hang_up(connection);
    }

    /// A client forgets its connection and does not say so.
    pub(super) fn vanish(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.link.half_open = true;
        let client = line.client;
        self.witness
            .line(format_args!("client of connection {connection} vanishes"));
        if let Some(client) = client {
            self.drop_session(client, connection);
        }
    }

    pub(super) fn is_session(&self, client: usize, connection: ConnectionId) -> bool {
        let session = self.clients[client].session.as_ref();
        session.is_some_and(|session| session.connection == connection)
    }

    fn drop_session(&mut self, client: usize, connection: ConnectionId) {
        if self.is_session(client, connection) {
            self.clients[client].disconnected(&mut self.witness);
            self.reconnect_later(client);
        }
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        let node = self.home(connection);
        let now = self.now_at(node);
        if let Some(process) = &mut self.machines[node].process {
            process.hang_up(connection, now, &mut self.witness);
            self.after_peer(connection);
        }
    }

    fn reconnect_later(&mut self, client: usize) {
        if self.wants_connection(client) {
            let delay = self.network.between(MILLIS, 500 * MILLIS);
            self.schedule.after(delay, Happening::Connect(client));
        }
    }

    /// In the liveness phase only the drainer comes back.
    fn wants_connection(&self, client: usize) -> bool {
        let is_drainer = client + 1 == self.clients.len();
        match self.stage {
            Stage::Safety => !is_drainer,
            Stage::Liveness(_) => is_drainer && self.drain.stage < DrainStage::Closing,
            Stage::Done => false,
        }
    }
}
