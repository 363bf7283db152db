//! What each setting does, by itself and with its neighbours.

use staunch_types::{Name, UnixMillis};

use super::*;
use crate::settings::{DeadLettering, Overflow, Priorities};

fn dead_lettering() -> QueueSettings {
    QueueSettings {
        dead_lettering: Some(DeadLettering {
            exchange: Name::from_static("dead"),
            routing_key: None,
            at_least_once: false,
        }),
        ..QueueSettings::default()
    }
}

/// A transient queue whose messages have these priorities.
fn prioritized(priorities: Priorities, messages: &[u8]) -> Queue {
    let settings = QueueSettings {
        priorities,
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    for priority in messages {
        queue.enqueue(Arrival {
            priority: *priority,
            ..arrival(BodyRef(0), 10)
        });
    }
    queue
}

fn expiring(at: u64) -> Arrival {
    Arrival {
        expires_at: Some(UnixMillis(at)),
        ..arrival(BodyRef(0), 10)
    }
}

fn indexes(assigned: &[(u32, u64, bool)]) -> Vec<u64> {
    assigned.iter().map(|(_, index, _)| *index).collect()
}

fn deaths(departed: &Departed) -> Vec<(u64, Death)> {
    let dying = departed.dying.iter();
    dying.map(|dying| (dying.index.0, dying.reason)).collect()
}

#[test]
fn what_expires_does_not_wait_for_what_does_not() {
    let mut queue = Queue::new(Durability::Transient, &dead_lettering());
    queue.enqueue(arrival(BodyRef(0), 10));
    for n in 0..200 {
        queue.enqueue(expiring(1_000 - n));
    }
    assert_eq!(queue.next_expiry(), Some(UnixMillis(801)));
    let mut departed = Departed::default();
    assert_eq!(queue.expire(UnixMillis(800), 10, &mut departed), 0);
    assert_eq!(queue.expire(UnixMillis(803), 2, &mut departed), 2);
    assert_eq!(queue.expire(UnixMillis(803), 2, &mut departed), 1);
    assert_eq!(queue.dying_count(), 3);
    assert_eq!(queue.next_expiry(), Some(UnixMillis(804)));
    assert_eq!(
        queue.expire(UnixMillis(5_000), usize::MAX, &mut departed),
        197
    );
    let in_order = departed.dying[3..].is_sorted_by_key(|dying| dying.index);
    assert!(in_order, "the dead move on in the order of their places");
    assert_eq!((queue.ready_count(), queue.next_expiry()), (1, None));
    queue.check_invariants();
}

#[test]
fn what_expires_in_turn_does_so_by_time_and_then_by_place() {
    let mut queue = Queue::new(Durability::Transient, &dead_lettering());
    // Every time comes up in every chunk, and several times in each.
    let time = |place: u64| 100 + place * 7_919 % 20;
    for place in 0..1_000 {
        queue.enqueue(expiring(time(place)));
    }
    let mut departed = Departed::default();
    assert_eq!(queue.expire_in_turn(UnixMillis(99), 5, &mut departed), 0);
    while queue.expire_in_turn(UnixMillis(118), 7, &mut departed) > 0 {}
    assert_eq!(queue.next_expiry(), Some(UnixMillis(119)));
    let dead: Vec<_> = departed.dying.iter().map(|dying| dying.index.0).collect();
    let mut expected: Vec<u64> = (0..1_000).filter(|place| time(*place) <= 118).collect();
    expected.sort_by_key(|place| time(*place));
    assert_eq!(dead, expected);
    queue.check_invariants();
}

#[test]
fn what_is_held_expires_when_it_is_given_back() {
    let mut queue = Queue::new(Durability::Transient, &QueueSettings::default());
    queue.enqueue(expiring(100));
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(assigned(&mut queue).len(), 1);
    assert_eq!(queue.next_expiry(), None);
    let mut departed = Departed::default();
    assert_eq!(queue.expire(UnixMillis(200), 10, &mut departed), 0);
    queue.requeue_all(A, UnixMillis(99), &mut departed);
    assert!(departed.is_empty());
    assert_eq!(queue.next_expiry(), Some(UnixMillis(100)));
    assert_eq!(assigned(&mut queue).len(), 1);
    queue.requeue_all(A, UnixMillis(100), &mut departed);
    assert_eq!(assigned(&mut queue).len(), 0);
    assert_eq!(departed.released.len(), 1, "no dead lettering: it is gone");
    queue.check_invariants();
}

#[test]
fn the_index_of_expiries_holds_no_settled_chunks() {
    let mut queue = Queue::new(Durability::Transient, &QueueSettings::default());
    queue
        .add_consumer(ConsumerSpec {
            no_ack: true,
            ..consumer(A, 0)
        })
        .unwrap();
    for n in 0..100_000 {
        queue.enqueue(expiring(1_000_000 + n));
        assert!(queue.assign_next().is_some());
    }
    queue.trim();
    assert!(queue.memory_bytes() < 4_096, "{}", queue.memory_bytes());
    queue.check_invariants();
}

#[test]
fn a_full_queue_drops_its_head_in_the_order_of_delivery() {
    let settings = QueueSettings {
        max_length: Some(2),
        ..dead_lettering()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    for n in 0..5 {
        queue.enqueue(arrival(BodyRef(n), 10));
    }
    let mut departed = Departed::default();
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert_eq!(
        queue.drop_head(usize::MAX, &mut departed),
        0,
        "a consumer takes it"
    );
    assert_eq!(indexes(&assigned(&mut queue)), [0]);
    assert!(!queue.is_full_for(1), "it makes room, it does not refuse");
    assert_eq!(queue.drop_head(usize::MAX, &mut departed), 2);
    let expected = [(1, Death::MaxLength), (2, Death::MaxLength)];
    assert_eq!(deaths(&departed), expected);
    let bytes_only = QueueSettings {
        max_length: None,
        max_length_bytes: Some(9),
        ..settings
    };
    queue.configure(&bytes_only);
    assert_eq!(queue.ready_body_bytes(), 10);
    assert_eq!(
        queue.drop_head(usize::MAX, &mut departed),
        1,
        "bodies of 5 bytes each"
    );
    queue.check_invariants();
}

#[test]
fn a_quorum_queue_hands_out_what_was_given_back_in_the_order_of_its_return() {
    let mut queue = prioritized(Priorities::TwoToOne, &[0, 0, 0, 0]);
    queue.add_consumer(consumer(A, 3)).unwrap();
    assert_eq!(assigned(&mut queue).len(), 3);
    let mut departed = Departed::default();
    for index in [2, 0, 1] {
        let returned = (MessageIndex(index), 1);
        queue
            .settle(A, returned, Outcome::Requeue, NOW, &mut departed)
            .unwrap();
        queue.check_invariants();
    }
    assert!(queue.upcoming().map(|next| next.0.0).eq([2, 0, 1, 3]));
    assert_eq!(indexes(&assigned(&mut queue)), [2, 0, 1]);
}

#[test]
fn who_goes_gives_back_to_a_quorum_queue_in_the_order_of_delivery() {
    let order = |priorities| {
        let mut queue = prioritized(priorities, &[0, 0, 0]);
        let mut departed = Departed::default();
        queue.add_consumer(consumer(A, 1)).unwrap();
        assert_eq!(indexes(&assigned(&mut queue)), [0]);
        queue.add_consumer(consumer(B, 3)).unwrap();
        assert_eq!(indexes(&assigned(&mut queue)), [1, 2]);
        queue.remove_consumer(A);
        queue.requeue_all(A, NOW, &mut departed);
        assert_eq!(indexes(&assigned(&mut queue)), [0], "B holds 1, 2, 0");
        let second = (MessageIndex(1), 1);
        queue
            .settle(B, second, Outcome::Requeue, NOW, &mut departed)
            .unwrap();
        assert_eq!(indexes(&assigned(&mut queue)), [1], "B holds 2, 0, 1");
        queue.remove_consumer(B);
        queue.requeue_all(B, NOW, &mut departed);
        queue.check_invariants();
        queue.upcoming().map(|next| next.0.0).collect::<Vec<_>>()
    };
    assert_eq!(order(Priorities::TwoToOne), [2, 0, 1]);
    assert_eq!(order(Priorities::None), [0, 1, 2]);
}

/// Deaths when A gives back its only delivery to a queue that holds as much as it may, and what A
/// gets then.
fn given_back_to_a_full_queue(priorities: Priorities) -> (Vec<(u64, Death)>, Vec<u64>) {
    let settings = QueueSettings {
        max_length: Some(1),
        priorities,
        ..dead_lettering()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.enqueue(arrival(BodyRef(0), 10));
    queue.enqueue(arrival(BodyRef(1), 10));
    assert_eq!(assigned(&mut queue).len(), 1);
    queue.end_dispatch();
    let mut departed = Departed::default();
    queue.begin_return();
    let count = queue.requeue_all(A, NOW, &mut departed);
    queue.drop_returned(count, &mut departed);
    queue.check_invariants();
    (deaths(&departed), indexes(&assigned(&mut queue)))
}

#[test]
fn what_is_given_back_to_a_full_classic_queue_dies_before_it_is_handed_out() {
    assert_eq!(
        given_back_to_a_full_queue(Priorities::None),
        (vec![(0, Death::MaxLength)], vec![1])
    );
    assert_eq!(
        given_back_to_a_full_queue(Priorities::TwoToOne),
        (vec![], vec![0])
    );
}

#[test]
fn a_message_on_its_way_to_a_consumer_does_not_die_of_a_return() {
    let settings = QueueSettings {
        max_length: Some(1),
        ..dead_lettering()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    queue.add_consumer(consumer(A, 0)).unwrap();
    queue.enqueue(arrival(BodyRef(0), 10));
    assert_eq!(assigned(&mut queue).len(), 1);
    queue.end_dispatch();
    queue.enqueue(arrival(BodyRef(1), 10));
    let mut departed = Departed::default();
    queue.begin_return();
    let count = queue.requeue_all(A, NOW, &mut departed);
    queue.drop_returned(count, &mut departed);
    assert!(departed.is_empty());
    assert_eq!(indexes(&assigned(&mut queue)), [0, 1]);
}

#[test]
fn a_full_queue_refuses_what_consumers_would_not_take_at_once() {
    let settings = QueueSettings {
        max_length: Some(1),
        max_length_bytes: Some(12),
        overflow: Overflow::RejectPublish,
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    assert!(queue.is_full_for(13), "it would not fit alone");
    assert!(!queue.is_full_for(12));
    queue.enqueue(arrival(BodyRef(0), 10));
    assert!(queue.is_full_for(0));
    queue.add_consumer(consumer(A, 1)).unwrap();
    assert!(!queue.is_full_for(12), "the first one is as good as gone");
    queue.enqueue(arrival(BodyRef(0), 10));
    assert!(queue.is_full_for(0), "one is all it takes");
    queue.set_consumer_blocked(A, true);
    assert!(queue.is_full_for(0));
    let mut departed = Departed::default();
    assert_eq!(
        queue.drop_head(usize::MAX, &mut departed),
        0,
        "nothing is dropped"
    );
}

#[test]
fn the_dying_are_live_until_they_are_buried() {
    let mut queue = Queue::new(Durability::Durable, &dead_lettering());
    queue.enqueue(arrival(BodyRef(7), 10));
    queue.enqueue(arrival(BodyRef(8), 10));
    queue.reserve(MessageIndex(9));
    queue.add_consumer(consumer(A, 0)).unwrap();
    assigned(&mut queue);
    let mut departed = Departed::default();
    queue
        .settle(
            A,
            (MessageIndex(0), 1),
            Outcome::Discard,
            NOW,
            &mut departed,
        )
        .unwrap();
    assert_eq!(deaths(&departed), [(0, Death::Rejected)]);
    let counts = (
        queue.ready_count(),
        queue.unacked_count(),
        queue.dying_count(),
    );
    assert_eq!(counts, (0, 1, 1));
    let again = queue.settle(A, (MessageIndex(0), 1), Outcome::Ack, NOW, &mut departed);
    assert!(again.is_err(), "nobody holds it any more");
    assert!(queue.relocate(MessageIndex(0), BodyRef(7), BodyRef(9)));
    let moved = (MessageIndex(0), BodyRef(9), 10);
    assert_eq!(queue.message(MessageIndex(0)), Some(moved));
    assert_eq!(queue.purge(&mut departed.released), 0);
    assert_eq!(queue.live_from(MessageIndex(0)).count(), 2);

    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    let mut restored = Queue::decode_snapshot(&bytes, &dead_lettering()).unwrap();
    restored.restore_message(MessageIndex(0), arrival(BodyRef(9), 10));
    restored.restore_message(MessageIndex(1), arrival(BodyRef(8), 10));
    assert_eq!(restored.finish_recovery(), 0);
    assert_eq!(restored.ready_count(), 2, "its dead letter may be lost");

    assert_eq!(queue.bury(MessageIndex(0)), moved);
    assert_eq!((queue.dying_count(), queue.message_count()), (0, 1));
    queue.check_invariants();
}

#[test]
fn what_is_given_back_too_often_dies() {
    let settings = QueueSettings {
        delivery_limit: Some(2),
        counts_deliveries: true,
        ..dead_lettering()
    };
    let mut queue = Queue::new(Durability::Durable, &settings);
    queue.enqueue(arrival(BodyRef(7), 10));
    queue.enqueue(arrival(BodyRef(8), 10));
    queue.reserve(MessageIndex(9));
    let mut departed = Departed::default();
    for returns in 0..3 {
        assert!(departed.is_empty());
        let Got::Message(got) = queue.get(A, false) else {
            panic!("the first message is delivered three times")
        };
        assert_eq!((got.index.0, got.delivery_count), (0, returns));
        queue
            .settle(A, (got.index, 1), Outcome::Requeue, NOW, &mut departed)
            .unwrap();
    }
    assert_eq!(deaths(&departed), [(0, Death::DeliveryLimit)]);
    assert_eq!(queue.take_returned(), [(MessageIndex(0), 2)]);
    assert_eq!(queue.take_returned(), [], "each once");
    queue.get(A, false);
    queue.requeue_all(A, NOW, &mut departed);
    let Got::Message(got) = queue.get(A, true) else {
        panic!("the second message is left")
    };
    assert_eq!((got.index.0, got.delivery_count), (1, 1));
    assert_eq!(queue.take_returned(), [], "it is gone");
    queue.check_invariants();
}

#[test]
fn counts_survive_in_any_order() {
    let settings = QueueSettings {
        counts_deliveries: true,
        ..QueueSettings::default()
    };
    let mut queue = Queue::recovering(&settings);
    let counts = |count| QueueCommand::Returned {
        counts: vec![(MessageIndex(0), count), (MessageIndex(1), 1)],
    };
    let mut garbage = Vec::new();
    queue.apply_recovered(&counts(3), &mut garbage);
    queue.restore_message(MessageIndex(0), arrival(BodyRef(7), 10));
    queue.apply_recovered(&counts(2), &mut garbage);
    queue.finish_recovery();
    assert_eq!(queue.next_index(), MessageIndex(2), "it was there");
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    assert_eq!(bytes, [3, 2, 0, 1, 0, 1, 1, 0, 3, 0]);
    for size in 0..bytes.len() {
        assert!(Queue::decode_snapshot(&bytes[..size], &settings).is_err());
    }
    bytes[0] = 1;
    let old = Queue::decode_snapshot(&bytes, &settings);
    assert!(old.is_err(), "another version's layout is refused");
    let command = counts(300);
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    assert_eq!(bytes, [2, 4, 2, 0, 172, 2, 0, 1]);
    assert_eq!(QueueCommand::decode(&bytes), Ok(command));
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let mut queue = prioritized(Priorities::Strict(5), &[0, 3, 9, 3, 5, 0]);
    let upcoming: Vec<u64> = queue.upcoming().map(|message| message.0.0).collect();
    assert_eq!(upcoming, [2, 4, 1, 3, 0, 5], "9 counts as 5");
    queue.add_consumer(consumer(A, 0)).unwrap();
    assert_eq!(indexes(&assigned(&mut queue)), upcoming);
    queue.requeue_all(A, NOW, &mut Departed::default());
    assert_eq!(indexes(&assigned(&mut queue)), upcoming, "places are kept");
    queue.check_invariants();
}

#[test]
fn two_high_ones_go_for_a_normal_one_and_returned_ones_before_both() {
    let mut queue = prioritized(Priorities::TwoToOne, &[0, 4, 0, 5, 9, 5, 7, 0]);
    queue.add_consumer(consumer(A, 0)).unwrap();
    let order = indexes(&assigned(&mut queue));
    assert_eq!(order, [3, 4, 0, 5, 6, 1, 2, 7]);
    let mut departed = Departed::default();
    queue
        .settle(
            A,
            (MessageIndex(7), 1),
            Outcome::Requeue,
            NOW,
            &mut departed,
        )
        .unwrap();
    queue.enqueue(Arrival {
        priority: 9,
        ..arrival(BodyRef(0), 10)
    });
    assert_eq!(indexes(&assigned(&mut queue)), [7, 8]);
    queue.check_invariants();
}

#[test]
fn a_reservation_covers_the_next_message_by_priority() {
    let settings = QueueSettings {
        priorities: Priorities::Strict(1),
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Durable, &settings);
    for _ in 0..5_000 {
        queue.enqueue(arrival(BodyRef(0), 10));
    }
    queue.enqueue(Arrival {
        priority: 1,
        ..arrival(BodyRef(0), 10)
    });
    queue.add_consumer(consumer(A, 1)).unwrap();
    let upto = queue.needs_reservation().unwrap();
    assert_eq!(upto, MessageIndex(5_000 + watermark::WINDOW_MIN));
    assert!(queue.assign_next().is_none());
    queue.reserve(upto);
    assert_eq!(queue.assign_next().unwrap().index, MessageIndex(5_000));
    assert_eq!(queue.release_reservation(), MessageIndex(5_001));
}

#[test]
fn one_consumer_is_active_until_it_goes() {
    let settings = QueueSettings {
        single_active_consumer: true,
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    for n in 0..4 {
        queue.enqueue(arrival(BodyRef(n), 10));
    }
    let exclusive = ConsumerSpec {
        exclusive: true,
        ..consumer(A, 1)
    };
    assert_eq!(queue.add_consumer(exclusive), Err(Refused::ExclusiveUse));
    assert_eq!(queue.active_consumer(), None);
    queue.add_consumer(consumer(A, 1)).unwrap();
    queue.add_consumer(consumer(B, 0)).unwrap();
    assert_eq!(queue.active_consumer(), Some(A));
    assert_eq!(assigned(&mut queue), [(1, 0, false)], "B waits");
    queue.remove_consumer(A);
    assert_eq!(queue.active_consumer(), Some(B));
    assert_eq!(indexes(&assigned(&mut queue)), [1, 2, 3]);
    queue.requeue_all(A, NOW, &mut Departed::default());
    assert_eq!(assigned(&mut queue), [(2, 0, true)]);
    queue.check_invariants();
}

#[test]
fn a_higher_consumer_displaces_an_active_one_that_has_settled() {
    let settings = QueueSettings {
        single_active_consumer: true,
        priorities: Priorities::TwoToOne,
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    for n in 0..4 {
        queue.enqueue(arrival(BodyRef(n), 10));
    }
    queue.add_consumer(consumer(A, 2)).unwrap();
    assert_eq!(queue.assign_next().unwrap().consumer, A);
    let high = ConsumerSpec {
        priority: 1,
        ..consumer(B, 1)
    };
    queue.add_consumer(high).unwrap();
    assert_eq!(queue.active_consumer(), Some(A));
    assert!(queue.assign_next().is_none(), "it makes way");
    let mut departed = Departed::default();
    queue
        .settle(A, (MessageIndex(0), 1), Outcome::Ack, NOW, &mut departed)
        .unwrap();
    assert_eq!(queue.active_consumer(), Some(B));
    assert_eq!(assigned(&mut queue), [(2, 1, false)]);
    queue.check_invariants();
}

/// A limit that a policy lowers can make very many too many at once.
#[test]
fn no_more_are_dropped_at_once_than_asked_for() {
    let settings = QueueSettings {
        max_length: Some(3),
        ..QueueSettings::default()
    };
    let mut queue = Queue::new(Durability::Transient, &settings);
    for n in 0..10 {
        queue.enqueue(arrival(BodyRef(n), 10));
    }
    let mut departed = Departed::default();
    assert_eq!(queue.drop_head(5, &mut departed), 5);
    assert!(queue.is_over_limit());
    assert_eq!(queue.drop_head(5, &mut departed), 2);
    assert!(!queue.is_over_limit());
    assert_eq!(queue.ready_count(), 3);
    queue.check_invariants();
}
