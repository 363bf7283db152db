//! What is said of how many messages are ready.

use super::*;

/// Places of facts in [`read`].
const BEFORE_CONFIRM: usize = 1;
const AFTER_CONFIRM: usize = 4;
const ANSWERED: usize = 4;

/// A confirmed message, a look at the queue, and a delivery that somebody asked for at `taken`.
fn read(asked: usize, ready: u64, redelivered: bool, taken: usize) -> Vec<Vec<Fact>> {
    let mut delivery = deliver(1, CONSUMER, 1, redelivered);
    if let Some(Received { asked, .. }) = delivery.last_mut() {
        *asked = Stamp(taken);
    }
    let counted = Counted {
        queue: QUEUE,
        asked: Stamp(asked),
        ready,
    };
    vec![publish(1), confirm(1), vec![counted], delivery, ack(1)]
}

#[test]
fn what_is_ready_is_counted() {
    let after = ANSWERED + 1;
    check_history(read(AFTER_CONFIRM, 1, false, after), &[]);
    check_history(read(AFTER_CONFIRM, 0, false, after), &[Kind::Hidden]);
}

#[test]
fn legal_count_without_what_may_have_been_on_its_way() {
    let after = ANSWERED + 1;
    // It was not confirmed when the question was asked.
    check_history(read(BEFORE_CONFIRM, 0, false, after), &[]);
    // A consumer was there that may have been sent it.
    check_history(read(AFTER_CONFIRM, 0, false, ANSWERED), &[]);
    // Somebody was sent it before.
    check_history(read(AFTER_CONFIRM, 0, true, after), &[]);
    // Its time may have been up for a while, by some node's clock.
    let mut history = read(AFTER_CONFIRM, 0, false, after);
    if let Some(Published { ttl_millis, .. }) = history[0].first_mut() {
        *ttl_millis = Some(5000);
    }
    check_history(history, &[]);
}

#[test]
fn legal_count_after_a_purge_that_a_crash_has_undone() {
    let mut history = read(AFTER_CONFIRM, 0, false, ANSWERED + 2);
    let (mut removal, crash) = (remove(RemovalKind::Purge), vec![Crash]);
    removal.pop();
    history.insert(2, removal);
    history.insert(4, crash);
    check_history(history, &[]);
}
