//! When faults strike.

use staunch_types::ConnectionId;

use crate::{
    history::Fact,
    schedule::{MILLIS, SECONDS},
    world::{Happening, Stage, World},
};

/// Mean time between two chances for a fault, in nanoseconds.
const FAULT_STEP: u64 = 50 * MILLIS;

impl World {
    /// A chance for each kind of fault.
    pub(super) fn fault(&mut self) {
        if self.stage != Stage::Safety {
            return;
        }
        let next = self.faults.latency(FAULT_STEP);
        self.schedule.after(next, Happening::Fault);
        let node = self.pick_fault_node();
        if self.machines[node].process.is_some() {
            self.fault_of_process(node);
            self.fault_of_disk(node);
            self.fault_of_network();
        }
        if self.is_cluster() {
            self.fault_of_cluster();
        }
    }

    /// Power goes at an event, not at a time: between any two steps, and sooner while a write
    /// is pending.
    pub(super) fn count_down_to_crash(&mut self) {
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            let Some(left) = machine.crash_in else {
                continue;
            };
            let process = machine.process.as_ref();
            let is_writing = process.is_some_and(|process| process.writes_pending > 0);
            if left == 0 || (is_writing && self.faults.chance(100)) {
                machine.crash_in = None;
                if machine.process.is_some() && self.stage == Stage::Safety {
                    self.crash(node, "power lost");
                }
            } else {
                machine.crash_in = Some(left - 1);
            }
        }
    }

    fn fault_of_process(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.crash_in.is_none() && self.faults.chance(self.knobs.crash) {
            machine.crash_in = Some(self.faults.below(200));
        }
        if self.faults.chance(self.knobs.clean_stop)
            && let Some(process) = &mut machine.process
        {
            process.inbox.push_back(staunch_node::Input::Stop);
            let name = self.name(node);
            self.witness.line(format_args!("{name} is told to stop"));
            self.plan_drain(node);
        }
    }

    fn fault_of_disk(&mut self, node: usize) {
        let disk = &self.machines[node].disk;
        let faults = &mut self.faults;
        if faults.chance(self.knobs.crash_in_job) {
            disk.state().power_off_in = u32::try_from(faults.below(16)).ok();
        }
        if faults.chance(self.knobs.disk_write_error) {
            self.witness.coverage.hit("fault: write error");
            disk.state().fail_write = true;
        }
        if faults.chance(self.knobs.disk_sync_error) {
            self.witness.coverage.hit("fault: sync error");
            disk.state().fail_sync = true;
        }
        if faults.chance(self.knobs.disk_full) {
            self.witness.coverage.hit("fault: disk full");
            let room = faults.below(600 * 1024);
            let mut state = disk.state();
            state.capacity_bytes = state.used_bytes() + room;
            self.witness
                .line(format_args!("disk has {room} bytes left"));
            self.schedule
                .after(faults.below(4 * SECONDS), Happening::RoomAgain(node));
        }
        if !self.is_damaged && self.machines.len() == 1 && faults.chance(self.knobs.disk_bit_flip) {
            let flipped = disk.state().flip_bit();
            if let Some((name, offset)) = flipped {
                self.witness.coverage.hit("fault: bit flip");
                self.witness
                    .line(format_args!("bit flips in {name} at {offset}"));
                self.witness.history.push(Fact::Damaged);
                self.is_damaged = true;
            }
        }
    }

    fn fault_of_network(&mut self) {
        let lines: Vec<ConnectionId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.client.is_some() && !line.link.half_open)
            .map(|(id, _)| *id)
            .collect();
        if self.faults.chance(self.knobs.net_garbage) {
            self.attack();
        }
        if lines.is_empty() {
            return;
        }
        if self.faults.chance(self.knobs.net_reset) {
            self.witness.coverage.hit("fault: reset");
            let connection = *self.faults.pick(&lines);
            self.reset(connection);
        }
        if self.faults.chance(self.knobs.net_half_open) {
            self.witness.coverage.hit("fault: half-open");
            let connection = *self.faults.pick(&lines);
            self.vanish(connection);
        }
        if self.faults.chance(self.knobs.net_slow_reader) {
            self.witness.coverage.hit("fault: slow reader");
            let connection = *self.faults.pick(&lines);
            let until = self.schedule.now_nanos() + self.faults.below(3 * SECONDS);
            if let Some(line) = self.lines.get_mut(&connection) {
                line.link.paused_until = until;
            }
        }
    }

    /// Somebody connects and sends what no client sends.
    fn attack(&mut self) {
        self.witness.coverage.hit("fault: garbage");
        let node = self.pick_node();
        let connection = self.accept(None, node);
        let faults = &mut self.faults;
        let mut bytes = Vec::new();
        if faults.chance(700) {
            bytes.extend_from_slice(b"AMQP\x00\x00\x09\x01");
        }
        for _ in 0..faults.below(6) {
            let size = faults.index(60);
            bytes.push(*faults.pick(&[1, 1, 2, 3, 8, 9]));
            bytes.extend_from_slice(&[0, *faults.pick(&[0, 0, 1])]);
            bytes.extend_from_slice(&u32::try_from(size).unwrap_or(0).to_be_bytes());
            bytes.extend_from_slice(&[0, *faults.pick(&[10, 20, 50, 60]), 0]);
            bytes.extend((0..size).map(|_| u8::try_from(faults.below(256)).unwrap_or(0)));
            bytes.push(*faults.pick(&[0xCE, 0xCE, 0]));
        }
        self.send_to_server(connection, &bytes);
        let at = self.schedule.now_nanos() + self.faults.below(5 * SECONDS);
        self.schedule.at(at, Happening::ClosedByClient(connection));
    }
}
