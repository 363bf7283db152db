use staunch_node::{Churn, ExchangeCounts};
use staunch_types::Timestamp;

use super::*;

fn name(text: &'static str) -> Name {
    Name::from_static(text)
}

fn nothing() -> Sample {
    Sample {
        at: Timestamp::default(),
        is_anew: false,
        has_more: false,
        queues: Vec::new(),
        queues_gone: Vec::new(),
        connections: Vec::new(),
        connections_gone: Vec::new(),
        closed_channels: ChannelCounts::default(),
        exchanges: BTreeMap::new(),
        churn: Churn::default(),
    }
}

fn queue(id: u64, publish: u64, ack: u64) -> QueueSample {
    QueueSample {
        id: QueueId(id),
        vhost: name("/"),
        name: name("q"),
        kind: QueueKind::Classic,
        is_served_here: true,
        is_partition: false,
        is_logged: true,
        is_slowed: false,
        settings: Arc::default(),
        counts: QueueCounts {
            publish,
            ack,
            ..QueueCounts::default()
        },
        held: Held {
            ready_count: publish - ack,
            ..Held::default()
        },
    }
}

fn connection(id: u64, opening: u64, publish: u64) -> ConnectionSample {
    let counts = ChannelCounts {
        publish,
        ..ChannelCounts::default()
    };
    ConnectionSample {
        id: ConnectionId(id),
        channels: vec![(ChannelNumber(1), opening, counts)],
    }
}

fn round(statistics: &mut Statistics, at_millis: u64, samples: Vec<Sample>) {
    statistics.begin(at_millis);
    for sample in samples {
        statistics.take(sample);
    }
    statistics.end();
}

#[test]
fn what_was_there_before_anybody_looked_is_no_rate() {
    let mut statistics = Statistics::default();
    let queues = vec![queue(1, 1_000, 0)];
    let first = Sample {
        is_anew: true,
        queues,
        ..nothing()
    };
    round(&mut statistics, 5_000, vec![first]);
    let known = statistics.queue(QueueId(1)).expect("it is there");
    assert!(known.messages.rate(0, statistics.round()).abs() < 1e-9);
    let queues = vec![queue(1, 1_500, 100), queue(2, 50, 0)];
    round(
        &mut statistics,
        10_000,
        vec![Sample {
            queues,
            ..nothing()
        }],
    );
    let rate = |id| {
        let known = statistics.queue(QueueId(id)).expect("it is there");
        known.messages.rate(0, statistics.round())
    };
    assert!((rate(1) - 100.0).abs() < 1e-9);
    assert!((rate(2) - 10.0).abs() < 1e-9);
    assert_eq!(statistics.totals().depth.now(), &[1_450, 1_450, 0]);
}

#[test]
fn what_does_not_move_has_no_rate_and_stays() {
    let mut statistics = Statistics::default();
    round(&mut statistics, 5_000, vec![nothing()]);
    let queues = vec![queue(1, 100, 0)];
    round(
        &mut statistics,
        10_000,
        vec![Sample {
            queues,
            ..nothing()
        }],
    );
    round(&mut statistics, 15_000, vec![nothing()]);
    let known = statistics.queue(QueueId(1)).expect("it is there");
    assert!(known.messages.rate(0, statistics.round()).abs() < 1e-9);
    assert_eq!(known.messages.now()[0], 100);
}

#[test]
fn totals_do_not_go_down_when_things_go() {
    let mut statistics = Statistics::default();
    round(&mut statistics, 5_000, vec![nothing()]);
    let busy = Sample {
        queues: vec![queue(1, 100, 40)],
        connections: vec![connection(1, 1, 100)],
        ..nothing()
    };
    round(&mut statistics, 10_000, vec![busy]);
    assert_eq!(statistics.totals().channels.publish, 100);
    let last = QueueCounts {
        publish: 120,
        ack: 60,
        ..QueueCounts::default()
    };
    let closed_channels = ChannelCounts {
        publish: 120,
        ..ChannelCounts::default()
    };
    let over = Sample {
        queues_gone: vec![
            (QueueId(1), QueueKind::Classic, last),
            (QueueId(2), QueueKind::Classic, last),
        ],
        connections_gone: vec![ConnectionId(1)],
        closed_channels,
        ..nothing()
    };
    round(&mut statistics, 15_000, vec![over]);
    assert!(
        statistics.queue(QueueId(1)).is_none() && statistics.connection(ConnectionId(1)).is_none()
    );
    assert_eq!(statistics.totals().channels.publish, 120);
    assert_eq!(statistics.totals().classic.counts.ack, 120);
    assert_eq!(statistics.totals().depth.now(), &[0; 3]);
}

#[test]
fn a_channel_that_took_the_number_of_another_starts_from_nothing() {
    let mut statistics = Statistics::default();
    round(&mut statistics, 5_000, vec![nothing()]);
    for (at, opening, publish) in [(10_000, 1, 100), (15_000, 2, 10)] {
        let connections = vec![connection(1, opening, publish)];
        round(
            &mut statistics,
            at,
            vec![Sample {
                connections,
                ..nothing()
            }],
        );
    }
    let known = statistics.connection(ConnectionId(1)).expect("it is there");
    let (opening, series) = &known.channels[&ChannelNumber(1)];
    assert_eq!((*opening, series.now()[0]), (2, 10));
    assert!((series.rate(0, statistics.round()) - 2.0).abs() < 1e-9);
}

#[test]
fn a_whole_sample_ends_what_it_does_not_name() {
    let mut statistics = Statistics::default();
    let queues = vec![queue(1, 10, 0), queue(2, 10, 0)];
    round(
        &mut statistics,
        5_000,
        vec![Sample {
            is_anew: true,
            queues,
            ..nothing()
        }],
    );
    let parts = vec![
        Sample {
            is_anew: true,
            has_more: true,
            queues: vec![queue(2, 10, 0)],
            ..nothing()
        },
        Sample {
            queues: vec![queue(3, 10, 0)],
            ..nothing()
        },
    ];
    round(&mut statistics, 10_000, parts);
    let ids: Vec<_> = statistics.queues().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [2, 3]);
    assert_eq!(statistics.totals().classic.counts.publish, 30);
}

#[test]
fn exchanges_and_virtual_hosts_add_up_and_go_with_the_catalog() {
    let mut statistics = Statistics::default();
    let exchange = |publish_in| {
        let counts = ExchangeCounts {
            publish_in,
            publish_out: 2 * publish_in,
        };
        let exchanges = BTreeMap::from([((name("/"), name("x")), counts)]);
        Sample {
            exchanges,
            ..nothing()
        }
    };
    round(&mut statistics, 5_000, vec![exchange(10)]);
    round(&mut statistics, 10_000, vec![exchange(20)]);
    let key = (name("/"), name("x"));
    let series = statistics.exchange(&key).expect("it is there");
    assert_eq!(series.now(), &[30, 60]);
    assert!((series.rate(1, statistics.round()) - 8.0).abs() < 1e-9);
    let vhost = statistics.vhost(&name("/")).expect("it is there");
    assert_eq!(vhost.messages.now()[0], 30);
    statistics.forget(|_, exchange| exchange.is_none());
    assert!(statistics.exchange(&key).is_none());
}
