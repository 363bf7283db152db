//! Transactions.

use super::*;
use crate::history::Commit;

fn publish_in_tx(id: u64) -> Vec<Fact> {
    let mut facts = publish(id);
    if let Published { seq, in_tx, .. } = &mut facts[0] {
        (*seq, *in_tx) = (None, true);
    }
    facts
}

fn committing(ids: &[u64]) -> Vec<Fact> {
    vec![Committing {
        commit: Commit(1),
        messages: ids.iter().copied().map(MessageId).collect(),
    }]
}

fn committed() -> Vec<Fact> {
    vec![Committed { commit: Commit(1) }]
}

fn take(id: u64) -> Vec<Fact> {
    [deliver(id, CONSUMER, id, false), ack(id)].concat()
}

#[test]
fn what_was_committed_is_there() {
    let published = || [publish_in_tx(1), publish_in_tx(2), committing(&[1, 2])].concat();
    let whole = vec![published(), committed(), take(1), take(2)];
    check_history(whole, &[]);
    check_history(vec![published(), committed(), take(2)], &[Kind::Lost]);
    check_history(vec![published()], &[]);
}

#[test]
fn a_crash_cuts_a_commit_off_and_takes_no_piece_out_of_it() {
    let published = || [publish_in_tx(1), publish_in_tx(2), committing(&[1, 2])].concat();
    let crash = || vec![Crash];
    check_history(vec![published(), crash(), take(1)], &[]);
    check_history(vec![published(), crash(), take(2)], &[Kind::Lost]);
    // Handed out before it was on disk: both went with the crash.
    check_history(vec![published(), take(2), crash()], &[]);
}

#[test]
fn planted_effect_of_what_was_not_committed() {
    check_history(vec![publish_in_tx(1), take(1)], &[Kind::Phantom]);
    let early = vec![publish_in_tx(1), take(1), committing(&[1]), committed()];
    check_history(early, &[Kind::Phantom]);
}
