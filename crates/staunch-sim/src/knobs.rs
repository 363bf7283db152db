//! What a seed turns on: swarm testing.
//!
//! Every fault is off with probability one half, so that runs differ in kind and not only in
//! detail; a world in which everything goes wrong all the time reaches less.

pub mod cluster;

pub use cluster::{ClusterKnobs, Mode};

use crate::{
    random::Random,
    schedule::{MICROS, MILLIS, SECONDS},
};

/// The knobs of a seed. Rates are per mille and per opportunity.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a knob of its own")]
pub struct Knobs {
    /// How long faults and workload last, in nanoseconds of virtual time.
    pub safety_nanos: u64,
    /// Clients besides the one that drains at the end.
    pub client_count: u64,
    /// Mean time between two actions of a client, in nanoseconds.
    pub action_nanos: u64,
    /// Operations all clients do together before they rest.
    pub operations_max: u64,
    /// Mean one-way delay, in nanoseconds.
    pub net_delay_nanos: u64,
    /// Writes are cut into arbitrary chunks.
    pub net_chunking: bool,
    /// A connection is reset.
    pub net_reset: u32,
    /// A client vanishes without a word.
    pub net_half_open: u32,
    /// A client stops reading for a while.
    pub net_slow_reader: u32,
    /// Somebody connects and sends garbage.
    pub net_garbage: u32,
    /// Mean time of a write with its sync, in nanoseconds.
    pub disk_latency_nanos: u64,
    /// The machine loses power, at any event.
    pub crash: u32,
    /// The machine loses power in the middle of a disk job.
    pub crash_in_job: u32,
    /// The node is told to stop.
    pub clean_stop: u32,
    /// A write fails with EIO.
    pub disk_write_error: u32,
    /// A sync fails.
    pub disk_sync_error: u32,
    /// The disk is full for a while.
    pub disk_full: u32,
    /// A bit flips in a file that rests.
    pub disk_bit_flip: u32,
    /// Files of the log are as small as they can be.
    pub tiny_files: bool,
    /// No body cache.
    pub no_cache: bool,
    /// A memory budget that is soon used up.
    pub tiny_memory: bool,
    /// The least frame size.
    pub tiny_frames: bool,
    /// Chunks of the log are sealed after a few bytes.
    pub tiny_chunks: bool,
    /// Every input is its own drain.
    pub drain_of_one: bool,
    /// Large bodies, several frames each.
    pub large_bodies: bool,
    /// Fewest and most publishes in one action.
    pub burst_max: u64,
    /// Unconfirmed publishes a channel has at most.
    pub confirm_window: u64,
}

/// None in every second seed, else any.
fn rate(random: &mut Random, max: u64) -> u32 {
    if random.chance(500) {
        0
    } else {
        to_u32(random.between(1, max))
    }
}

impl Knobs {
    /// Draws the knobs.
    pub fn draw(random: &mut Random) -> Self {
        Self {
            safety_nanos: random.between(5, 60) * SECONDS,
            client_count: random.between(2, 7),
            action_nanos: random.between(2, 60) * MILLIS,
            operations_max: random.between(300, 2_000),
            net_delay_nanos: *random.pick(&[20 * MICROS, 300 * MICROS, 5 * MILLIS, 40 * MILLIS]),
            net_chunking: random.chance(500),
            net_reset: rate(random, 12),
            net_half_open: rate(random, 4),
            net_slow_reader: rate(random, 12),
            net_garbage: rate(random, 8),
            disk_latency_nanos: *random.pick(&[
                50 * MICROS,
                500 * MICROS,
                4 * MILLIS,
                30 * MILLIS,
                300 * MILLIS,
            ]),
            crash: rate(random, 8),
            crash_in_job: rate(random, 15),
            clean_stop: rate(random, 3),
            disk_write_error: if random.chance(850) {
                0
            } else {
                rate(random, 4)
            },
            disk_sync_error: if random.chance(850) {
                0
            } else {
                rate(random, 4)
            },
            disk_full: rate(random, 6),
            disk_bit_flip: if random.chance(950) {
                0
            } else {
                rate(random, 10)
            },
            tiny_files: random.chance(500),
            no_cache: random.chance(250),
            tiny_memory: random.chance(200),
            tiny_frames: random.chance(300),
            tiny_chunks: random.chance(250),
            drain_of_one: random.chance(250),
            large_bodies: random.chance(250),
            burst_max: *random.pick(&[1, 4, 20, 60]),
            confirm_window: *random.pick(&[1, 10, 200, 1_000]),
        }
    }

    /// Faults stop: what is left is a world in which everything must go on.
    pub fn heal(&mut self) {
        self.net_delay_nanos = self.net_delay_nanos.min(5 * MILLIS);
        self.net_reset = 0;
        self.net_half_open = 0;
        self.net_slow_reader = 0;
        self.net_garbage = 0;
        self.disk_latency_nanos = self.disk_latency_nanos.min(4 * MILLIS);
        self.crash = 0;
        self.crash_in_job = 0;
        self.clean_stop = 0;
        self.disk_write_error = 0;
        self.disk_sync_error = 0;
        self.disk_full = 0;
        self.disk_bit_flip = 0;
    }
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).expect("a knob is a small number")
}
