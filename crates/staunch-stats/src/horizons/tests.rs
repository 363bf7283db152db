use std::collections::BTreeMap;

use staunch_broker::{DeadLettering, QueueKind};
use staunch_horizon::{Resource, TimeLeft};
use staunch_node::{ChannelCounts, Churn, QueueCounts, QueueSample, Sample};
use staunch_types::Timestamp;

use super::*;
use crate::KeptHistories;

const BODY_BYTES: u64 = 100;
const START_MILLIS: u64 = 20_000 * 86_400_000;
const ROUND_MILLIS: u64 = 5_000;

/// A node whose queues are filled and emptied at even rates.
struct Bench {
    statistics: Statistics,
    round: u64,
    condition: Condition,
}

/// A queue as it stands.
#[derive(Clone)]
struct Stand {
    id: u64,
    arrived: u64,
    held: u64,
    is_logged: bool,
    settings: QueueSettings,
}

impl Stand {
    fn new(id: u64, settings: QueueSettings) -> Self {
        Self {
            id,
            arrived: 0,
            held: 0,
            is_logged: true,
            settings,
        }
    }

    fn sample(&self) -> QueueSample {
        QueueSample {
            id: QueueId(self.id),
            vhost: Name::from_static("/"),
            name: Name::from_static("q"),
            kind: QueueKind::Classic,
            is_served_here: true,
            is_partition: false,
            is_logged: self.is_logged,
            is_slowed: false,
            settings: Arc::new(self.settings.clone()),
            counts: QueueCounts {
                publish: self.arrived,
                publish_body_bytes: self.arrived * BODY_BYTES,
                ..QueueCounts::default()
            },
            held: Held {
                ready_count: self.held,
                message_count: self.held,
                ready_body_bytes: self.held * BODY_BYTES,
                ..Held::default()
            },
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            statistics: Statistics::default(),
            round: 0,
            condition: Condition {
                kept_size_bytes_max: u64::MAX / 4,
                ..Condition::default()
            },
        }
    }

    fn round(&mut self, queues: &[&Stand]) {
        self.sample(queues, Vec::new());
    }

    fn sample(&mut self, queues: &[&Stand], gone: Vec<u64>) {
        let gone = gone.into_iter();
        let gone = gone.map(|id| (QueueId(id), QueueKind::Classic, QueueCounts::default()));
        self.round += 1;
        self.statistics
            .begin(START_MILLIS + self.round * ROUND_MILLIS);
        self.statistics.take(Sample {
            at: Timestamp::default(),
            is_anew: self.round == 1,
            has_more: false,
            queues: queues.iter().map(|queue| queue.sample()).collect(),
            queues_gone: gone.collect(),
            connections: Vec::new(),
            connections_gone: Vec::new(),
            closed_channels: ChannelCounts::default(),
            exchanges: BTreeMap::new(),
            churn: Churn::default(),
        });
        self.statistics.end();
    }

    /// So many rounds in which so many messages come in and go out in each second.
    fn run(&mut self, queue: &mut Stand, rounds: u64, came: u64, went: u64) {
        for _ in 0..rounds {
            let seconds = ROUND_MILLIS / 1_000;
            queue.arrived += came * seconds;
            queue.held = (queue.held + came * seconds).saturating_sub(went * seconds);
            self.round(&[queue]);
        }
    }

    fn report(&self, id: u64) -> Report {
        let snapshot = self.statistics.snapshot(self.condition);
        let mut queues = snapshot.queues().iter();
        let view = queues.find(|it| it.facts.id == QueueId(id));
        snapshot.queue(view.expect("it is there"))
    }

    fn node(&self) -> Report {
        self.statistics.snapshot(self.condition).node()
    }
}

/// At most so many messages, dropped or refused.
fn limited(max_length: u64, overflow: Overflow) -> QueueSettings {
    QueueSettings {
        max_length: Some(max_length),
        overflow,
        ..QueueSettings::default()
    }
}

#[track_caller]
fn check(bound: &staunch_horizon::Bound, seconds: u64, limit: (Resource, Outcome)) {
    let found = bound.estimate.at.millis().expect("it has an end") / 1_000;
    assert!(
        found.abs_diff(seconds) * 20 <= seconds,
        "{found} s, not {seconds} s"
    );
    assert_eq!(bound.limit, Some(limit));
}

