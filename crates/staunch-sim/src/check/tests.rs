//! The checker's own mutation tests: legal histories pass, planted violations are flagged.

use super::*;
use crate::history::{
    ChannelKey, Emission, MessageId, QueueFacts, QueueRef, Removal, RemovalKind, Settlement, Stamp,
};
use crate::history::{Fact, Fact::*};

mod reads;
mod times;
mod transactions;

const PUBLISHER: ChannelKey = ChannelKey(1);
const CONSUMER: ChannelKey = ChannelKey(2);
const OTHER: ChannelKey = ChannelKey(3);
const QUEUE: QueueRef = QueueRef(0);
const GRAVE: QueueRef = QueueRef(1);
/// Handed out when it is emitted.
const AT_ONCE: Stamp = Stamp(usize::MAX);

/// A history over one durable, lossless queue, without the drain.
fn history(facts: Vec<Vec<Fact>>) -> History {
    let queue = QueueFacts {
        name: "q".into(),
        durable: true,
        lossless: true,
        ordered: true,
        dead_letters_to: None,
        gets_dead_letters: false,
        is_partitioned: false,
        is_ruled: false,
        refuses: false,
        is_replicated: false,
        ttl_millis: None,
    };
    let mut history = History::new(vec![queue]);
    for mut fact in facts.into_iter().flatten() {
        if let Emitted {
            handed_out, known, ..
        } = &mut fact
            && *handed_out == AT_ONCE
        {
            (*handed_out, *known) = (history.next_stamp(), history.next_stamp());
        }
        history.push(fact);
    }
    history.push(Drained { queue: QUEUE });
    history
}

/// A history over a queue whose dead letters go to a second one.
fn mortal_history(facts: Vec<Vec<Fact>>) -> History {
    let mut history = history(facts);
    let mut grave = history.queues[QUEUE.0].clone();
    grave.name = "grave".into();
    grave.gets_dead_letters = true;
    grave.ordered = false;
    history.queues.push(grave);
    history.queues[QUEUE.0].dead_letters_to = Some(GRAVE);
    history.push(Drained { queue: GRAVE });
    history
}

fn publish(id: u64) -> Vec<Fact> {
    vec![
        Published {
            id: MessageId(id),
            channel: PUBLISHER,
            seq: Some(id),
            persistent: true,
            mandatory: false,
            ttl_millis: None,
            delay_millis: None,
            in_tx: false,
            key_hash: 0,
        },
        Routed {
            id: MessageId(id),
            must: vec![QUEUE],
            may: vec![],
        },
    ]
}

fn confirm(id: u64) -> Vec<Fact> {
    vec![
        ConfirmSent {
            id: MessageId(id),
            synced: true,
        },
        Confirmed {
            channel: PUBLISHER,
            tag: id,
            multiple: false,
        },
    ]
}

fn deliver(emission: u64, channel: ChannelKey, id: u64, redelivered: bool) -> Vec<Fact> {
    deliver_at(emission, channel, id, redelivered, id)
}

fn deliver_at(
    emission: u64,
    channel: ChannelKey,
    id: u64,
    redelivered: bool,
    index: u64,
) -> Vec<Fact> {
    let (emission, id, queue) = (Emission(emission), MessageId(id), QUEUE);
    vec![
        Emitted {
            emission,
            node: 0,
            queue_id: 9,
            index,
            id,
            redelivered,
            handed_out: AT_ONCE,
            known: AT_ONCE,
        },
        Received {
            emission,
            channel,
            queue,
            id,
            redelivered,
            intact: true,
            asked: Stamp(0),
        },
    ]
}

fn settle(emission: u64, settlement: Settlement) -> Vec<Fact> {
    vec![Settled {
        emission: Emission(emission),
        settlement,
    }]
}

fn ack(emission: u64) -> Vec<Fact> {
    settle(emission, Settlement::Ack)
}

fn remove(kind: RemovalKind) -> Vec<Fact> {
    vec![
        Removing {
            removal: Removal(1),
            queue: QUEUE,
            kind,
        },
        RemovalOver {
            removal: Removal(1),
            done: true,
        },
    ]
}

