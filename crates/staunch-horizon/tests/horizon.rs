//! What a horizon says in the cases that have a plain answer.

use proptest::prelude::*;
use staunch_horizon::{
    Bound, Cost, Counters, Disk, Estimate, History, Horizon, Limit, Model, Outcome, Rates,
    Resource, Scope, TimeLeft, WhatIf, WhatIfError,
};

const START: u64 = 20_000 * 86_400_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// A flow per second for a while, recorded every ten seconds.
fn flow(history: &mut History, millis: u64, messages_in: u64, messages_out: u64) {
    let from = history.end_millis().max(START);
    for at in (from..from + millis).step_by(10_000) {
        let flowed = Counters {
            messages_in: messages_in * 10,
            messages_out: messages_out * 10,
            bytes_in: messages_in * 10 * 1_000,
            bytes_out: messages_out * 10 * 1_000,
        };
        history.record(at, at + 10_000, flowed);
    }
}

fn steady(messages_in: u64, messages_out: u64) -> History {
    let mut history = History::new();
    flow(&mut history, 2 * HOUR, messages_in, messages_out);
    history
}

fn ask(history: &History, messages: u64, limits: &[Limit]) -> Horizon {
    Horizon::of(&scope(history, messages, limits))
}

fn scope<'a>(history: &'a History, messages: u64, limits: &'a [Limit]) -> Scope<'a> {
    Scope {
        own: history,
        node: None,
        rates: Rates::default(),
        messages,
        limits,
    }
}

#[track_caller]
fn check(estimate: Estimate, seconds: f64) {
    let millis = estimate.at.millis().expect("it ends");
    let at = std::time::Duration::from_millis(millis).as_secs_f64();
    assert!(
        (at - seconds).abs() <= seconds * 0.01 + 0.01,
        "{at} s, not {seconds} s"
    );
    assert!(
        estimate.low <= estimate.at && estimate.at <= estimate.high,
        "{estimate:?}"
    );
}

fn length(capacity: u64, messages: u64) -> Limit {
    Limit::max_length(capacity, messages, Outcome::Refuse)
}

#[test]
fn of_an_empty_queue_stress_is_c_by_r() {
    let history = steady(100, 100);
    let horizon = ask(&history, 0, &[length(36_000, 0)]);
    check(horizon.stress.estimate, 360.0);
    assert_eq!(
        horizon.stress.limit,
        Some((Resource::MaxLength, Outcome::Refuse))
    );
    assert_eq!(horizon.now, Bound::NEVER);
    assert_eq!(horizon.to_empty, Estimate::NOW);
    assert!(matches!(horizon.model, Some(Model::Level { .. })));
}

#[test]
fn a_growing_queue_has_the_time_of_its_net_flow() {
    let history = steady(100, 60);
    let horizon = ask(&history, 288_000, &[length(360_000, 288_000)]);
    check(horizon.now.estimate, 72_000.0 / 40.0);
    check(horizon.stress.estimate, 720.0);
    check(horizon.peak.estimate, 720.0);
    assert_eq!(horizon.to_empty.at, TimeLeft::Never);
}

#[test]
fn a_draining_queue_is_never_full_and_soon_empty() {
    let history = steady(60, 100);
    let horizon = ask(&history, 40_000, &[length(100_000, 40_000)]);
    assert_eq!(horizon.now, Bound::NEVER);
    check(horizon.to_empty, 1_000.0);
    check(horizon.stress.estimate, 1_000.0);
}

#[test]
fn an_idle_queue_never_ends_and_says_so_without_a_limit() {
    for history in [History::new(), steady(0, 0)] {
        let horizon = ask(&history, 10, &[length(100, 10)]);
        assert_eq!(
            [horizon.now, horizon.stress, horizon.peak],
            [Bound::NEVER; 3]
        );
        assert_eq!(horizon.to_empty.at, TimeLeft::Never);
    }
}

