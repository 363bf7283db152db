//! A confirmed or committed message leaves a queue only by a settlement, a purge or a deletion (C4,
//! T1).

use std::collections::BTreeSet;

use crate::{
    check::{
        Kind, Violation, flag,
        index::{Index, Message},
        rules::RuleBook,
        tx,
    },
    history::{Fact, History, MessageId, QueueRef},
};

/// Flags `Lost`, of queues that were drained at the end.
///
/// The drain settles what it receives, so a message that was in the queue has a settlement, there
/// or where its dead letter ended.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let drained: BTreeSet<QueueRef> = history
        .iter()
        .filter_map(|(_, fact)| {
            if let Fact::Drained { queue } = fact {
                Some(*queue)
            } else {
                None
            }
        })
        .collect();
    let book = RuleBook::read(history);
    let settled: BTreeSet<(MessageId, QueueRef)> = index
        .deliveries
        .values()
        .filter(|delivery| delivery.settled.is_some())
        .filter_map(|delivery| {
            let (_, queue) = delivery.received?;
            let facts = &history.queues[queue.0];
            let rejected = delivery.settled.filter(|_| delivery.is_rejected);
            let goes_on = facts.dead_letters_to.is_some()
                && rejected.is_some_and(|at| !facts.is_ruled || book.makes_dead_letters_from(at));
            (!goes_on).then_some((delivery.id, queue))
        })
        .collect();
    let beginnings = tx::beginnings(history, index);
    for (id, message) in &index.messages {
        let is_confirmed = message.confirmed.is_some();
        if !is_confirmed && !beginnings.contains(id) {
            continue;
        }
        for queue in message.must {
            // A commit is not answered either when a queue has refused a part of it.
            if !is_confirmed && history.queues[queue.0].refuses {
                continue;
            }
            let mut line = history.line_of_death(*queue);
            let there = line.any(|at| settled.contains(&(*id, at)) || !drained.contains(&at));
            if !there && !may_be_gone(history, index, &book, message, *queue) {
                let name = &history.queues[queue.0].name;
                let text = format_args!("message {} was confirmed but is not in '{name}'", id.0);
                flag(out, Kind::Lost, text);
            }
        }
    }
}

fn may_be_gone(
    history: &History,
    index: &Index<'_>,
    book: &RuleBook,
    message: &Message<'_>,
    queue: QueueRef,
) -> bool {
    let facts = &history.queues[queue.0];
    let volatile = !(facts.is_replicated || facts.durable && message.persistent);
    let may_vanish = facts.dead_letters_to.is_none() || facts.is_ruled;
    let expired = message.ttl_millis.is_some() && may_vanish;
    let is_dropped = facts.is_ruled && book.may_have_dropped(message.sent, message.confirmed);
    let removed = || {
        index.removals.values().any(|removal| {
            removal.queue == queue && removal.over.is_none_or(|over| over > message.sent)
        })
    };
    // What is due when its queue is full goes nowhere, as with RabbitMQ's plugin.
    let no_room = facts.refuses && message.delay_millis.is_some();
    !facts.lossless
        || expired
        || is_dropped
        || no_room
        || (volatile && index.crashed_after(message.sent))
        || removed()
}
