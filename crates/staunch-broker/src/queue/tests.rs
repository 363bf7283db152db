mod features;
mod model;
mod replicas;
mod steps;

use proptest::prelude::*;
use staunch_types::{Outcome, UnixMillis};

use super::*;

/// Nothing has expired yet.
const NOW: UnixMillis = UnixMillis(0);
const A: ConsumerKey = ConsumerKey(1);
const B: ConsumerKey = ConsumerKey(2);

fn consumer(key: ConsumerKey, prefetch: u16) -> ConsumerSpec {
    ConsumerSpec {
        key,
        no_ack: false,
        exclusive: false,
        prefetch,
        priority: 0,
        identity: 0,
    }
}

fn arrival(body: BodyRef, size_bytes: u32) -> Arrival {
    Arrival {
        body,
        size_bytes,
        body_size_bytes: size_bytes / 2,
        expires_at: None,
        priority: 0,
        redelivered: false,
    }
}

fn filled(count: u64) -> Queue {
    let mut queue = Queue::new(Durability::Transient, &QueueSettings::default());
    for n in 0..count {
        assert_eq!(
            queue.enqueue(arrival(BodyRef(n + 100), 10)),
            MessageIndex(n)
        );
    }
    queue
}

fn assigned(queue: &mut Queue) -> Vec<(u32, u64, bool)> {
    std::iter::from_fn(|| queue.assign_next())
        .map(|a| (a.consumer.0, a.index.0, a.redelivered))
        .collect()
}

#[test]
fn turns_go_round_within_prefetch_and_highest_priority_first() {
    let mut queue = filled(6);
    queue.add_consumer(consumer(A, 2)).unwrap();
    queue.add_consumer(consumer(B, 1)).unwrap();
    let high = ConsumerSpec {
        priority: 5,
        ..consumer(ConsumerKey(3), 1)
    };
    queue.add_consumer(high).unwrap();
    assert!(queue.next_delivery().is_some());
    let expected = [(3, 0, false), (1, 1, false), (2, 2, false), (1, 3, false)];
    assert_eq!(assigned(&mut queue), expected);
    assert!(queue.next_delivery().is_none());
    let mut departed = Departed::default();
    queue
        .settle(
            ConsumerKey(3),
            (MessageIndex(0), 1),
            Outcome::Ack,
            NOW,
            &mut departed,
        )
        .unwrap();
    assert_eq!(departed.released, [(MessageIndex(0), BodyRef(100), 10)]);
    assert_eq!(assigned(&mut queue), [(3, 4, false)]);
    queue.check_invariants();
}

/// A has taken the two messages there are and is full; B and C came later. Who gets them when A
/// gives them back?
fn takers_after_a_full_one(settings: &QueueSettings) -> Vec<u32> {
    let mut queue = Queue::new(Durability::Transient, settings);
    queue.add_consumer(consumer(A, 2)).unwrap();
    for n in 0..2 {
        queue.enqueue(arrival(BodyRef(n), 10));
    }
    assert_eq!(assigned(&mut queue).len(), 2);
    queue.end_dispatch();
    queue.add_consumer(consumer(B, 2)).unwrap();
    queue.add_consumer(consumer(ConsumerKey(3), 2)).unwrap();
    queue.requeue_all(A, NOW, &mut Departed::default());
    let takers = assigned(&mut queue);
    queue.check_invariants();
    takers.iter().map(|(consumer, ..)| *consumer).collect()
}

#[test]
fn a_full_consumer_keeps_its_place_until_a_message_meets_it() {
    let classic = QueueSettings::default();
    assert_eq!(takers_after_a_full_one(&classic), [1, 2]);
    let quorum = QueueSettings {
        priorities: crate::settings::Priorities::TwoToOne,
        ..classic
    };
    assert_eq!(takers_after_a_full_one(&quorum), [2, 3]);
}