#[test]
fn a_queue_that_fills_evenly_is_full_when_its_rates_say_so() {
    let mut bench = Bench::new();
    let mut queue = Stand::new(1, limited(1_000_000, Overflow::RejectPublish));
    bench.round(&[&queue]);
    bench.run(&mut queue, 60, 1_000, 500);
    let report = bench.report(1);
    let left = 1_000_000 - queue.held;
    let limit = (Resource::MaxLength, Outcome::Refuse);
    check(&report.horizon.now, left / 500, limit);
    check(&report.horizon.stress, left / 1_000, limit);
    assert_eq!(report.horizon.to_empty.at, TimeLeft::Never);
    assert!((report.rates.messages_out - 500.0).abs() < 5.0);
    assert!(report.has_history && report.history_millis >= 280_000);
}

#[test]
fn what_happens_at_a_limit_follows_from_the_settings() {
    let outcome = |overflow, has_exchange: bool| {
        let dead_lettering = has_exchange.then(|| DeadLettering {
            exchange: Name::default(),
            routing_key: None,
            at_least_once: false,
        });
        let mut bench = Bench::new();
        let settings = QueueSettings {
            dead_lettering,
            ..limited(10, overflow)
        };
        let mut queue = Stand::new(1, settings);
        bench.round(&[&queue]);
        bench.run(&mut queue, 2, 1, 0);
        bench.report(1).limits[0].outcome
    };
    assert_eq!(outcome(Overflow::DropHead, false), Outcome::DropOldest);
    assert_eq!(outcome(Overflow::DropHead, true), Outcome::DeadLetter);
    assert_eq!(outcome(Overflow::RejectPublish, true), Outcome::Refuse);
    assert_eq!(outcome(Overflow::RejectPublishDlx, true), Outcome::Refuse);
}

#[test]
fn a_limit_that_a_policy_changes_counts_at_once() {
    let mut bench = Bench::new();
    let mut queue = Stand::new(1, limited(100_000, Overflow::DropHead));
    bench.round(&[&queue]);
    bench.run(&mut queue, 60, 100, 100);
    queue.settings.max_length = Some(10_000);
    bench.run(&mut queue, 1, 100, 100);
    let limit = (Resource::MaxLength, Outcome::DropOldest);
    check(&bench.report(1).horizon.stress, 100, limit);
    queue.settings.max_length = None;
    bench.run(&mut queue, 1, 100, 100);
    assert_eq!(bench.report(1).horizon.stress.limit, None);
}

#[test]
fn what_was_there_before_anybody_looked_has_not_flowed() {
    let mut bench = Bench::new();
    let mut queue = Stand::new(1, limited(2_000_000, Overflow::RejectPublish));
    (queue.arrived, queue.held) = (5_000_000, 1_000_000);
    bench.round(&[&queue]);
    let report = bench.report(1);
    assert_eq!(report.horizon.stress.estimate.at, TimeLeft::Never);
    assert!(report.rates.messages_in < 1e-9);
    bench.run(&mut queue, 60, 1_000, 0);
    let limit = (Resource::MaxLength, Outcome::Refuse);
    check(&bench.report(1).horizon.stress, 700, limit);
    // A queue taken over from another node counts from there on.
    (queue.arrived, queue.held) = (10, 1_300_000);
    bench.round(&[&queue]);
    bench.run(&mut queue, 10, 1_000, 0);
    check(&bench.report(1).horizon.stress, 650, limit);
}

