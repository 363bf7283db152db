//! What publishers do: rates that change with time, and noise around them.

use super::random::Random;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Constant,
    Ramping,
    Bursty,
    Daily,
}

/// A rate that follows its kind, with noise that lasts for a while.
#[derive(Clone, Debug)]
pub struct Load {
    pub kind: Kind,
    /// Messages per second, on average (before a ramp).
    pub base: f64,
    noise: Noise,
    ramp_from: f64,
    ramp_per_second: f64,
    burst_factor: f64,
    burst_mean: f64,
    gap_mean: f64,
    burst_on: bool,
    burst_next: f64,
    swing: f64,
    phase: f64,
    second: f64,
    today: f64,
    day: u64,
}

impl Load {
    /// A load for a time of about `horizon` seconds that begins `history` seconds after the start.
    pub fn new(random: &mut Random, kind: Kind, history: f64, horizon: f64) -> Self {
        let base = random.magnitude(5.0, 5_000.0);
        let age = (random.between(0.5, 2.0) * horizon).min(history * 0.9);
        let growth = random.between(0.5, 3.0);
        Self {
            kind,
            base,
            noise: match kind {
                Kind::Constant => Noise::new(random, 0.01, 0.05, 120.0),
                Kind::Ramping | Kind::Bursty | Kind::Daily => Noise::new(random, 0.02, 0.1, 300.0),
            },
            ramp_from: history - age,
            ramp_per_second: growth / (age + horizon),
            burst_factor: random.between(2.0, 6.0),
            burst_mean: random.between(10.0, 40.0),
            gap_mean: random.between(60.0, 240.0),
            burst_on: false,
            burst_next: 0.0,
            swing: random.between(0.3, 0.8),
            phase: random.between(0.0, DAY),
            second: random.between(0.0, 0.2),
            today: 1.0,
            day: 0,
        }
    }

    /// Messages in the `step` seconds after `at`.
    pub fn messages(&mut self, random: &mut Random, at: f64, step: f64) -> f64 {
        let expected =
            self.base * self.shape(random, at, step) * self.noise.next(random, step) * step;
        counted(random, expected)
    }

    fn shape(&mut self, random: &mut Random, at: f64, step: f64) -> f64 {
        match self.kind {
            Kind::Constant => 1.0,
            Kind::Ramping => 1.0 + (at - self.ramp_from).max(0.0) * self.ramp_per_second,
            Kind::Bursty => self.bursts(random, at, step),
            Kind::Daily => {
                let turn = std::f64::consts::TAU * (at + self.phase) / DAY;
                let day = ((at + self.phase) / DAY) as u64;
                if day != self.day {
                    self.day = day;
                    self.today = (0.05 * random.normal()).exp();
                }
                let shape = 1.0 + self.swing * turn.sin() + self.second * (2.0 * turn).cos();
                self.today * shape.max(0.05)
            }
        }
    }

    /// The average over the step of a load that is `burst_factor` times as high now and then.
    fn bursts(&mut self, random: &mut Random, at: f64, step: f64) -> f64 {
        let (mut from, mut total) = (at, 0.0);
        while from < at + step {
            if from >= self.burst_next {
                self.burst_on = !self.burst_on;
                let mean = if self.burst_on {
                    self.burst_mean
                } else {
                    self.gap_mean
                };
                self.burst_next = from + random.waiting(mean).max(1.0);
            }
            let to = self.burst_next.min(at + step);
            total += (to - from)
                * if self.burst_on {
                    self.burst_factor
                } else {
                    1.0
                };
            from = to;
        }
        total / step
    }
}

/// A factor around 1 that keeps its value for a while.
#[derive(Clone, Debug)]
pub struct Noise {
    size: f64,
    lasts: f64,
    value: f64,
}

impl Noise {
    pub fn new(random: &mut Random, low: f64, high: f64, longest: f64) -> Self {
        Self {
            size: random.between(low, high),
            lasts: random.magnitude(5.0, longest),
            value: random.normal(),
        }
    }

    pub fn next(&mut self, random: &mut Random, step: f64) -> f64 {
        let kept = (-step / self.lasts).exp();
        self.value = self.value * kept + (1.0 - kept * kept).sqrt() * random.normal();
        (self.size * self.value - self.size * self.size / 2.0).exp()
    }
}

/// A number of independent events of which so many are expected.
fn counted(random: &mut Random, expected: f64) -> f64 {
    (expected + expected.sqrt() * random.normal())
        .round()
        .max(0.0)
}
