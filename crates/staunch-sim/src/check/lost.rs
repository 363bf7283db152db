//! A confirmed or committed message leaves a queue only by a settlement, a purge or a deletion (C4,
//! T1).

use std::collections::BTreeSet;

use crate::{
    check::{
        Kind, Violation, flag,
        index::{Index, Message},
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
    let settled: BTreeSet<(MessageId, QueueRef)> = index
        .deliveries
        .values()
        .filter(|delivery| delivery.settled.is_some())
        .filter_map(|delivery| {
            let (_, queue) = delivery.received?;
            let goes_on = delivery.is_rejected && history.queues[queue.0].dead_letters_to.is_some();
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
            if !there && !may_be_gone(history, index, message, *queue) {
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
    message: &Message<'_>,
    queue: QueueRef,
) -> bool {
    let facts = &history.queues[queue.0];
    let volatile = !(facts.durable && message.persistent);
    let expired = message.ttl_millis.is_some() && facts.dead_letters_to.is_none();
    let removed = || {
        index.removals.values().any(|removal| {
            removal.queue == queue && removal.over.is_none_or(|over| over > message.sent)
        })
    };
    // What is due when its queue is full goes nowhere, as with RabbitMQ's plugin.
    let no_room = facts.refuses && message.delay_millis.is_some();
    !facts.lossless
        || expired
        || no_room
        || (volatile && index.crashed_after(message.sent))
        || removed()
}
