//! What was settled before a close-ok, purged or deleted never comes back (C9, C4).

use std::collections::BTreeMap;

use crate::{
    check::{
        Kind, Violation, flag,
        index::{Delivery, Index, RemovalSpan},
    },
    history::{ChannelKey, Emission, Fact, History, MessageId, RemovalKind, Stamp},
};

/// Flags `Resurrected`.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    check_settled(history, index, out);
    check_removed(history, index, out);
}

fn check_settled(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let mut on_channel: BTreeMap<ChannelKey, Vec<Emission>> = BTreeMap::new();
    let mut certain: BTreeMap<(u64, MessageId), Stamp> = BTreeMap::new();
    for (stamp, fact) in history.iter() {
        match fact {
            Fact::Settled { emission, .. } => {
                let Some(delivery) = index.deliveries.get(emission) else {
                    continue;
                };
                let Some((channel, queue)) = delivery.received else {
                    continue;
                };
                let facts = &history.queues[queue.0];
                // What is rejected there leaves with its dead letter, which may take a while; what
                // is settled in a grave may be there again, and so may a delayed message.
                let is_open = facts.gets_dead_letters
                    || index.is_delayed(delivery.id)
                    || (delivery.is_rejected && facts.dead_letters_to.is_some());
                if delivery.settled == Some(stamp) && !is_open {
                    on_channel.entry(channel).or_default().push(*emission);
                }
            }
            Fact::Barrier { channel } => {
                for emission in on_channel.remove(channel).unwrap_or_default() {
                    let delivery = &index.deliveries[&emission];
                    let since = certain.entry((delivery.queue_id, delivery.id));
                    since.or_insert(stamp);
                }
            }
            // What was handed out before may still have been on its way from another node.
            Fact::Emitted {
                queue_id,
                id,
                handed_out,
                ..
            } if (certain.get(&(*queue_id, *id))).is_some_and(|since| since < handed_out) => {
                let text = format_args!(
                    "message {} of queue id {queue_id} was settled before a close-ok and came back",
                    id.0
                );
                flag(out, Kind::Resurrected, text);
            }
            _ => {}
        }
    }
}

fn check_removed(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let done: Vec<_> = index
        .removals
        .values()
        .filter(|removal| removal.done)
        .collect();
    let mut first_handed_out = BTreeMap::new();
    for delivery in index.deliveries.values() {
        first_handed_out
            .entry((delivery.queue_id, delivery.id))
            .and_modify(|first: &mut Stamp| *first = delivery.handed_out.min(*first))
            .or_insert(delivery.handed_out);
        let Some((_, queue)) = delivery.received else {
            continue;
        };
        let first = first_handed_out[&(delivery.queue_id, delivery.id)];
        for removal in done.iter().filter(|removal| removal.queue == queue) {
            let gone = is_gone(index, delivery, removal);
            // In a cluster it may have been on its way to a client of a node that never got it;
            // then it is flagged.
            let was_under_way = history.is_cluster && delivery.redelivered;
            let held = removal.kind == RemovalKind::Purge
                && (was_under_way || removal.over.is_some_and(|over| first < over));
            if gone && !held {
                let text = format_args!(
                    "message {} of '{}' came back after {:?}",
                    delivery.id.0, history.queues[queue.0].name, removal.kind
                );
                flag(out, Kind::Resurrected, text);
            }
        }
    }
}

/// The message was certainly in the queue when the removal began, and handed out after it ended: of
/// a queue that was deleted, by a node that knew that. One that is cut off from those who have
/// agreed on it serves what it has.
fn is_gone(index: &Index<'_>, delivery: &Delivery, removal: &RemovalSpan) -> bool {
    let message = index.messages.get(&delivery.id);
    // What is delayed comes to its queues after its confirm.
    let message = message.filter(|message| message.delay_millis.is_none());
    let confirmed = message.and_then(|message| message.confirmed);
    let handed_out = match removal.kind {
        RemovalKind::Purge => delivery.handed_out,
        RemovalKind::Delete => delivery.known,
    };
    confirmed.is_some_and(|stamp| stamp < removal.started)
        && removal.over.is_some_and(|over| over < handed_out)
}