/// A delivery from the queue of dead letters.
fn deliver_dead(emission: u64, id: u64, index: u64) -> Vec<Fact> {
    let mut facts = deliver_at(emission, CONSUMER, id, false, index);
    for fact in &mut facts {
        match fact {
            Emitted { queue_id, .. } => *queue_id = 10,
            Received { queue, .. } => *queue = GRAVE,
            _ => {}
        }
    }
    facts
}

/// A publish to the mortal queue, which may also come to the other one.
fn publish_mortal(id: u64) -> Vec<Fact> {
    let mut facts = publish(id);
    if let Some(Routed { may, .. }) = facts.last_mut() {
        may.push(GRAVE);
    }
    facts
}

#[track_caller]
fn check_mortal(facts: Vec<Vec<Fact>>, expected: &[Kind]) {
    check_found(&mortal_history(facts), expected);
}

#[track_caller]
fn check_history(facts: Vec<Vec<Fact>>, expected: &[Kind]) {
    check_found(&history(facts), expected);
}

#[track_caller]
fn check_found(history: &History, expected: &[Kind]) {
    let found = check(history);
    let kinds: Vec<Kind> = found.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, expected, "{found:?}");
}

#[test]
fn legal_confirmed_delivered_settled() {
    check_history(
        vec![publish(1), publish(2), confirm(1), confirm(2)]
            .into_iter()
            .chain([deliver(1, CONSUMER, 1, false), ack(1)])
            .chain([deliver(2, CONSUMER, 2, false), ack(2)])
            .collect(),
        &[],
    );
}

#[test]
fn legal_open_publish_is_lost_or_not() {
    check_history(vec![publish(1), vec![Crash]], &[]);
    check_history(
        vec![
            publish(1),
            vec![Crash],
            deliver(1, CONSUMER, 1, false),
            ack(1),
        ],
        &[],
    );
}

#[test]
fn legal_ack_without_barrier_comes_back_flagged() {
    check_history(
        vec![
            publish(1),
            confirm(1),
            deliver(1, CONSUMER, 1, false),
            ack(1),
            vec![Crash],
            deliver(2, OTHER, 1, true),
            ack(2),
        ],
        &[],
    );
}

#[test]
fn legal_requeue_overtaken_by_successor() {
    check_history(
        vec![
            publish(1),
            publish(2),
            deliver(1, CONSUMER, 1, false),
            deliver(2, CONSUMER, 2, false),
            settle(1, Settlement::Requeue),
            ack(2),
            deliver(3, CONSUMER, 1, true),
            ack(3),
        ],
        &[],
    );
}

#[test]
fn legal_loss_on_a_damaged_disk_but_no_wrong_bytes() {
    check_history(vec![publish(1), confirm(1), vec![Damaged]], &[]);
    let mut delivery = deliver(1, CONSUMER, 1, false);
    if let Some(Received { intact, .. }) = delivery.last_mut() {
        *intact = false;
    }
    check_history(vec![publish(1), vec![Damaged], delivery], &[Kind::Corrupt]);
}

#[test]
fn legal_purge_delete_and_reused_place() {
    check_history(
        vec![publish(1), confirm(1), remove(RemovalKind::Purge)],
        &[],
    );
    check_history(
        vec![publish(1), confirm(1), remove(RemovalKind::Delete)],
        &[],
    );
    let held = vec![
        publish(1),
        confirm(1),
        deliver(1, CONSUMER, 1, false),
        remove(RemovalKind::Purge),
        deliver(2, OTHER, 1, true),
    ];
    check_history(held, &[]);
    for (redelivered, expected) in [(true, &[][..]), (false, &[Kind::Resurrected])] {
        let purged = [publish(1), confirm(1), remove(RemovalKind::Purge)];
        let back = [deliver(1, CONSUMER, 1, redelivered), ack(1)];
        let mut on_its_way = history(purged.into_iter().chain(back).collect());
        on_its_way.is_cluster = true;
        check_found(&on_its_way, expected);
    }
    let reused = vec![
        publish(1),
        deliver_at(1, CONSUMER, 1, false, 5),
        vec![Crash],
        publish(2),
        deliver_at(2, OTHER, 2, false, 5),
    ];
    check_history(reused, &[]);
}

#[test]
fn legal_dead_letter_that_comes_twice_after_a_crash() {
    check_mortal(
        vec![
            publish_mortal(1),
            confirm(1),
            deliver(1, CONSUMER, 1, false),
            settle(1, Settlement::Discard),
            deliver_dead(2, 1, 0),
            ack(2),
            vec![Crash],
            deliver_dead(3, 1, 1),
            ack(3),
        ],
        &[],
    );
}