#[test]
fn a_message_that_waits_has_met_every_consumer() {
    let mut queue = filled(3);
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.add_consumer(consumer(B, 1)).unwrap();
    assert_eq!(assigned(&mut queue).len(), 2);
    queue.end_dispatch();
    assert_eq!(queue.purge(&mut Vec::new()), 1);
    for key in [B, A] {
        queue.requeue_all(key, NOW, &mut Departed::default());
    }
    let expected = [(2, 0, true), (1, 1, true)];
    assert_eq!(assigned(&mut queue), expected);
    queue.check_invariants();
}

#[test]
fn returned_messages_keep_their_place() {
    let mut queue = filled(4);
    queue.add_consumer(consumer(A, 0)).unwrap();
    assert_eq!(assigned(&mut queue).len(), 4);
    let mut departed = Departed::default();
    queue
        .settle(
            A,
            (MessageIndex(2), 1),
            Outcome::Requeue,
            NOW,
            &mut departed,
        )
        .unwrap();
    queue
        .settle(
            A,
            (MessageIndex(0), 1),
            Outcome::Requeue,
            NOW,
            &mut departed,
        )
        .unwrap();
    queue.enqueue(arrival(BodyRef(9), 10));
    assert_eq!(queue.peek_next().unwrap().0, MessageIndex(0));
    assert_eq!(
        assigned(&mut queue),
        [(1, 0, true), (1, 2, true), (1, 4, false)]
    );
    assert!(queue.remove_consumer(A));
    assert_eq!(queue.requeue_all(A, NOW, &mut Departed::default()), 5);
    assert_eq!((queue.ready_count(), queue.unacked_count()), (5, 0));
    assert!(queue.consumers.is_none());
    queue.check_invariants();
}

#[test]
fn settling_what_is_not_held_changes_nothing() {
    let mut queue = filled(200);
    queue.add_consumer(consumer(A, 100)).unwrap();
    assigned(&mut queue);
    let mut departed = Departed::default();
    let error = queue.settle(A, (MessageIndex(50), 51), Outcome::Ack, NOW, &mut departed);
    assert_eq!(
        error,
        Err(UnknownDelivery {
            consumer: A,
            index: MessageIndex(100)
        })
    );
    let error = queue.settle(B, (MessageIndex(50), 1), Outcome::Ack, NOW, &mut departed);
    assert_eq!(
        error,
        Err(UnknownDelivery {
            consumer: B,
            index: MessageIndex(50)
        })
    );
    let error = queue.settle(
        A,
        (MessageIndex(u64::MAX), 1),
        Outcome::Ack,
        NOW,
        &mut departed,
    );
    assert!(error.is_err());
    assert!(departed.is_empty());
    assert_eq!(
        queue.settle(A, (MessageIndex(0), 100), Outcome::Ack, NOW, &mut departed),
        Ok(100)
    );
    assert_eq!(departed.released.len(), 100);
    queue.check_invariants();
}

#[test]
fn exclusive_consumers_stand_alone() {
    let mut queue = filled(0);
    let exclusive = ConsumerSpec {
        exclusive: true,
        ..consumer(A, 0)
    };
    queue.add_consumer(consumer(B, 0)).unwrap();
    assert_eq!(queue.add_consumer(exclusive), Err(Refused::ExclusiveUse));
    queue.remove_consumer(B);
    queue.add_consumer(exclusive).unwrap();
    assert_eq!(
        queue.add_consumer(consumer(B, 0)),
        Err(Refused::ExclusiveUse)
    );
    queue.remove_consumer(A);
    queue.add_consumer(consumer(B, 0)).unwrap();
    queue.check_invariants();
}

#[test]
fn consumers_are_bounded() {
    let mut queue = filled(0);
    for key in 0..u32::try_from(CONSUMERS_PER_QUEUE_MAX).unwrap() {
        queue.add_consumer(consumer(ConsumerKey(key), 0)).unwrap();
    }
    let one_more = consumer(ConsumerKey(u32::MAX), 0);
    assert_eq!(queue.add_consumer(one_more), Err(Refused::TooManyConsumers));
    queue.check_invariants();
}