#[test]
fn without_a_limit_nothing_ends() {
    let horizon = ask(&steady(100, 0), 10, &[]);
    assert_eq!(
        [horizon.now, horizon.stress, horizon.peak],
        [Bound::NEVER; 3]
    );
}

#[test]
fn beyond_the_limit_there_is_no_time_left() {
    let horizon = ask(&steady(100, 100), 500, &[length(400, 500)]);
    assert_eq!(horizon.now.estimate, Estimate::NOW);
    assert_eq!(horizon.stress.estimate, Estimate::NOW);
    assert_eq!(
        horizon.now.limit,
        Some((Resource::MaxLength, Outcome::Refuse))
    );
}

#[test]
fn the_limit_that_is_reached_first_counts_not_the_smaller_one() {
    let history = steady(100, 0);
    let limits = [
        // 1,000 s.
        length(100_000, 0),
        // 600 s, though the number is 600 times as large.
        Limit::max_length_bytes(60_000_000, 0, Outcome::DropOldest),
        // 5,000 s.
        Limit::memory(
            100_000_000,
            50_000_000,
            Cost {
                per_message: 100.0,
                per_byte: 0.0,
            },
        ),
    ];
    let horizon = ask(&history, 0, &limits);
    check(horizon.now.estimate, 600.0);
    assert_eq!(
        horizon.now.limit,
        Some((Resource::MaxLengthBytes, Outcome::DropOldest))
    );
}

#[test]
fn a_limit_that_changes_counts_at_once() {
    let history = steady(100, 0);
    check(ask(&history, 0, &[length(90_000, 0)]).now.estimate, 900.0);
    check(
        ask(&history, 0, &[length(180_000, 0)]).now.estimate,
        1_800.0,
    );
}

#[test]
fn queues_of_one_node_share_its_disk() {
    let (own, other) = (steady(100, 100), steady(50, 20));
    let mut node = History::new();
    flow(&mut node, 2 * HOUR, 150, 120);
    let disk = Limit::disk(Disk {
        free_bytes: 3_000_000_000,
        reserve_bytes: 1_000_000_000,
        used_bytes: 500_000_000,
        record_bytes: 250,
        overhead: 2.0,
    });
    let limits = [disk];
    let of = |own| {
        Horizon::of(&Scope {
            own,
            node: Some(&node),
            rates: Rates::default(),
            messages: 0,
            limits: &limits,
        })
    };
    // 2 GB are left; a message takes 2 * 1,250 bytes. 30 messages a second stay on the node now.
    let left = 2_000_000_000.0 / 2_500.0;
    for horizon in [of(&own), of(&other)] {
        check(horizon.now.estimate, left / 30.0);
        assert_eq!(horizon.now.limit, Some((Resource::Disk, Outcome::Block)));
    }
    // Its own consumers stop, those of the others go on; of a node, all stop.
    check(of(&own).stress.estimate, left / 130.0);
    check(of(&other).stress.estimate, left / 50.0);
    let whole = ask(&node, 0, &limits);
    check(whole.stress.estimate, left / 150.0);
    check(whole.now.estimate, left / 30.0);
}

#[test]
fn consumers_that_stopped_a_minute_ago_have_stopped() {
    let mut history = steady(100, 100);
    flow(&mut history, MINUTE, 100, 0);
    let horizon = ask(&history, 6_000, &[length(360_000, 6_000)]);
    check(horizon.now.estimate, 3_540.0);
}

#[test]
fn a_peak_is_not_later_than_what_is_foreseen() {
    let mut history = steady(100, 100);
    flow(&mut history, 20 * MINUTE, 1_000, 1_000);
    flow(&mut history, 2 * HOUR, 100, 100);
    let horizon = ask(&history, 0, &[length(36_000, 0)]);
    check(horizon.stress.estimate, 360.0);
    check(horizon.peak.estimate, 36.0);
    // The history of peaks is empty in the first minute.
    let mut young = History::new();
    flow(&mut young, MINUTE / 2, 100, 100);
    let horizon = ask(&young, 0, &[length(36_000, 0)]);
    assert_eq!(horizon.peak, horizon.stress);
}

