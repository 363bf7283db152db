//! Simulated queues with known futures, against which foretold times are measured.
//!
//! A world is a few queues on one node. It runs for a while so that histories fill; then the
//! question is put to the model, and to a straight line through the depth; then the world goes on
//! until the limit is reached, and we know.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "shared by a test and an example, each of which uses a part"
)]

pub mod load;
pub mod random;
pub mod score;

use std::ops::Range;

use staunch_horizon::{Counters, Disk, Estimate, History, Horizon, Limit, Outcome, Rates, Scope};

use self::load::{Kind, Load, Noise};
use self::random::Random;

/// When the worlds begin, milliseconds since 1970: midnight.
const START_MILLIS: u64 = 20_000 * 86_400_000;

const RECORD_BYTES: f64 = 40.0;
const DISK_OVERHEAD: f64 = 1.3;

/// A future longer than this many times the intended one is given up.
const LONGEST: f64 = 30.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binding {
    Length,
    Bytes,
    Disk,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// Publishers are faster than consumers and have been: how long?
    Growing,
    /// Consumers stopped some minutes ago: how long?
    Stopped,
    /// Consumers keep up; how long if they stopped this moment? They do.
    Stress,
}

pub const KINDS: [Kind; 4] = [Kind::Constant, Kind::Ramping, Kind::Bursty, Kind::Daily];
pub const BINDINGS: [Binding; 3] = [Binding::Length, Binding::Bytes, Binding::Disk];
pub const QUESTIONS: [Question; 3] = [Question::Growing, Question::Stopped, Question::Stress];

/// Every load with every limit and question, once for each seed.
pub fn all(seeds: Range<u64>) -> Vec<Run> {
    let mut runs = Vec::new();
    for kind in KINDS {
        for binding in BINDINGS {
            for question in QUESTIONS {
                runs.extend(seeds.clone().map(|seed| run(seed, kind, binding, question)));
            }
        }
    }
    runs
}

/// One simulated queue.
struct Queue {
    load: Load,
    pace: Noise,
    /// Messages per second its consumers can take.
    consumers: f64,
    size: f64,
    size_noise: Noise,
    messages: f64,
    bytes: f64,
    counted: Counters,
    history: History,
}

impl Queue {
    fn new(random: &mut Random, kind: Kind, history: f64, horizon: f64) -> Self {
        let load = Load::new(random, kind, history, horizon);
        Self {
            consumers: load.base * 100.0,
            load,
            pace: Noise::new(random, 0.01, 0.05, 120.0),
            size: random.magnitude(200.0, 20_000.0),
            size_noise: Noise::new(random, 0.0, 0.1, 120.0),
            messages: 0.0,
            bytes: 0.0,
            counted: Counters::default(),
            history: History::new(),
        }
    }

    fn run(&mut self, random: &mut Random, at: f64, step: f64) -> Counters {
        let messages_in = self.load.messages(random, at, step);
        let bytes_in = (messages_in * self.size * self.size_noise.next(random, step)).round();
        self.messages += messages_in;
        self.bytes += bytes_in;
        let able = (self.consumers * self.pace.next(random, step) * step).round();
        let messages_out = able.min(self.messages);
        let bytes_out = (self.bytes * messages_out / self.messages.max(1.0)).round();
        self.messages -= messages_out;
        self.bytes -= bytes_out;
        let flowed = Counters {
            messages_in: messages_in as u64,
            messages_out: messages_out as u64,
            bytes_in: bytes_in as u64,
            bytes_out: bytes_out as u64,
        };
        self.counted = self.counted + flowed;
        flowed
    }
}

/// A node with queues; the first is the one that is asked about.
pub struct World {
    random: Random,
    queues: Vec<Queue>,
    node: History,
    binding: Binding,
    at: f64,
    step: f64,
    /// What the limit counts, at each step.
    depth: Vec<f64>,
}

/// What was asked and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seed: u64,
    pub kind: Kind,
    pub binding: Binding,
    pub question: Question,
    pub foretold: Estimate,
    /// Seconds by a straight line through the last hour, and the last 15 minutes, of the depth.
    pub lines: [Option<f64>; 2],
    /// Seconds; `None` when the future was given up.
    pub measured: Option<f64>,
}

impl World {
    fn new(seed: u64, kind: Kind, binding: Binding, history: f64, horizon: f64) -> Self {
        let mut random = Random::new(seed);
        let others = if binding == Binding::Disk { 3 } else { 0 };
        let mut queues = vec![Queue::new(&mut random, kind, history, horizon)];
        for _ in 0..others {
            queues.push(Queue::new(&mut random, kind, history, horizon));
        }
        Self {
            random,
            queues,
            node: History::new(),
            binding,
            at: 0.0,
            step: if kind == Kind::Daily { 30.0 } else { 10.0 },
            depth: Vec::new(),
        }
    }

    fn millis(&self) -> u64 {
        START_MILLIS + (self.at * 1_000.0).round() as u64
    }

    fn run(&mut self) {
        let from = self.millis();
        let mut all = Counters::default();
        let (at, step) = (self.at, self.step);
        self.at += step;
        let to = self.millis();
        for queue in &mut self.queues {
            let flowed = queue.run(&mut self.random, at, step);
            queue.history.record(from, to, flowed);
            all = all + flowed;
        }
        self.node.record(from, to, all);
        self.depth.push(self.used());
    }