#[test]
fn planted_loss_of_a_dead_letter() {
    // Rejected, and in neither queue at the end.
    check_mortal(
        vec![
            publish_mortal(1),
            confirm(1),
            deliver(1, CONSUMER, 1, false),
            settle(1, Settlement::Discard),
        ],
        &[Kind::Lost],
    );
}

#[test]
fn planted_unflagged_duplicate_of_a_dead_letter() {
    check_mortal(
        vec![
            publish_mortal(1),
            confirm(1),
            deliver_dead(1, 1, 0),
            deliver_dead(2, 1, 0),
            ack(2),
        ],
        &[Kind::DupUnflagged],
    );
}

#[test]
fn planted_lost() {
    check_history(vec![publish(1), confirm(1)], &[Kind::Lost]);
    let requeued = settle(1, Settlement::Requeue);
    check_history(
        vec![
            publish(1),
            confirm(1),
            deliver(1, CONSUMER, 1, false),
            requeued,
        ],
        &[Kind::Lost],
    );
    let early = remove(RemovalKind::Purge);
    check_history(vec![early, publish(1), confirm(1)], &[Kind::Lost]);
}

/// What another node had handed out at a time, knowing all that was defined before.
fn from_elsewhere(at: usize, mut facts: Vec<Fact>) -> Vec<Fact> {
    for fact in &mut facts {
        if let Emitted {
            handed_out, known, ..
        } = fact
        {
            (*handed_out, *known) = (Stamp(at), Stamp(at));
        }
    }
    facts
}

#[test]
fn legal_what_was_long_on_its_way_from_another_node() {
    for kind in [RemovalKind::Purge, RemovalKind::Delete] {
        let removed = |late: Vec<Fact>| vec![publish(1), confirm(1), remove(kind), late];
        let late = from_elsewhere(4, deliver(1, CONSUMER, 1, false));
        check_history(removed(late), &[]);
        let again = from_elsewhere(100, deliver(1, CONSUMER, 1, false));
        check_history(removed(again), &[Kind::Resurrected]);
    }
    let twice = |at: usize| {
        let first = from_elsewhere(at, deliver(2, CONSUMER, 1, false));
        vec![publish(1), deliver(1, OTHER, 1, true), first, ack(2)]
    };
    check_history(twice(1), &[]);
    check_history(twice(100), &[Kind::DupUnflagged]);
    let settled = |at: usize| {
        let barrier = vec![Barrier { channel: CONSUMER }];
        let late = from_elsewhere(at, deliver(2, OTHER, 1, true));
        let first = deliver(1, CONSUMER, 1, false);
        vec![publish(1), first, ack(1), barrier, late]
    };
    check_history(settled(3), &[]);
    check_history(settled(100), &[Kind::Resurrected]);
}

#[test]
fn planted_phantom() {
    check_history(vec![deliver(1, CONSUMER, 7, false)], &[Kind::Phantom]);
    let unrouted = publish(1).into_iter().take(1).collect();
    check_history(
        vec![unrouted, deliver(1, CONSUMER, 1, false)],
        &[Kind::Phantom],
    );
}

#[test]
fn planted_corrupt() {
    let mut delivery = deliver(1, CONSUMER, 1, false);
    if let Some(Received { intact, .. }) = delivery.last_mut() {
        *intact = false;
    }
    check_history(vec![publish(1), delivery], &[Kind::Corrupt]);
    let mut delivery = deliver(1, CONSUMER, 1, true);
    if let Some(Received { redelivered, .. }) = delivery.last_mut() {
        *redelivered = false;
    }
    check_history(vec![publish(1), delivery], &[Kind::Corrupt]);
}

#[test]
fn planted_unflagged_duplicate() {
    let twice = vec![
        publish(1),
        deliver(1, CONSUMER, 1, false),
        vec![Crash],
        deliver(2, OTHER, 1, false),
    ];
    check_history(twice, &[Kind::DupUnflagged]);
}