#[test]
fn durable_queues_wait_for_their_reservation() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    queue.enqueue(arrival(BodyRef(1), 10));
    assert_eq!(queue.needs_reservation(), None, "nobody asks");
    assert_eq!(queue.get(A, true), Got::AwaitsReservation);
    let upto = queue.needs_reservation().unwrap();
    assert_eq!(upto, MessageIndex(1_024));
    assert_eq!(queue.needs_reservation(), None, "it is pending");
    assert_eq!(queue.get(A, true), Got::AwaitsReservation);
    queue.reserve(upto);
    assert!(matches!(queue.get(A, true), Got::Message(message) if message.settled));
    assert_eq!(queue.get(A, true), Got::Empty);
    assert_eq!(queue.release_reservation(), MessageIndex(1));
    queue.check_invariants();
}

#[test]
fn the_window_grows_while_deliveries_outrun_it() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    queue
        .add_consumer(ConsumerSpec {
            no_ack: true,
            ..consumer(A, 0)
        })
        .unwrap();
    for n in 0..300_000 {
        queue.enqueue(arrival(BodyRef(n), 1));
    }
    let mut reservations = 0;
    while queue.ready_count() > 0 {
        assigned(&mut queue);
        if let Some(upto) = queue.needs_reservation() {
            assert!(
                upto.0 - queue.fresh <= watermark::WINDOW_MAX,
                "the window is bounded"
            );
            queue.reserve(upto);
            reservations += 1;
        }
    }
    assert!(reservations < 16, "{reservations} reservations");
}

#[test]
fn one_stuck_message_costs_one_chunk() {
    let mut queue = filled(1);
    queue.add_consumer(consumer(A, 0)).unwrap();
    let (mut departed, mut n) = (Departed::default(), 0);
    assigned(&mut queue);
    for _ in 0..10_000 {
        for _ in 0..100 {
            queue.enqueue(arrival(BodyRef(n), 1));
            n += 1;
        }
        assigned(&mut queue);
        queue
            .settle(
                A,
                (MessageIndex(n - 99), 100),
                Outcome::Ack,
                NOW,
                &mut departed,
            )
            .unwrap();
        departed.released.clear();
    }
    assert_eq!(queue.unacked_count(), 1);
    assert!(
        queue.memory_bytes() < 16_384,
        "{} bytes",
        queue.memory_bytes()
    );
    queue.check_invariants();
}

#[test]
fn an_idle_queue_is_small() {
    assert!(size_of::<Queue>() <= 272, "{} bytes", size_of::<Queue>());
}

#[test]
fn moved_bodies_are_found_at_their_new_place() {
    let mut queue = filled(2);
    assert!(queue.relocate(MessageIndex(1), BodyRef(101), BodyRef(7)));
    assert!(
        !queue.relocate(MessageIndex(1), BodyRef(101), BodyRef(8)),
        "it is not there any more"
    );
    assert!(
        !queue.relocate(MessageIndex(2), BodyRef(102), BodyRef(8)),
        "no such message"
    );
    let live: Vec<_> = queue.live_from(MessageIndex(1)).collect();
    assert_eq!(live, [(MessageIndex(1), BodyRef(7), 10)]);
}

#[test]
fn purge_takes_only_what_is_ready() {
    let mut queue = filled(130);
    queue.add_consumer(consumer(A, 1)).unwrap();
    assigned(&mut queue);
    let mut departed = Departed::default();
    assert_eq!(queue.purge(&mut departed.released), 129);
    let command = QueueCommand::purged(&departed.released);
    assert_eq!(
        command,
        QueueCommand::Purged {
            ranges: vec![(MessageIndex(1), 129)]
        }
    );
    assert_eq!((queue.ready_count(), queue.unacked_count()), (0, 1));
    queue.check_invariants();
}

#[test]
fn a_prefetch_may_change_while_a_consumer_holds_messages() {
    let mut queue = filled(20);
    queue.add_consumer(consumer(A, 2)).unwrap();
    let mut departed = Departed::default();
    let taken = |queue: &mut Queue| {
        let count = assigned(queue).len();
        queue.check_invariants();
        count
    };
    assert_eq!(taken(&mut queue), 2);
    queue.set_consumer_prefetch(A, 5);
    assert_eq!(taken(&mut queue), 3);
    queue.set_consumer_prefetch(A, 1);
    assert_eq!(taken(&mut queue), 0);
    let ack = Outcome::Ack;
    queue
        .settle(A, (MessageIndex(0), 4), ack, NOW, &mut departed)
        .unwrap();
    assert_eq!(taken(&mut queue), 0);
    queue
        .settle(A, (MessageIndex(4), 1), ack, NOW, &mut departed)
        .unwrap();
    assert_eq!(taken(&mut queue), 1);
    queue.set_consumer_prefetch(A, 0);
    assert_eq!(taken(&mut queue), 14);
}