#[test]
fn in_the_first_seconds_the_meter_counts() {
    let rates = Rates {
        messages_in: 100.0,
        messages_out: 40.0,
        ..Rates::default()
    };
    let limits = [length(36_000, 0)];
    let horizon = Horizon::of(&Scope {
        rates,
        ..scope(&History::new(), 0, &limits)
    });
    check(horizon.stress.estimate, 360.0);
    check(horizon.now.estimate, 600.0);
    let estimate = horizon.stress.estimate;
    assert!(
        estimate.low < estimate.at && estimate.at < estimate.high,
        "{estimate:?}"
    );
}

#[test]
fn the_first_of_several_queues_counts() {
    let (slow, fast) = (steady(10, 10), steady(100, 100));
    let limits = [length(36_000, 0)];
    let both = ask(&slow, 0, &limits).earlier(ask(&fast, 0, &limits));
    check(both.stress.estimate, 360.0);
}

mod what_if {
    use super::*;

    fn outlook(
        question: WhatIf,
        history: &History,
        messages: u64,
        limits: &[Limit],
    ) -> staunch_horizon::Outlook {
        question
            .ask(&scope(history, messages, limits))
            .expect("it makes sense")
    }

    #[test]
    fn nothing_is_different() {
        let history = steady(100, 60);
        let outlook = outlook(WhatIf::default(), &history, 1_000, &[length(73_000, 1_000)]);
        check(outlook.full.estimate, 1_800.0);
        assert_eq!(outlook.messages_at_return, None);
    }

    #[test]
    fn publishers_twice_as_fast() {
        let question = WhatIf {
            rate_factor: 2.0,
            ..WhatIf::default()
        };
        // Consumers have never been seen to take more than 100 a second.
        let history = steady(100, 100);
        let outlook = outlook(question, &history, 0, &[length(90_000, 0)]);
        check(outlook.full.estimate, 900.0);
    }

    #[test]
    fn consumers_are_gone_for_an_hour_and_come_back() {
        let mut history = steady(300, 300);
        flow(&mut history, 2 * HOUR, 100, 100);
        let gone = |minutes: u64| WhatIf {
            consumers_gone_millis: Some(minutes * MINUTE),
            ..WhatIf::default()
        };
        let limits = [length(540_000, 0)];
        let back = outlook(gone(60), &history, 0, &limits);
        // 360,000 gather; then 200 a second go, as fast as has been seen.
        assert_eq!(back.full.estimate.at, TimeLeft::Never);
        let [messages, fewer, more] = back.messages_at_return.expect("they are gone");
        assert!((350_000..370_000).contains(&messages), "{messages}");
        assert!(fewer <= messages && messages <= more);
        check(back.to_empty, 3_600.0 + 1_800.0);
        let gone_for_long = outlook(gone(120), &history, 0, &limits);
        check(gone_for_long.full.estimate, 5_400.0);
        let slow = WhatIf {
            consumers_per_second: Some(110.0),
            ..gone(60)
        };
        check(
            outlook(slow, &history, 0, &limits).to_empty,
            3_600.0 + 36_000.0,
        );
    }

    #[test]
    fn one_node_fewer_leaves_the_others_more_of_the_disk_to_fill() {
        let node = steady(100, 0);
        let limits = [Limit::disk(Disk {
            free_bytes: 10_000_000_000,
            reserve_bytes: 0,
            used_bytes: 4_000_000_000,
            record_bytes: 0,
            overhead: 1.0,
        })];
        let question = WhatIf {
            one_fewer_of_nodes: Some(3),
            ..WhatIf::default()
        };
        let answer = question
            .ask(&Scope {
                node: Some(&node),
                ..scope(&node, 0, &limits)
            })
            .expect("two are left");
        // 2 GB of what the third held come, and half as much again of what flows.
        check(answer.full.estimate, 8_000_000_000.0 / 150_000.0);
    }

