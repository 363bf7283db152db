use proptest::prelude::*;

use super::*;
use crate::{Counters, History, Horizon, Limit, Meter, Outcome, Scale, Scope};

const OBJECTIVE: u64 = 60_000;
const CAPACITY: u64 = 600_000;

/// How often a horizon is computed, seconds.
const HORIZON_SECONDS: usize = 5;

/// A queue with publishers who want to send, consumers who take, and the controller between.
#[derive(Clone)]
struct Bench {
    now: u64,
    messages: u64,
    counted: Counters,
    meter: Meter,
    history: History,
    controller: Controller,
    /// As the horizon said last.
    stress_low: TimeLeft,
    /// What was allowed, at each second.
    allowed: Vec<Option<f64>>,
    /// When the limit was first reached.
    refused_at: Option<u64>,
}

impl Bench {
    fn new() -> Self {
        let now = 24 * 3_600_000;
        Self {
            now,
            messages: 0,
            counted: Counters::default(),
            meter: Meter::new(now, Counters::default()),
            history: History::new(),
            controller: Controller::new(OBJECTIVE, now),
            stress_low: TimeLeft::Never,
            allowed: Vec::new(),
            refused_at: None,
        }
    }

    /// One second in which `heavy` and `light` publishers want to send and `taken` is consumed.
    fn second(&mut self, heavy: u64, light: u64, taken: u64) {
        let last = self.allowed.last().copied().flatten();
        let sent = last.map_or(heavy, |allowed| heavy.min(crate::number::whole(allowed)));
        let (before, room) = (self.now, CAPACITY - self.messages);
        if sent + light > room {
            self.refused_at.get_or_insert(before);
        }
        let came = (sent + light).min(room);
        let went = taken.min(self.messages + came);
        self.messages = self.messages + came - went;
        self.now += 1_000;
        let flowed = Counters {
            messages_in: came,
            messages_out: went,
            ..Counters::default()
        };
        self.counted = self.counted + flowed;
        self.meter.sample(self.now, self.counted);
        self.history.record(before, self.now, flowed);
        let limit = Limit::max_length(CAPACITY, self.messages, Outcome::Refuse);
        if self.allowed.len().is_multiple_of(HORIZON_SECONDS) {
            let scope = Scope {
                own: &self.history,
                node: None,
                rates: self.meter.rates(Scale::TenSeconds, self.now, self.counted),
                messages: self.messages,
                limits: &[limit],
            };
            self.stress_low = Horizon::of(&scope).stress.estimate.low;
        }
        let pressure = Pressure {
            left: limit.left(),
            stress_low: self.stress_low,
            rate: crate::number::real(came),
            contributed: crate::number::real(sent),
        };
        let allowance = self.controller.update(self.now, pressure);
        self.allowed
            .push(allowance.map(|allowance| allowance.per_second));
    }

    fn seconds(&mut self, count: usize, heavy: u64, light: u64, taken: u64) {
        for _ in 0..count {
            self.second(heavy, light, taken);
        }
    }

    /// How often what is allowed turned from falling to rising or back, and how often it began.
    fn turns(&self, from: usize) -> (usize, usize) {
        let allowed = &self.allowed[from..];
        let steps: Vec<f64> = allowed
            .windows(2)
            .filter_map(|pair| Some(pair[1]? - pair[0]?))
            .filter(|step| *step != 0.0)
            .collect();
        let turns = steps.windows(2).filter(|pair| pair[0] * pair[1] < 0.0);
        let begun = allowed
            .windows(2)
            .filter(|pair| pair[0].is_none() && pair[1].is_some());
        (turns.count(), begun.count())
    }
}

#[test]
fn a_burst_without_consumers_does_not_reach_the_limit_within_the_objective() {
    let mut bench = Bench::new();
    bench.seconds(120, 2_000, 500, 10_000);
    assert!(!bench.controller.is_active());
    // Ten times as much, and nobody consumes: 24 seconds to the limit if nothing is done.
    let (from, begun_at) = (bench.allowed.len(), bench.now);
    bench.seconds(180, 25_000, 500, 0);
    assert_eq!(bench.refused_at, None, "the limit was reached");
    assert!(bench.controller.is_active());
    assert_eq!(bench.turns(from - 1), (0, 1), "turns, beginnings");
    // Consumers come back, the burst ends: everything as before, by one turn.
    let mut after = bench.clone();
    after.seconds(300, 2_000, 500, 10_000);
    assert!(!after.controller.is_active());
    assert_eq!(after.turns(from - 1), (1, 1), "turns, beginnings");
    // Nobody comes back: the others, who are not slowed, fill what is left in the end.
    bench.seconds(600, 25_000, 500, 0);
    let held_out = bench.refused_at.map_or(u64::MAX, |at| at - begun_at);
    assert!(
        held_out > 3 * OBJECTIVE,
        "the limit was reached after {held_out} ms"
    );
}