#[test]
fn planted_resurrection() {
    let settled = vec![
        publish(1),
        deliver(1, CONSUMER, 1, false),
        ack(1),
        vec![Barrier { channel: CONSUMER }],
        vec![Crash],
        deliver(2, OTHER, 1, true),
    ];
    check_history(settled, &[Kind::Resurrected]);
    for kind in [RemovalKind::Purge, RemovalKind::Delete] {
        let removed = vec![
            publish(1),
            confirm(1),
            remove(kind),
            deliver(1, OTHER, 1, false),
        ];
        check_history(removed, &[Kind::Resurrected]);
    }
}

#[test]
fn planted_double_enqueue() {
    let two_places = vec![
        publish(1),
        deliver_at(1, CONSUMER, 1, false, 5),
        deliver_at(2, CONSUMER, 1, true, 6),
    ];
    check_history(two_places, &[Kind::DoubleEnqueue]);
    let one_place = vec![
        publish(1),
        publish(2),
        deliver_at(1, CONSUMER, 1, false, 5),
        deliver_at(2, CONSUMER, 2, false, 5),
    ];
    check_history(one_place, &[Kind::DoubleEnqueue]);
}

#[test]
fn planted_reorder() {
    let swapped = vec![
        publish(1),
        publish(2),
        deliver(1, CONSUMER, 2, false),
        deliver(2, CONSUMER, 1, false),
    ];
    check_history(swapped, &[Kind::Reordered]);
}

#[test]
fn planted_wrong_confirms() {
    let settled = || [deliver(1, CONSUMER, 1, false), ack(1)].concat();
    let unknown = vec![publish(1), confirm(1), confirm(2), settled()];
    check_history(unknown, &[Kind::ConfirmWrong]);
    let repeated = vec![publish(1), confirm(1), confirm(1), settled()];
    check_history(repeated, &[Kind::ConfirmWrong]);
    let early = vec![
        publish(1),
        vec![ConfirmSent {
            id: MessageId(1),
            synced: false,
        }],
        settled(),
    ];
    check_history(early, &[Kind::ConfirmWrong]);
}

#[test]
fn planted_missing_and_wrong_return() {
    let unroutable = vec![
        Published {
            id: MessageId(1),
            channel: PUBLISHER,
            seq: Some(1),
            persistent: true,
            mandatory: true,
            ttl_millis: None,
            delay_millis: None,
            in_tx: false,
            key_hash: 0,
        },
        Routed {
            id: MessageId(1),
            must: vec![],
            may: vec![],
        },
    ];
    check_history(vec![unroutable.clone(), confirm(1)], &[Kind::ConfirmWrong]);
    let back = vec![Returned { id: MessageId(1) }];
    check_history(vec![unroutable.clone(), back.clone(), confirm(1)], &[]);
    check_history(vec![unroutable, confirm(1), back], &[Kind::ConfirmWrong]);
}

#[test]
fn planted_stuck_and_wrong_definition() {
    check_history(vec![vec![Stuck { what: "x".into() }]], &[Kind::Stuck]);
    let wrong = vec![DefinitionWrong { what: "x".into() }];
    check_history(vec![wrong], &[Kind::DefinitionWrong]);
}

#[test]
fn a_message_may_expire_only_on_its_way_to_its_grave() {
    let lost = || {
        let mut facts = publish(1);
        let Published { ttl_millis, .. } = &mut facts[0] else {
            panic!("a publish begins with itself")
        };
        *ttl_millis = Some(0);
        vec![facts, confirm(1)]
    };
    check_history(lost(), &[]);
    check_mortal(lost(), &[Kind::Lost]);
}

#[test]
fn planted_fresh_dead_letter_beyond_the_ways_to_its_grave() {
    // It was routed to one queue only: one fresh dead letter, in whatever place.
    check_mortal(
        vec![
            publish(1),
            confirm(1),
            deliver_dead(1, 1, 0),
            vec![Crash],
            deliver_dead(2, 1, 7),
            ack(2),
        ],
        &[Kind::DupUnflagged],
    );
}

#[test]
fn planted_fresh_dead_letter_after_a_crash() {
    // It may have come to the grave from its queue and by itself: twice fresh, never three times,
    // in whatever places.
    check_mortal(
        vec![
            publish_mortal(1),
            confirm(1),
            deliver_dead(1, 1, 0),
            vec![Crash],
            deliver_dead(2, 1, 7),
            vec![Crash],
            deliver_dead(3, 1, 9),
            ack(3),
        ],
        &[Kind::DupUnflagged],
    );
}