#[test]
fn layouts_do_not_change_unnoticed() {
    let check = |command: QueueCommand, expected: &[u8]| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        assert_eq!(bytes, expected);
        assert_eq!(QueueCommand::decode(&bytes), Ok(command));
        for size in 0..bytes.len() {
            assert!(QueueCommand::decode(&bytes[..size]).is_err());
        }
    };
    let ranges = vec![(MessageIndex(3), 2), (MessageIndex(300), 1)];
    check(
        QueueCommand::Settled {
            ranges: ranges.clone(),
        },
        &[2, 1, 2, 3, 2, 167, 2, 1],
    );
    check(QueueCommand::Purged { ranges }, &[2, 2, 2, 3, 2, 167, 2, 1]);
    check(
        QueueCommand::Reserved {
            upto: MessageIndex(1_024),
        },
        &[2, 3, 128, 8],
    );

    let mut queue = filled(200);
    queue.get(A, true);
    queue.enqueue(arrival(BodyRef(1), 1));
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    assert_eq!(bytes, [3, 201, 1, 0, 1, 1, 200, 1, 0, 0]);
    let decoded = Queue::decode_snapshot(&bytes, &QueueSettings::default()).unwrap();
    assert_eq!(decoded.missing(), [(MessageIndex(1), 200)]);
    for size in 0..bytes.len() {
        assert!(Queue::decode_snapshot(&bytes[..size], &QueueSettings::default()).is_err());
    }
    let huge = [
        3, 255, 255, 255, 255, 255, 255, 127, 0, 1, 0, 255, 255, 255, 255, 255, 255, 127, 0, 0,
    ];
    assert!(Queue::decode_snapshot(&huge, &QueueSettings::default()).is_err());
}

/// After a restart all between the last message handed out and the next may be gone; what is left
/// of the reservation must be judged by the next.
#[test]
fn a_reservation_is_asked_for_behind_a_gap() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    for n in 0..2001 {
        queue.enqueue(arrival(BodyRef(n + 100), 10));
    }
    queue.add_consumer(consumer(A, 0)).unwrap();
    for _ in 0..2000 {
        while queue.assign_next().is_none() {
            let upto = queue.needs_reservation().unwrap();
            queue.reserve(upto);
        }
    }
    let mut departed = Departed::default();
    queue
        .settle(A, (MessageIndex(1), 1999), Outcome::Ack, NOW, &mut departed)
        .unwrap();
    queue.requeue_all(A, NOW, &mut Departed::default());
    queue.remove_consumer(A);
    queue.release_reservation();
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    let mut queue = Queue::decode_snapshot(&bytes, &QueueSettings::default()).unwrap();
    queue.restore_message(MessageIndex(0), arrival(BodyRef(1), 10));
    queue.restore_message(MessageIndex(2000), arrival(BodyRef(2), 10));
    queue.finish_recovery();
    queue.add_consumer(consumer(B, 0)).unwrap();
    assert_eq!(queue.assign_next().unwrap().index, MessageIndex(0));
    assert!(queue.assign_next().is_none(), "above the watermark");
    let upto = queue
        .needs_reservation()
        .expect("a ready message waits for it");
    queue.reserve(upto);
    assert_eq!(queue.assign_next().unwrap().index, MessageIndex(2000));
    queue.check_invariants();
}

proptest! {
    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        EntryHead::decode(&bytes).ok();
        let command = QueueCommand::decode(&bytes);
        let queue = Queue::decode_snapshot(&bytes, &QueueSettings::default());
        if let (Ok(mut queue), Ok(command)) = (queue, command) {
            queue.apply_recovered(&command, &mut Vec::new());
        }
    }
}