#[test]
fn publishers_may_send_as_soon_as_there_is_room() {
    let mut bench = Bench::new();
    bench.seconds(60, 25_000, 0, 0);
    let slowed = bench.allowed.last().copied().flatten().expect("slowed");
    bench.seconds(60, 25_000, 0, 30_000);
    let after = bench
        .allowed
        .last()
        .copied()
        .flatten()
        .unwrap_or(f64::INFINITY);
    assert!(after > slowed * 1.5, "{slowed} -> {after}");
}

#[test]
fn a_load_that_swings_around_the_objective_is_not_switched_on_and_off() {
    let mut bench = Bench::new();
    for round in 0..30 {
        // Demand that would fill the queue in 48 s and in 75 s in turn, consumed as it comes.
        let heavy = if round % 2 == 0 { 12_500 } else { 8_000 };
        bench.seconds(10, heavy, 0, 30_000);
    }
    let (_, begun) = bench.turns(0);
    assert!(begun <= 1, "begun {begun} times");
}

#[test]
fn noise_does_not_make_it_oscillate() {
    let mut bench = Bench::new();
    let noisy = |second: u64, rate: u64| rate * (90 + second * 7_919 % 21) / 100;
    for second in 0..120 {
        bench.second(noisy(second, 2_000), noisy(second + 3, 500), 10_000);
    }
    assert!(!bench.controller.is_active());
    let from = bench.allowed.len();
    for second in 0..180 {
        bench.second(noisy(second, 25_000), noisy(second + 3, 500), 0);
    }
    assert_eq!(bench.refused_at, None, "the limit was reached");
    let (_, begun) = bench.turns(from - 1);
    let allowed: Vec<f64> = bench.allowed[from..].iter().copied().flatten().collect();
    assert_eq!((begun, allowed.len()), (1, 180));
    // It rises now and then, since the others send less now and then, but never by much.
    let rises = allowed.windows(2).map(|pair| pair[1] / pair[0]);
    assert!(rises.fold(0.0, f64::max) < 1.1);
}

#[test]
fn a_rise_that_is_foreseen_is_capped_before_it_comes() {
    let mut controller = Controller::new(OBJECTIVE, 0);
    let pressure = Pressure {
        left: 600_000,
        stress_low: TimeLeft::Millis(OBJECTIVE / 2),
        rate: 1_000.0,
        contributed: 1_000.0,
    };
    let allowance = controller
        .update(1_000, pressure)
        .expect("below the objective");
    // What would keep the objective: ten times what is sent now.
    assert!(
        (allowance.per_second - 10_000.0).abs() < 1.0,
        "{allowance:?}"
    );
    assert!((allowance.share - 1.0).abs() < 1e-9, "{allowance:?}");
    // Nothing is sent and nothing is left: who begins may send a little.
    let nothing = Pressure {
        left: 0,
        rate: 0.0,
        contributed: 0.0,
        ..pressure
    };
    let mut controller = Controller::new(OBJECTIVE, 0);
    let allowance = controller
        .update(1_000, nothing)
        .expect("below the objective");
    assert!(allowance.per_second >= PER_SECOND_MIN, "{allowance:?}");
}

proptest! {
    /// Whatever is measured, publishers may send something, and what they may is a number.
    #[test]
    fn nobody_is_stopped(
        looks in prop::collection::vec(
            (0_u64..10_000, any::<u64>(), prop::option::of(any::<u64>()), any::<f64>(), any::<f64>()),
            0..50,
        ),
    ) {
        let mut controller = Controller::new(OBJECTIVE, 0);
        let mut now = 0;
        for (passed, left, stress, rate, contributed) in looks {
            now += passed;
            let stress_low = stress.map_or(TimeLeft::Never, TimeLeft::Millis);
            if let Some(allowance) = controller.update(now, Pressure { left, stress_low, rate, contributed }) {
                prop_assert!(allowance.per_second.is_finite() && allowance.per_second >= PER_SECOND_MIN);
                prop_assert!((SHARE_MIN..=1.0).contains(&allowance.share));
            }
        }
    }

    /// From any state of the queue, with nobody consuming, a burst does not reach the limit within
    /// the objective, unless it does before anybody could have noticed.
    #[test]
    fn the_objective_is_kept(full in 0.0_f64..0.9, heavy in 1_000_u64..60_000) {
        let mut bench = Bench::new();
        bench.messages = crate::number::whole(crate::number::real(CAPACITY) * full);
        let left = CAPACITY - bench.messages;
        bench.seconds(60, heavy, 0, 0);
        prop_assert!(bench.refused_at.is_none() || heavy * 2 > left);
    }
}
