//! A partition serves one consumer at a time, and who comes next goes on behind the one before
//! (C13): what is handed out for the first time is handed out in the order of the queue, whoever
//! gets it.

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History},
    payload,
};

/// Flags `Reordered`.
///
/// Deliveries of two nodes may overtake each other on their way; those of one node's clients do not.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let queues = index.queue_ids();
    let mut last = BTreeMap::new();
    for (_, fact) in history.iter() {
        let Fact::Emitted {
            node,
            queue_id,
            index: place,
            id,
            redelivered: false,
            ..
        } = fact
        else {
            continue;
        };
        let queue = queues.get(queue_id).map(|queue| &history.queues[queue.0]);
        let Some(queue) = queue.filter(|queue| queue.is_partitioned) else {
            continue;
        };
        let key = (*node, *queue_id, payload::is_urgent(*id));
        let newest = last.entry(key).or_insert(*place);
        if *newest > *place {
            let text = format_args!(
                "'{}': message {} at {place} was handed out after {newest} of the same partition, \
                 queue id {queue_id}",
                queue.name, id.0
            );
            flag(out, Kind::Reordered, text);
        }
        *newest = (*newest).max(*place);
    }
}
