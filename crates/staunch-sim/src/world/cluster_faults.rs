//! Faults that only a cluster knows: cuts between nodes, and nodes that stand still.

use crate::{
    random::Random,
    schedule::MILLIS,
    world::{Happening, World},
};

/// How long a disk does nothing at most, in nanoseconds.
const STALL_NANOS_MAX: u64 = 3_000 * MILLIS;
/// How long what goes from one node to another takes long at most, in nanoseconds.
const CLOG_NANOS_MAX: u64 = 2_000 * MILLIS;

impl World {
    /// A chance for each kind of fault.
    pub(super) fn fault_of_cluster(&mut self) {
        let nodes = self.machines.len();
        if self.faults.chance(self.cluster_knobs.partition) {
            self.witness.coverage.hit("fault: partition");
            let nanos = self.faults.below(self.cluster_knobs.partition_nanos_max);
            let cut = draw_cut(nodes, &mut self.faults);
            self.witness
                .line(format_args!("cut {cut:?} for {} ms", nanos / MILLIS));
            let breaks = self.faults.chance(300);
            for (from, to) in cut {
                self.cut(from, to, nanos);
                if breaks {
                    self.break_link(from, to);
                }
            }
        }
        let (one, other) = draw_pair(nodes, &mut self.faults);
        if self.faults.chance(self.cluster_knobs.peer_reset) {
            self.witness.coverage.hit("fault: link of peers breaks");
            self.break_link(one, other);
        }
        if self.faults.chance(self.cluster_knobs.clog) {
            self.witness.coverage.hit("fault: link of peers clogged");
            let until = self.schedule.now_nanos() + self.faults.below(CLOG_NANOS_MAX);
            self.mesh.pipe(one, other).clogged_until = until;
        }
        if self.faults.chance(self.cluster_knobs.pause) {
            let nanos = self.faults.below(self.cluster_knobs.pause_nanos_max);
            self.pause(one, nanos);
        }
        if self.faults.chance(self.cluster_knobs.disk_stall)
            && let Some(process) = &mut self.machines[one].process
        {
            self.witness.coverage.hit("fault: disk stalls");
            let until = self.schedule.now_nanos() + self.faults.below(STALL_NANOS_MAX);
            process.writer_free_at = process.writer_free_at.max(until);
            process.background_free_at = process.background_free_at.max(until);
        }
        if self.faults.chance(self.cluster_knobs.clock_jump) {
            self.jump_clock(one);
        }
    }

    /// A machine's wall clock is set; a process reads it when it starts.
    pub(super) fn jump_clock(&mut self, node: usize) {
        let before = self.machines[node].clock.drift.off_millis;
        let off_millis = self.cluster_knobs.draw_off_millis(&mut self.faults);
        self.machines[node].clock.drift.off_millis = off_millis;
        self.witness.coverage.hit(if off_millis > before {
            "fault: clock jumps forward"
        } else {
            "fault: clock jumps back"
        });
        self.witness.line(format_args!(
            "clock of node {node} jumps from {before} to {off_millis} ms"
        ));
    }

    /// A node stands still: nothing in its process happens, and its sockets fill.
    pub(super) fn pause(&mut self, node: usize, nanos: u64) {
        if self.machines[node].process.is_none() || self.is_paused(node) {
            return;
        }
        self.witness.coverage.hit("fault: pause");
        self.witness.line(format_args!(
            "node {node} stands still for {} ms",
            nanos / MILLIS
        ));
        let until = self.schedule.now_nanos() + nanos;
        self.machines[node].paused_until = until;
        self.schedule.at(until, Happening::Resume(node));
    }

    /// A node goes on: its sockets are looked at.
    pub(super) fn resume(&mut self, node: usize) {
        let connections: Vec<_> = self.lines.keys().copied().collect();
        for connection in connections {
            if self.home(connection) == node {
                self.after_peer(connection);
            }
        }
    }

    /// Until when what is to happen must wait, because its node stands still.
    pub(super) fn paused_until(&self, happening: &Happening) -> u64 {
        let node = match happening {
            Happening::ToServer(connection)
            | Happening::ClosedByClient(connection)
            | Happening::PeerTimer(connection) => self.home(*connection),
            Happening::Drain(life)
            | Happening::Tick(life)
            | Happening::JobStart(life, _)
            | Happening::JobEnd(life, ..) => life.node,
            Happening::PeerArrival(_, to) => *to,
            Happening::PeerDial(low, _) => *low,
            Happening::Act(_)
            | Happening::Connect(_)
            | Happening::Heartbeat(..)
            | Happening::ToClient(_)
            | Happening::ClosedByServer(_)
            | Happening::Restart(_)
            | Happening::PeerGivenUp(..)
            | Happening::Resume(_)
            | Happening::Scene(_)
            | Happening::PowerLoss(_)
            | Happening::Isolation(_)
            | Happening::RoomAgain(_)
            | Happening::Fault
            | Happening::Operate
            | Happening::ChangeMembers
            | Happening::Progress => return 0,
        };
        self.machines[node].paused_until
    }

    /// Every fault of the cluster is over.
    pub(super) fn heal_cluster(&mut self) {
        self.cluster_knobs.heal();
        self.mend_links();
        let now = self.schedule.now_nanos();
        for node in 0..self.machines.len() {
            if self.is_paused(node) {
                self.machines[node].paused_until = now;
                self.schedule.after(0, Happening::Resume(node));
            }
        }
    }
}

/// Two nodes.
fn draw_pair(nodes: usize, random: &mut Random) -> (usize, usize) {
    let one = random.index(nodes);
    let other = (one + 1 + random.index(nodes - 1)) % nodes;
    (one, other)
}

/// From which node to which nothing arrives.
fn draw_cut(nodes: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let (one, other) = draw_pair(nodes, random);
    let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    let all = all.filter(|(from, to)| from != to);
    match random.below(6) {
        // A node alone.
        0 => all
            .filter(|(from, to)| *from == one || *to == one)
            .collect(),
        // It can be heard, or it can hear.
        1 => all.filter(|(_, to)| *to == one).collect(),
        2 => all.filter(|(from, _)| *from == one).collect(),
        // Two nodes, and others can reach both.
        3 => vec![(one, other), (other, one)],
        4 => vec![(one, other)],
        // Two parts.
        _ => {
            let is_left: Vec<bool> = (0..nodes).map(|_| random.chance(500)).collect();
            all.filter(|(from, to)| is_left[*from] != is_left[*to])
                .collect()
        }
    }
}