#[test]
fn a_disk_is_shared_and_memory_is_for_what_is_not_logged() {
    let mut bench = Bench::new();
    let mut logged = Stand::new(1, QueueSettings::default());
    let mut transient = Stand::new(2, QueueSettings::default());
    transient.is_logged = false;
    bench.round(&[&logged, &transient]);
    for _ in 0..60 {
        for queue in [&mut logged, &mut transient] {
            queue.arrived += 5_000;
            queue.held += 5_000;
        }
        bench.round(&[&logged, &transient]);
    }
    let cost = 1_000 * (BODY_BYTES + LOG_RECORD_SIZE_BYTES);
    bench.condition.disk_free_size_bytes = Some(1_000_000_000 + 2 * 600 * cost);
    bench.condition.disk_free_limit_size_bytes = 1_000_000_000;
    let disk = (Resource::Disk, Outcome::Block);
    // Both flow in at the same rate, and only one of them to the disk: sooner rather than later.
    check(&bench.report(1).horizon.stress, 600, disk);
    let resources = |report: &Report| -> Vec<_> {
        let limits = report.limits.iter();
        limits.map(|limit| limit.resource).collect()
    };
    assert_eq!(
        resources(&bench.report(1)),
        [Resource::Memory, Resource::Disk]
    );
    assert_eq!(resources(&bench.report(2)), [Resource::Memory]);
    assert_eq!(resources(&bench.node()), [Resource::Memory, Resource::Disk]);
    // Neither has consumers to lose, so it is the same for the node.
    check(&bench.node().horizon.stress, 600, disk);
}

#[test]
fn what_a_deleted_queue_held_flows_out_of_the_node() {
    let mut bench = Bench::new();
    let mut queue = Stand::new(1, QueueSettings::default());
    bench.round(&[&queue]);
    bench.run(&mut queue, 12, 1_000, 0);
    assert!(bench.node().rates.messages_out < 1e-9);
    bench.sample(&[], vec![1]);
    assert!(bench.node().rates.messages_out > 100.0);
    let snapshot = bench.statistics.snapshot(bench.condition);
    assert!(snapshot.queues().is_empty());
    assert_eq!(snapshot.histories().0, 0);
}

#[test]
fn a_queue_without_a_history_says_so_and_goes_by_its_rates() {
    let mut bench = Bench::new();
    bench.round(&[]);
    let count = FLOW_HISTORIES_MAX as u64;
    let mut queues: Vec<Stand> = (1..=count + 1)
        .map(|id| Stand::new(id, limited(10_000, Overflow::RejectPublish)))
        .collect();
    for _ in 0..20 {
        for queue in &mut queues {
            queue.arrived += 50;
            queue.held += 50;
        }
        bench.round(&queues.iter().collect::<Vec<_>>());
    }
    let limit = (Resource::MaxLength, Outcome::Refuse);
    let (known, unknown) = (bench.report(1), bench.report(count + 1));
    assert!(known.has_history && !unknown.has_history);
    assert_eq!(unknown.history_millis, 0);
    check(&known.horizon.stress, 900, limit);
    check(&unknown.horizon.stress, 900, limit);
    let width = |report: &Report| {
        let estimate = report.horizon.stress.estimate;
        estimate.high.millis().unwrap_or(0) - estimate.low.millis().unwrap_or(0)
    };
    assert!(width(&unknown) > width(&known));
    // A queue that goes makes room for the next that moves.
    bench.sample(&[], vec![1]);
    let next = Stand {
        arrived: 5,
        ..Stand::new(count + 2, QueueSettings::default())
    };
    bench.round(&[&next]);
    assert!(bench.report(count + 2).has_history);
}

#[test]
fn histories_are_kept_for_the_same_queue_only() {
    let mut bench = Bench::new();
    let mut queue = Stand::new(1, limited(1_000_000, Overflow::RejectPublish));
    bench.round(&[&queue]);
    bench.run(&mut queue, 60, 1_000, 1_000);
    let kept = bench.statistics.histories();
    let restart = |kept: KeptHistories| {
        let mut bench = Bench::new();
        bench.round = 120;
        bench.statistics.restore(kept);
        bench.round(&[&queue]);
        bench
    };
    let mut again = restart(kept.clone());
    assert!(again.report(1).history_millis >= 290_000);
    assert!(again.node().history_millis >= 290_000);
    again.run(&mut queue.clone(), 4, 1_000, 1_000);
    let limit = (Resource::MaxLength, Outcome::Refuse);
    check(&again.report(1).horizon.stress, 1_000, limit);
    let mut other = kept;
    for history in other.queues.values_mut() {
        history.name = Name::from_static("another");
    }
    assert_eq!(restart(other).report(1).history_millis, 0);
}
