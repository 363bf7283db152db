//! When faults are over, everything must come to its end.

use staunch_node::{AdminAnswer, AdminId, AdminRequest, Input, Output};

use crate::{
    client::{Phase, drain::Stage as DrainStage},
    history::Fact,
    schedule::{MILLIS, SECONDS},
    topology::{Queue, QueueKind},
    world::{Happening, LIVENESS_MAX, LIVENESS_STEP, Stage, World},
};

/// How much later than its time a queue may expire, in nanoseconds.
const EXPIRY_SLACK: u64 = 2 * SECONDS;

impl World {
    /// Faults stop, slow things become normal, dead connections are noticed.
    pub(super) fn begin_liveness(&mut self) {
        self.witness.line(format_args!("faults are over"));
        self.compare_states();
        self.stage = Stage::Liveness(self.schedule.now_nanos());
        self.knobs.heal();
        self.heal_cluster();
        for machine in &mut self.machines {
            machine.crash_in = None;
            let mut state = machine.disk.state();
            state.capacity_bytes = u64::MAX;
            state.power_off_in = None;
            state.fail_write = false;
            state.fail_sync = false;
        }
        let dead: Vec<_> = self
            .lines
            .iter()
            .filter(|(_, line)| line.link.half_open || line.client.is_none())
            .map(|(connection, _)| *connection)
            .collect();
        for connection in dead {
            self.reset(connection);
        }
        for line in self.lines.values_mut() {
            line.link.paused_until = 0;
        }
        for node in 0..self.machines.len() {
            self.schedule.after(0, Happening::Restart(node));
        }
        self.schedule
            .after(0, Happening::Connect(self.clients.len() - 1));
        self.schedule.after(0, Happening::Progress);
    }

    /// A look at what still hangs.
    pub(super) fn progress(&mut self) {
        let Stage::Liveness(since) = self.stage else {
            return;
        };
        self.schedule.after(LIVENESS_STEP, Happening::Progress);
        let drainer = self.clients.len() - 1;
        self.close_quiet_clients(drainer);
        let alone = self.clients[..drainer]
            .iter()
            .all(|client| client.session.is_none())
            && self.connection_count().is_some_and(|count| count <= 1)
            && !self.is_passing_on()
            && !self.has_lost_guests(drainer);
        self.drain
            .step(&mut self.clients[drainer], alone, &mut self.witness);
        self.flush_client(drainer);
        let is_drained = self.drain.stage == DrainStage::Done && self.connection_count() == Some(0);
        if is_drained && self.is_expiry_over() && self.is_whole() {
            self.stage = Stage::Done;
            self.check_leftovers();
        } else if self.schedule.now_nanos() - since > self.liveness_max() {
            let what = self.describe_stuck(drainer);
            self.stuck(what);
        }
    }

    /// How long the liveness phase may take, in nanoseconds. What is to be done at a certain time
    /// is done late if clocks are wrong.
    fn liveness_max(&self) -> u64 {
        LIVENESS_MAX + self.witness.history.clock_slack_nanos
    }

    /// Whether what expires must have done so, now that nobody uses it.
    fn is_expiry_over(&mut self) -> bool {
        let now = self.schedule.now_nanos();
        let since = *self.unused_since.get_or_insert(now);
        let queues = &self.witness.definitions.topology().queues;
        let lives_millis = queues.iter().filter_map(|queue| queue.expires_millis).max();
        // Its leader may go home meanwhile, and the next one begins to count anew.
        let lives = if self.machines.len() > 1 { 2 } else { 1 };
        // A clock may be slow.
        let slack = lives_millis.unwrap_or_default() * MILLIS / 2 + EXPIRY_SLACK;
        lives_millis.is_none_or(|millis| now > since + lives * millis * MILLIS + slack)
    }

    /// Asks the node which queues there are: what was to expire must be gone.
    fn check_expired(&mut self) {
        let now = self.now_at(0);
        let Some(process) = &mut self.machines[0].process else {
            return;
        };
        let (id, request) = (AdminId(0), AdminRequest::ListQueues { vhost: None });
        process.node.handle(Input::Admin(id, request), now);
        process.node.finish_drain(now);
        let outputs = std::iter::from_fn(|| process.node.poll_output());
        let listed = outputs.filter_map(|output| match output {
            Output::Admin(_, AdminAnswer::Queues(queues)) => Some(queues),
            _ => None,
        });
        let names: Vec<_> = listed.flatten().map(|queue| queue.name).collect();
        let topology = self.witness.definitions.topology();
        let is_expiring = |queue: &&Queue| queue.kind == QueueKind::Expiring;
        let expiring: Vec<_> = topology.queues.iter().filter(is_expiring).collect();
        let is_left = |queue: &&&Queue| names.iter().any(|name| **name == *queue.name.as_bytes());
        if let Some(left) = expiring.iter().find(is_left) {
            let what = format!("queue '{}' does not expire", left.name);
            self.witness.history.push(Fact::Stuck { what });
        } else if !expiring.is_empty() {
            self.witness.coverage.hit("queue expired");
        }
    }