    #[test]
    fn another_limit() {
        let history = steady(100, 0);
        let question = WhatIf {
            capacity: Some((Resource::MaxLength, 180_000)),
            ..WhatIf::default()
        };
        let outlook = outlook(question, &history, 0, &[length(90_000, 0)]);
        check(outlook.full.estimate, 1_800.0);
    }

    #[test]
    fn questions_without_sense_are_refused() {
        let history = steady(100, 0);
        let limits = [length(90_000, 0)];
        let ask = |question: WhatIf| question.ask(&scope(&history, 0, &limits)).unwrap_err();
        let base = WhatIf::default();
        assert!(matches!(
            ask(WhatIf {
                rate_factor: f64::NAN,
                ..base
            }),
            WhatIfError::RateFactor(_)
        ));
        assert_eq!(
            ask(WhatIf {
                rate_factor: -1.0,
                ..base
            }),
            WhatIfError::RateFactor(-1.0)
        );
        assert_eq!(
            ask(WhatIf {
                consumers_gone_millis: Some(u64::MAX),
                ..base
            }),
            WhatIfError::GoneTooLong(u64::MAX)
        );
        assert_eq!(
            ask(WhatIf {
                consumers_per_second: Some(-5.0),
                ..base
            }),
            WhatIfError::ConsumerRate(-5.0)
        );
        assert_eq!(
            ask(WhatIf {
                one_fewer_of_nodes: Some(1),
                ..base
            }),
            WhatIfError::NoNodeLeft(1)
        );
        assert_eq!(
            ask(WhatIf {
                capacity: Some((Resource::Disk, 1)),
                ..base
            }),
            WhatIfError::NoSuchLimit(Resource::Disk)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever has flowed and whatever binds: an answer, in order, and never a number that is none.
    #[test]
    fn there_is_always_an_answer(
        flows in prop::collection::vec((1_u64..2_000_000, any::<u32>(), any::<u32>(), any::<u64>()), 0..40),
        capacity: u64, used: u64, free: u64, overhead: f64, messages: u64,
    ) {
        let mut history = History::new();
        let mut at = START;
        for (millis, messages_in, messages_out, bytes_in) in flows {
            let flowed = Counters {
                messages_in: u64::from(messages_in),
                messages_out: u64::from(messages_out),
                bytes_in,
                bytes_out: 0,
            };
            history.record(at, at + millis, flowed);
            at += millis;
        }
        let limits = [
            length(capacity, used),
            Limit::max_length_bytes(capacity, used, Outcome::DeadLetter),
            Limit::disk(Disk {
                free_bytes: free, reserve_bytes: 1, used_bytes: used, record_bytes: 40, overhead,
            }),
        ];
        let scope = Scope { node: Some(&history), ..scope(&history, messages, &limits) };
        let horizon = Horizon::of(&scope);
        for estimate in [
            horizon.now.estimate, horizon.stress.estimate, horizon.peak.estimate, horizon.to_empty,
        ] {
            prop_assert!(estimate.low <= estimate.at && estimate.at <= estimate.high, "{:?}", estimate);
        }
        if capacity <= used {
            prop_assert_eq!(horizon.now.estimate.at, TimeLeft::NONE);
        }
        let question = WhatIf {
            rate_factor: 3.0, consumers_gone_millis: Some(HOUR), ..WhatIf::default()
        };
        let outlook = question.ask(&scope).expect("it makes sense");
        prop_assert!(outlook.full.estimate.low <= outlook.full.estimate.at);
    }

    /// More room, and time is not shorter; more publishers, and it is not longer.
    #[test]
    fn answers_are_monotone(rate in 10_u64..1_000, capacity in 1_000_u64..1_000_000) {
        let time = |rate, capacity| ask(&steady(rate, 0), 0, &[length(capacity, 0)]).now.estimate.at;
        prop_assert!(time(rate, capacity) <= time(rate, capacity * 2));
        prop_assert!(time(rate * 2, capacity) <= time(rate, capacity));
    }
}
