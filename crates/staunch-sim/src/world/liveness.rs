//! When faults are over, everything must come to its end.

use crate::{
    client::{Phase, drain::Stage as DrainStage},
    schedule::SECONDS,
    world::{Happening, LIVENESS_MAX, LIVENESS_STEP, Stage, World},
};

impl World {
    /// Faults stop, slow things become normal, dead connections are noticed.
    pub(super) fn begin_liveness(&mut self) {
        self.witness.line(format_args!("faults are over"));
        self.stage = Stage::Liveness(self.schedule.now_nanos());
        self.knobs.heal();
        self.crash_in = None;
        {
            let mut state = self.disk.state();
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
        self.schedule.after(0, Happening::Restart);
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
            && self
                .process
                .as_ref()
                .is_some_and(|process| process.peers.len() <= 1);
        self.drain
            .step(&mut self.clients[drainer], alone, &mut self.witness);
        self.flush_client(drainer);
        if self.drain.stage == DrainStage::Done && self.is_process_empty() {
            self.stage = Stage::Done;
            self.check_leftovers();
        } else if self.schedule.now_nanos() - since > LIVENESS_MAX {
            let what = self.describe_stuck(drainer);
            self.stuck(what);
        }
    }

    fn is_process_empty(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.peers.is_empty())
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
        if let Some(process) = &mut self.process {
            process.node.check_invariants();
        }
        self.witness.coverage.hit("liveness phase passed");
    }

    fn describe_stuck(&self, drainer: usize) -> String {
        let mut parts = vec![format!(
            "after {} simulated seconds",
            LIVENESS_MAX / SECONDS
        )];
        if self.process.is_none() {
            parts.push("the node is down".into());
        }
        if let Some(process) = &self.process {
            let (memory, disk) = process.node.alarms();
            parts.push(format!(
                "{} connections at the node, memory alarm {memory}, \
                 disk alarm {disk}, {} bytes kept",
                process.peers.len(),
                process.node.kept_size_bytes(),
            ));
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
