//! Promises that speak of time.

use super::*;
use crate::schedule::MILLIS;

/// A history over one queue, of facts and when they happened, in milliseconds.
fn timed(facts: Vec<(u64, Vec<Fact>)>) -> History {
    let mut timed = history(vec![]);
    for (millis, facts) in facts {
        timed.now_nanos = millis * MILLIS;
        for fact in facts {
            timed.push(fact);
        }
    }
    timed
}

/// A publish that its exchange delays, or that lives for so long, in milliseconds.
fn publish_with(id: u64, delay: Option<u64>, ttl: Option<u64>) -> Vec<Fact> {
    let mut facts = publish(id);
    if let Published {
        delay_millis,
        ttl_millis,
        ..
    } = &mut facts[0]
    {
        (*delay_millis, *ttl_millis) = (delay, ttl);
    }
    facts
}

fn delayed(id: u64, millis: u64) -> Vec<Fact> {
    [publish_with(id, Some(millis), None), confirm(id)].concat()
}

/// A delivery from a place, and its ack.
fn take(id: u64, place: u64) -> Vec<Fact> {
    [deliver_at(id, CONSUMER, id, false, place), ack(id)].concat()
}

#[test]
fn a_delayed_message_comes_when_its_delay_is_over() {
    check_found(&timed(vec![(10, delayed(1, 50)), (60, take(1, 0))]), &[]);
    check_found(
        &timed(vec![(10, delayed(1, 50)), (58, take(1, 0))]),
        &[Kind::Early],
    );
}

#[test]
fn delayed_messages_come_in_the_order_in_which_they_are_due() {
    let published = || [(10, delayed(1, 500)), (20, delayed(2, 50))];
    let in_order = published().into_iter();
    let in_order = in_order.chain([(900, take(2, 0)), (900, take(1, 1))]);
    check_found(&timed(in_order.collect()), &[]);
    // By place: that a consumer got the first one sooner says nothing.
    let swapped = published().into_iter();
    let swapped = swapped.chain([(900, take(1, 0)), (900, take(2, 1))]);
    check_found(&timed(swapped.collect()), &[Kind::Reordered]);
    // A crash may have brought one of them to its queue once more.
    let apart = published().into_iter();
    let apart = apart.chain([(900, take(1, 7)), (901, vec![Crash]), (902, take(2, 8))]);
    check_found(&timed(apart.collect()), &[]);
}

#[test]
fn a_message_is_not_delivered_when_its_time_is_up() {
    let lives = || [publish_with(1, None, Some(50)), confirm(1)].concat();
    check_found(&timed(vec![(10, lives()), (60, take(1, 0))]), &[]);
    check_found(
        &timed(vec![(10, lives()), (62, take(1, 0))]),
        &[Kind::Overdue],
    );
    let mut in_queue = timed(vec![
        (10, [publish(1), confirm(1)].concat()),
        (90, take(1, 0)),
    ]);
    check_found(&in_queue, &[]);
    in_queue.queues[QUEUE.0].ttl_millis = Some(70);
    check_found(&in_queue, &[Kind::Overdue]);
}
