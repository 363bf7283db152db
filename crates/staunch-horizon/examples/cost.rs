//! What a sample and an answer cost.
//!
//! `cargo run --release -p staunch-horizon --example cost`

use std::hint::black_box;

use staunch_horizon::{
    Counters, Disk, History, Horizon, Limit, Meter, Outcome, Rates, Scale, Scope, WhatIf,
};

const START_MILLIS: u64 = 20_000 * 86_400_000;
const SAMPLE_MILLIS: u64 = 5_000;
const DAY_SAMPLES: u64 = 86_400_000 / SAMPLE_MILLIS;

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
#[expect(
    clippy::disallowed_methods,
    reason = "an example may look at the clock"
)]
fn timed(what: &str, times: u32, mut work: impl FnMut(u32)) {
    let begun = std::time::Instant::now();
    for round in 0..times {
        work(round);
    }
    println!("{what}: {:?} each", begun.elapsed() / times);
}

/// A load that swings by day, and consumers who do not quite keep up.
fn flowed(sample: u64) -> Counters {
    let hour = sample * 24 / DAY_SAMPLES % 24;
    let messages = 3_000 + 200 * hour.abs_diff(12) + sample * 7_919 % 300;
    Counters {
        messages_in: messages,
        messages_out: messages * 9 / 10,
        bytes_in: messages * 1_000,
        bytes_out: messages * 900,
    }
}

fn main() {
    let mut meter = Meter::new(START_MILLIS, Counters::default());
    let mut history = History::new();
    let (mut now, mut counters, mut sample) = (START_MILLIS, Counters::default(), 0);
    let samples = u32::try_from(14 * DAY_SAMPLES).unwrap_or(u32::MAX);
    timed("a sample into a meter and a history", samples, |_| {
        counters = counters + flowed(sample);
        now += SAMPLE_MILLIS;
        sample += 1;
        if let Some((since, flowed)) = meter.sample(now, counters) {
            history.record(since, now, flowed);
        }
    });
    timed("a sample into a meter", 1_000_000, |_| {
        counters = counters + flowed(sample);
        now += SAMPLE_MILLIS;
        sample += 1;
        black_box(meter.sample(now, counters));
    });
    timed("rates from a meter", 1_000_000, |_| {
        black_box(meter.rates(Scale::Minute, now, counters));
    });
    let mut bytes = Vec::new();
    timed("encoding two weeks", 1_000, |_| {
        bytes.clear();
        history.encode(&mut bytes);
    });
    for (name, room) in [("10 min", 600), ("2 h", 7_200), ("2 days", 172_800)] {
        let messages = 1_000_000;
        let limits = [
            Limit::max_length(messages + room * 100, messages, Outcome::Refuse),
            Limit::max_length_bytes(
                (messages + room * 110) * 1_000,
                messages * 1_000,
                Outcome::DropOldest,
            ),
            Limit::disk(Disk {
                free_bytes: room * 200_000,
                reserve_bytes: 1_000_000,
                used_bytes: messages * 1_000,
                record_bytes: 40,
                overhead: 1.3,
            }),
        ];
        let scope = Scope {
            own: &history,
            node: Some(&history),
            rates: Rates::default(),
            messages,
            limits: &limits,
        };
        timed(
            &format!("a horizon of about {name}, three limits"),
            100,
            |_| {
                black_box(Horizon::of(black_box(&scope)));
            },
        );
        timed("a what-if of it", 100, |_| {
            black_box(WhatIf::default().ask(black_box(&scope))).ok();
        });
    }
}
