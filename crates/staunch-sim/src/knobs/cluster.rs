//! What a seed turns on in a cluster.

use std::time::Duration;

use super::{rate, to_u32};
use crate::{
    machine::Drift,
    random::Random,
    schedule::{MILLIS, SECONDS},
};

/// How long a run takes at most, in nanoseconds.
const RUN_MAX: u64 = 150 * SECONDS;

/// Where leaders are, and what one queue is (`docs/failover-modes.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Leaders are spread.
    #[default]
    Cluster,
    /// This node leads everything while it is well.
    Standby(usize),
    /// There is a queue of several partitions.
    Partitioned,
}

/// The knobs of a cluster. Rates are per mille and per opportunity.
#[derive(Clone, Debug)]
pub struct ClusterKnobs {
    /// How many nodes found it.
    pub founders: usize,
    /// How many join it later.
    pub newcomers: usize,
    /// Where leaders are.
    pub mode: Mode,
    /// The run ends only when leaders are where they should be.
    pub awaits_home: bool,
    /// Nodes cannot reach each other for a while, in one direction or both.
    pub partition: u32,
    /// How long that lasts at most, in nanoseconds.
    pub partition_nanos_max: u64,
    /// The link of two nodes breaks.
    pub peer_reset: u32,
    /// What goes from one node to another takes long for a while.
    pub clog: u32,
    /// A node stands still for a while.
    pub pause: u32,
    /// How long that lasts at most, in nanoseconds.
    pub pause_nanos_max: u64,
    /// A disk does nothing for a while.
    pub disk_stall: u32,
    /// A wall clock jumps.
    pub clock_jump: u32,
    /// How far a wall clock is from the right time at most, in milliseconds.
    pub clock_off_millis_max: u64,
    /// By how much a clock runs too fast or too slow at most, in millionths.
    pub clock_drift_ppm_max: u32,
    /// A machine may lose what is on its disk: no queue is kept by one node alone.
    pub keeps_all: bool,
    /// What becomes of the members of cluster and queues.
    pub members: MemberKnobs,
    /// What becomes of what rests on disks.
    pub damage: DamageKnobs,
}

/// Damage to what rests on disks. Rates are per mille and per opportunity.
#[derive(Clone, Copy, Debug, Default)]
pub struct DamageKnobs {
    /// A machine loses power, and a file of it is damaged when it comes back.
    pub at_start: u32,
    /// A bit flips in a segment of a node that runs.
    pub running: u32,
}

impl DamageKnobs {
    fn draw(random: &mut Random) -> Self {
        Self {
            at_start: rate(random, 150),
            running: rate(random, 100),
        }
    }
}

/// What becomes of the members. Rates are per mille and per opportunity.
#[derive(Clone, Debug, Default)]
pub struct MemberKnobs {
    /// A machine loses power and comes back with another disk, which is empty.
    pub lost_disk: u32,
    /// A node is asked to leave, or is given up while it is off.
    pub remove: u32,
    /// A queue is to be kept by other nodes.
    pub place: u32,
    /// Replicas are spread over the nodes.
    pub rebalance: u32,
    /// How long a node may be away before its replicas are made anew on others.
    pub repair_after: Option<Duration>,
}

impl MemberKnobs {
    fn draw(random: &mut Random) -> Self {
        Self {
            lost_disk: rate(random, 100),
            remove: rate(random, 80),
            place: rate(random, 200),
            rebalance: rate(random, 60),
            repair_after: *random.pick(&[
                None,
                Some(Duration::from_secs(3)),
                Some(Duration::from_secs(10)),
            ]),
        }
    }
}

impl ClusterKnobs {
    /// A node that stands alone.
    pub fn alone() -> Self {
        Self {
            founders: 1,
            newcomers: 0,
            mode: Mode::Cluster,
            awaits_home: false,
            partition: 0,
            partition_nanos_max: 0,
            peer_reset: 0,
            clog: 0,
            pause: 0,
            pause_nanos_max: 0,
            disk_stall: 0,
            clock_jump: 0,
            clock_off_millis_max: 0,
            clock_drift_ppm_max: 0,
            keeps_all: false,
            members: MemberKnobs::default(),
            damage: DamageKnobs::default(),
        }
    }

    /// Draws the knobs.
    pub fn draw(random: &mut Random) -> Self {
        let changes_members = random.chance(400);
        let (mut members, mut damage) = (MemberKnobs::default(), DamageKnobs::default());
        if changes_members {
            members = MemberKnobs::draw(random);
        }
        if random.chance(300) {
            damage = DamageKnobs::draw(random);
        }
        let founders = if random.chance(700) { 3 } else { 5 };
        let mode = match random.below(10) {
            0..=5 => Mode::Cluster,
            6..=7 => Mode::Standby(random.index(founders)),
            _ => Mode::Partitioned,
        };
        Self {
            founders,
            mode,
            awaits_home: matches!(mode, Mode::Standby(_)) || random.chance(200),
            newcomers: usize::from(changes_members && random.chance(500)),
            partition: rate(random, 30),
            partition_nanos_max: *random.pick(&[300 * MILLIS, 2 * SECONDS, 10 * SECONDS]),
            peer_reset: rate(random, 15),
            clog: rate(random, 15),
            pause: rate(random, 15),
            pause_nanos_max: *random.pick(&[200 * MILLIS, SECONDS, 6 * SECONDS]),
            disk_stall: rate(random, 10),
            clock_jump: rate(random, 20),
            clock_off_millis_max: *random.pick(&[0, 0, 200, 2_000, 10_000]),
            clock_drift_ppm_max: *random.pick(&[0, 0, 1_000, 20_000, 100_000]),
            keeps_all: members.lost_disk + members.remove + damage.at_start + damage.running > 0,
            members,
            damage,
        }
    }

    /// How many machines there are.
    pub fn machines(&self) -> usize {
        self.founders + self.newcomers
    }

    /// Whether anybody looks after the members.
    pub fn has_operator(&self) -> bool {
        let members = &self.members;
        self.keeps_all || members.place > 0 || members.rebalance > 0
    }

    /// By how much the times of two nodes may differ in a run, in nanoseconds.
    pub fn clock_slack_nanos(&self) -> u64 {
        let drift = RUN_MAX / 1_000_000 * u64::from(self.clock_drift_ppm_max);
        2 * (self.clock_off_millis_max * MILLIS + drift)
    }

    /// How wrong a machine's clocks are.
    pub fn draw_drift(&self, random: &mut Random) -> Drift {
        let ppm_max = u64::from(self.clock_drift_ppm_max);
        let faster = to_u32(random.between(0, 2 * ppm_max));
        Drift {
            ppm: i64::from(faster) - i64::from(self.clock_drift_ppm_max),
            off_millis: self.draw_off_millis(random),
        }
    }

    /// How far a wall clock is from the right time.
    pub fn draw_off_millis(&self, random: &mut Random) -> i64 {
        let max = self.clock_off_millis_max;
        let millis = random.between(0, 2 * max);
        millis.cast_signed() - max.cast_signed()
    }

    /// Faults stop.
    pub fn heal(&mut self) {
        *self = Self {
            founders: self.founders,
            newcomers: self.newcomers,
            mode: self.mode,
            awaits_home: self.awaits_home,
            keeps_all: self.keeps_all,
            members: MemberKnobs {
                repair_after: self.members.repair_after,
                ..MemberKnobs::default()
            },
            ..Self::alone()
        };
    }
}
