//! What was confirmed and is ready is there for everyone: no get finds an empty queue, and no
//! passive declaration counts less, whichever node is asked (C16).

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History, QueueRef, Stamp},
};

/// From when to when a message certainly was ready.
struct Ready {
    from: Stamp,
    to: Stamp,
}

/// Flags `Hidden`.
///
/// A message certainly was ready from its confirm until somebody asked for messages who was the
/// first to get it. If somebody else had had it on the way before, it would be flagged as
/// redelivered. A purge that nobody heard the end of may have taken it away for everyone to see, and
/// a crash given it back: it counts until somebody sent one. Partitions that stand still are passed
/// over and not counted.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let ready = ready_messages(history, index);
    for (stamp, fact) in history.iter() {
        let Fact::Counted {
            queue,
            asked,
            ready: counted,
        } = fact
        else {
            continue;
        };
        if history.queues[queue.0].is_partitioned {
            continue;
        }
        let spans = ready.get(queue).map_or(&[][..], Vec::as_slice);
        let was_there = |span: &&Ready| span.from < *asked && stamp < span.to;
        let there = spans.iter().filter(was_there).count() as u64;
        // A get that finds nothing counts none; others count all.
        if *counted < there {
            let name = &history.queues[queue.0].name;
            let text = format_args!(
                "'{name}' was said to have {counted} messages ready, and had {there} at least \
                 (asked at {}, answered at {})",
                asked.0, stamp.0
            );
            flag(out, Kind::Hidden, text);
        }
    }
}

fn ready_messages(history: &History, index: &Index<'_>) -> BTreeMap<QueueRef, Vec<Ready>> {
    let mut ready: BTreeMap<QueueRef, Vec<Ready>> = BTreeMap::new();
    for delivery in index.deliveries.values() {
        let (Some((_, queue)), Some(asked)) = (delivery.received, delivery.asked) else {
            continue;
        };
        let Some(message) = index.messages.get(&delivery.id) else {
            continue;
        };
        let Some(confirmed) = message.confirmed else {
            continue;
        };
        let queue_facts = &history.queues[queue.0];
        // One node's clock may say that its time is up, and another's that it is not.
        let may_expire = message.ttl_millis.is_some()
            || queue_facts.ttl_millis.is_some()
            || queue_facts.is_ruled;
        let comes_once = !queue_facts.gets_dead_letters
            && !may_expire
            && message.delay_millis.is_none()
            && message.must.contains(&queue);
        if comes_once && !delivery.redelivered && confirmed < asked {
            let (from, to) = (confirmed, first_removal(index, queue, confirmed).min(asked));
            ready.entry(queue).or_default().push(Ready { from, to });
        }
    }
    ready
}

/// When a purge or delete of the queue was sent first after `from`.
fn first_removal(index: &Index<'_>, queue: QueueRef, from: Stamp) -> Stamp {
    let removals = index.removals.values();
    let sent = removals.filter(|span| span.queue == queue && span.over.is_none_or(|it| it > from));
    sent.map(|span| span.started)
        .min()
        .unwrap_or(Stamp(usize::MAX))
}
