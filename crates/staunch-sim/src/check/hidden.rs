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
/// redelivered.
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
        let comes_once = !history.queues[queue.0].gets_dead_letters
            && message.delay_millis.is_none()
            && message.must.contains(&queue);
        if comes_once && !delivery.redelivered && confirmed < asked {
            let (from, to) = (confirmed, asked);
            ready.entry(queue).or_default().push(Ready { from, to });
        }
    }
    ready
}