    /// Whether a cluster is what it should be, now that no fault stands in its way.
    fn is_whole(&self) -> bool {
        !self.is_cluster() || (self.not_whole().is_none() && self.not_at_home().is_none())
    }

    /// Whether dead letters or publishes are on their way between nodes, which no client sees.
    fn is_passing_on(&self) -> bool {
        let mut processes = self.machines.iter().filter_map(|it| it.process.as_ref());
        self.machines.len() > 1 && processes.any(|process| !process.node.passing_on().is_empty())
    }

    /// Connections that the nodes know of; none while a node is down.
    fn connection_count(&self) -> Option<usize> {
        let processes = self.machines.iter().map(|machine| machine.process.as_ref());
        processes.map(|it| Some(it?.peers.len())).sum()
    }

    /// Whether a node serves clients of another that are gone, and has not heard of that: what it has
    /// handed out to them is yet to be given to others.
    fn has_lost_guests(&self, drainer: usize) -> bool {
        let session = self.clients[drainer].session.as_ref();
        let drainer = session.map(|session| session.connection);
        let mut processes = self.machines.iter().filter_map(|it| it.process.as_ref());
        processes.any(|process| process.node.guests().any(|guest| Some(guest) != drainer))
    }

    /// Clients settle what they hold, and say goodbye when all their answers have come.
    fn close_quiet_clients(&mut self, drainer: usize) {
        for client in 0..drainer {
            self.clients[client].advance_setup(&mut self.witness);
            if let Some(session) = &mut self.clients[client].session {
                if session.phase == Phase::Ready && session.is_quiet() {
                    session.close(&mut self.witness);
                } else {
                    session.ack_all(&mut self.witness);
                }
            }
            self.flush_client(client);
        }
    }

    fn check_leftovers(&mut self) {
        self.check_expired();
        self.compare_states();
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.node.check_invariants();
            }
        }
        self.witness.coverage.hit("liveness phase passed");
    }

    fn describe_stuck(&self, drainer: usize) -> String {
        let mut parts = vec![format!(
            "after {} simulated seconds",
            self.liveness_max() / SECONDS
        )];
        for node in 0..self.machines.len() {
            let name = self.name(node);
            let Some(process) = &self.machines[node].process else {
                parts.push(format!("{name} is down"));
                continue;
            };
            let (memory, disk) = process.node.alarms();
            parts.push(format!(
                "{} connections at {name}, memory alarm {memory}, disk alarm {disk}, {} bytes kept, \
                 guests {:?}, passes on {:?}",
                process.peers.len(),
                process.node.kept_size_bytes(),
                process.node.guests().collect::<Vec<_>>(),
                process.node.passing_on(),
            ));
        }
        for machine in &self.machines {
            let groups = machine.process.iter().flat_map(|it| it.node.group_facts());
            parts.extend(groups.map(|facts| format!("{facts:?}")));
        }
        if self.is_cluster() {
            parts.extend(self.not_whole());
            parts.extend(self.not_at_home());
        }
        parts.push(format!("drainer is {:?}", self.drain.stage));
        for (id, client) in self.clients.iter().enumerate() {
            let Some(session) = &client.session else {
                continue;
            };
            let word = if id == drainer { "drainer" } else { "client" };
            parts.push(format!(
                "{word} {id} ({:?}) on connection {} is {:?}{}",
                client.role,
                session.connection,
                session.phase,
                if session.blocked { ", blocked" } else { "" },
            ));
            for (number, channel) in &session.channels {
                if !channel.is_quiet() || !channel.unacked.is_empty() {
                    parts.push(format!(
                        "channel {number} {:?} waits for {:?}, {} confirms, holds {}",
                        channel.phase,
                        channel.asked,
                        channel.unconfirmed.len(),
                        channel.unacked.len()
                    ));
                }
            }
            if id == drainer
                && let Some(control) = session.channels.get(&1)
            {
                parts.push(format!("probes saw {:?}", control.probed));
            }
        }
        parts.join("; ")
    }
}
