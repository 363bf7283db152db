//! Named scenarios: known failures of others, played again with chosen faults in place of chance.
//!
//! The workload, the topology and all times are the seed's; what strikes, and whom, is the
//! scenario's. `world::scenes` plays them.

use crate::{
    knobs::{ClusterKnobs, Knobs, Mode},
    schedule::{MICROS, MILLIS, SECONDS},
};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Processes die one after the other, again and again, also while they recover (NATS 7545: a
    /// stream is gone after crashes).
    KillEach,
    /// All machines lose power at once (NATS 7564: what was acknowledged was not yet synced).
    PowerLossOfAll,
    /// One member stands still, another loses power, and when the leader is cut off these two must
    /// have everything (NATS 7567: a restarted member that has lost its tail makes a majority with
    /// one that lags).
    PowerLossAndPause,
    /// The leader is alone for a while and then loses power, as the others come back (Kafka: the
    /// last replica in sync acknowledges alone, and is lost).
    LastReplica,
    /// The leader is cut off and does not know it, while clients at all nodes go on: it must
    /// neither confirm nor hand out, count or call empty what others may have changed.
    StaleLeader,
    /// The leader hears everybody and is heard by nobody, or the other way round.
    OneWay,
    /// Two nodes do not hear each other, and the others hear both.
    Bridge,
    /// The leader's links come and go faster than an election takes.
    Flapping,
    /// The leader's disk does nothing for seconds.
    SlowDisk,
    /// The leader stands still and goes on where it was.
    Pause,
    /// A file of one member is damaged or cut while that is off, and when it has just come back the
    /// leader loses power (NATS 7549, 7567: a minority with flipped bits or half a file makes
    /// others forget).
    BitFlipMinority,
    /// Wall clocks jump forward and back, and processes read them anew.
    ClockJump,
    /// Each node in turn is stopped and started again, under load: no publish is refused.
    RollingRestart,
    /// Each machine in turn comes back with an empty disk.
    LostDisks,
    /// Thousands of groups lose their leaders at once: all nodes stand still, or cannot hear each
    /// other for long.
    ElectionStorm,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::KillEach,
        Self::PowerLossOfAll,
        Self::PowerLossAndPause,
        Self::LastReplica,
        Self::StaleLeader,
        Self::OneWay,
        Self::Bridge,
        Self::Flapping,
        Self::SlowDisk,
        Self::Pause,
        Self::BitFlipMinority,
        Self::ClockJump,
        Self::RollingRestart,
        Self::LostDisks,
        Self::ElectionStorm,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillEach => "kill-each",
            Self::PowerLossOfAll => "power-loss-of-all",
            Self::PowerLossAndPause => "power-loss-and-pause",
            Self::LastReplica => "last-replica",
            Self::StaleLeader => "stale-leader",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Flapping => "flapping",
            Self::SlowDisk => "slow-disk",
            Self::Pause => "pause",
            Self::BitFlipMinority => "bit-flip-minority",
            Self::ClockJump => "clock-jump",
            Self::RollingRestart => "rolling-restart",
            Self::LostDisks => "lost-disks",
            Self::ElectionStorm => "election-storm",
        }
    }

    /// The scenario of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// How long after a scene the next one is, at the least and at most, in nanoseconds.
    pub fn pause_nanos(self) -> (u64, u64) {
        match self {
            Self::Flapping => (50 * MILLIS, 600 * MILLIS),
            Self::KillEach => (200 * MILLIS, 2 * SECONDS),
            Self::PowerLossOfAll => (SECONDS, 4 * SECONDS),
            Self::ClockJump | Self::RollingRestart | Self::LostDisks | Self::BitFlipMinority => {
                (500 * MILLIS, 2 * SECONDS)
            }
            Self::ElectionStorm => (100 * MILLIS, 200 * MILLIS),
            Self::PowerLossAndPause
            | Self::LastReplica
            | Self::StaleLeader
            | Self::OneWay
            | Self::Bridge
            | Self::SlowDisk
            | Self::Pause => (3 * SECONDS, 6 * SECONDS),
        }
    }

    /// Leaves no faults to chance, and enough time for a few scenes.
    pub fn prepare(self, knobs: &mut Knobs, cluster: &mut ClusterKnobs) {
        let (disk, network) = (knobs.disk_latency_nanos, knobs.net_delay_nanos);
        knobs.heal();
        cluster.heal();
        // Slow disks make it more likely that something is not yet synced.
        knobs.disk_latency_nanos = disk.min(30 * MILLIS);
        knobs.net_delay_nanos = network.clamp(100 * MICROS, 5 * MILLIS);
        knobs.safety_nanos = 20 * SECONDS;
        knobs.action_nanos = knobs.action_nanos.max(10 * MILLIS);
        knobs.operations_max = 4_000;
        knobs.client_count = 6;
        knobs.tiny_memory = false;
        cluster.newcomers = 0;
        cluster.members.repair_after = None;
        cluster.keeps_all = false;
        self.prepare_more(knobs, cluster);
    }

    fn prepare_more(self, knobs: &mut Knobs, cluster: &mut ClusterKnobs) {
        match self {
            Self::BitFlipMinority => {
                cluster.keeps_all = true;
                knobs.safety_nanos = 40 * SECONDS;
            }
            Self::LostDisks => {
                cluster.keeps_all = true;
                knobs.safety_nanos = 40 * SECONDS;
                // Members that lag all the time would put off every loss.
                knobs.action_nanos = knobs.action_nanos.max(150 * MILLIS);
                knobs.disk_latency_nanos = knobs.disk_latency_nanos.min(5 * MILLIS);
                knobs.tiny_chunks = false;
            }
            Self::ClockJump => {
                cluster.clock_off_millis_max = 10_000;
                cluster.clock_drift_ppm_max = 100_000;
            }
            Self::RollingRestart => cluster.keeps_all = true,
            Self::ElectionStorm => {
                cluster.founders = 3;
                cluster.mode = Mode::Cluster;
                knobs.safety_nanos = 60 * SECONDS;
                knobs.action_nanos = 500 * MILLIS;
                knobs.client_count = 2;
                knobs.tiny_files = false;
                knobs.tiny_chunks = false;
            }
            Self::KillEach
            | Self::PowerLossOfAll
            | Self::PowerLossAndPause
            | Self::LastReplica
            | Self::StaleLeader
            | Self::OneWay
            | Self::Bridge
            | Self::Flapping
            | Self::SlowDisk
            | Self::Pause => {}
        }
    }

    /// Whether machines that lost power are back soon, and not as late as it happens.
    pub fn restarts_soon(self) -> bool {
        matches!(
            self,
            Self::BitFlipMinority | Self::ClockJump | Self::RollingRestart | Self::LostDisks
        )
    }
}