    fn run_until(&mut self, at: f64) {
        while self.at < at {
            self.run();
        }
    }

    /// What the limit counts.
    fn used(&self) -> f64 {
        match self.binding {
            Binding::Length => self.queues[0].messages,
            Binding::Bytes => self.queues[0].bytes,
            Binding::Disk => self.queues.iter().map(disk_bytes).sum(),
        }
    }

    /// How fast the limit fills on average while queue 0 has consumers for so many messages per
    /// second, by the loads of this moment.
    fn filling(&self, consumers: f64) -> f64 {
        let queue = &self.queues[0];
        let rate = (queue.load.base - consumers).max(queue.load.base * 0.05);
        match self.binding {
            Binding::Length => rate,
            Binding::Bytes => rate * queue.size,
            Binding::Disk => rate * (queue.size + RECORD_BYTES) * DISK_OVERHEAD,
        }
    }

    fn limit(&self, gap: f64) -> Limit {
        let used = self.used();
        let capacity = (used + gap).round() as u64;
        match self.binding {
            Binding::Length => Limit::max_length(capacity, used as u64, Outcome::Refuse),
            Binding::Bytes => Limit::max_length_bytes(capacity, used as u64, Outcome::DropOldest),
            Binding::Disk => Limit::disk(Disk {
                free_bytes: gap.round() as u64 + 1_000_000,
                reserve_bytes: 1_000_000,
                used_bytes: used as u64,
                record_bytes: RECORD_BYTES as u64,
                overhead: DISK_OVERHEAD,
            }),
        }
    }

    fn horizon(&self, limit: Limit) -> Horizon {
        let shared = self.binding == Binding::Disk;
        Horizon::of(&Scope {
            own: &self.queues[0].history,
            node: shared.then_some(&self.node),
            rates: Rates::default(),
            messages: self.queues[0].messages as u64,
            limits: &[limit],
        })
    }

    /// As `predict_linear` does: least squares over the last `span` seconds, then straight on.
    fn line(&self, span: f64, capacity: f64) -> Option<f64> {
        let count = ((span / self.step) as usize).min(self.depth.len());
        let points = &self.depth[self.depth.len() - count..];
        let n = count as f64;
        let (mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0);
        for (index, depth) in points.iter().enumerate() {
            let time = (index as f64 + 1.0 - n) * self.step;
            x += time;
            y += depth;
            xx += time * time;
            xy += time * depth;
        }
        let slope = (n * xy - x * y) / (n * xx - x * x);
        let now = (y - slope * x) / n;
        (slope > 0.0).then(|| ((capacity - now) / slope).max(0.0))
    }
}

fn disk_bytes(queue: &Queue) -> f64 {
    (queue.bytes + queue.messages * RECORD_BYTES) * DISK_OVERHEAD
}

/// One world of one kind, asked one question.
pub fn run(seed: u64, kind: Kind, binding: Binding, question: Question) -> Run {
    // No two cells see the same load.
    let seed = seed * 64 + kind as u64 * 16 + binding as u64 * 4 + question as u64;
    let mut dice = Random::new(seed ^ 0x5eed);
    let (horizon, history) = match kind {
        Kind::Constant | Kind::Ramping => {
            let horizon = dice.magnitude(300.0, 8.0 * 3_600.0);
            (horizon, (horizon * dice.between(0.7, 4.0)).max(900.0))
        }
        Kind::Bursty => {
            let horizon = dice.magnitude(3_600.0, 8.0 * 3_600.0);
            (horizon, horizon * dice.between(1.5, 5.0))
        }
        Kind::Daily => {
            let horizon = dice.magnitude(2.0 * 3_600.0, 24.0 * 3_600.0);
            (horizon, 86_400.0 * dice.between(3.0, 9.0))
        }
    };
    let mut world = World::new(seed, kind, binding, history, horizon);
    let consumers = match question {
        Question::Growing => world.queues[0].load.base * dice.between(0.3, 0.8),
        Question::Stopped | Question::Stress => world.queues[0].load.base * 100.0,
    };
    world.queues[0].consumers = consumers;
    if question == Question::Stopped {
        let ago = dice.between(120.0, 1_200.0).min(history / 3.0);
        world.run_until(history - ago);
        world.queues[0].consumers = 0.0;
    }
    world.run_until(history);
    let still = if question == Question::Growing {
        consumers
    } else {
        0.0
    };
    let gap = world.filling(still) * horizon;
    let limit = world.limit(gap);
    let capacity = world.used() + gap;
    let answer = world.horizon(limit);
    let lines = [3_600.0, 900.0].map(|span| world.line(span, capacity));
    world.queues[0].consumers = still;
    Run {
        seed,
        kind,
        binding,
        question,
        foretold: match question {
            Question::Growing | Question::Stopped => answer.now.estimate,
            Question::Stress => answer.stress.estimate,
        },
        lines,
        measured: world.until_full(capacity, horizon),
    }
}

impl World {
    /// Seconds until the limit is reached.
    fn until_full(&mut self, capacity: f64, horizon: f64) -> Option<f64> {
        let begun = self.at;
        let mut before = self.used();
        while self.at < begun + horizon * LONGEST {
            self.run();
            let used = self.used();
            if used >= capacity {
                let share = (capacity - before) / (used - before).max(1e-9);
                return Some(self.at - self.step - begun + share.clamp(0.0, 1.0) * self.step);
            }
            before = used;
        }
        None
    }
}
