//! What an exchange delays comes when its delay is over: never sooner, and to each queue in the
//! order in which it was due (D2).

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History, MessageId, Stamp},
    schedule::MILLIS,
};

/// First places of delayed messages in each queue, by its id, as one life of the node gave them.
type Places = BTreeMap<u64, BTreeMap<MessageId, u64>>;

/// Flags `Early`, and `Reordered` for what came to a queue out of the order of its times.
///
/// The node knows milliseconds only, so times that are closer than that are equal. A crash can
/// bring a message to its queue once more; in each life of the node the order holds.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let graves = index.graves(history);
    let mut places = Places::new();
    for (stamp, fact) in history.iter() {
        match fact {
            Fact::Emitted {
                queue_id,
                index: place,
                id,
                ..
            } => {
                let Some((earliest, _)) = due(history, index, *id) else {
                    continue;
                };
                if history.time(stamp) + MILLIS + history.clock_slack_nanos < earliest {
                    let text = format_args!("message {} came before its delay was over", id.0);
                    flag(out, Kind::Early, text);
                }
                if !graves.contains_key(queue_id) {
                    let places = places.entry(*queue_id).or_default();
                    let first = places.entry(*id).or_insert(*place);
                    *first = (*first).min(*place);
                }
            }
            Fact::Crash => check_order(history, index, std::mem::take(&mut places), out),
            _ => {}
        }
    }
    check_order(history, index, places, out);
}

/// When the delay of a message is over: not before the first, and not after the second, as far as
/// that is known; in virtual nanoseconds. None if it is not delayed.
fn due(history: &History, index: &Index<'_>, id: MessageId) -> Option<(u64, Option<u64>)> {
    let message = index.messages.get(&id)?;
    let delay = message.delay_millis? * MILLIS;
    let at = |stamp: Stamp| history.time(stamp) + delay;
    Some((at(message.sent), message.confirmed.map(at)))
}

fn check_order(history: &History, index: &Index<'_>, all: Places, out: &mut Vec<Violation>) {
    // What one node has sent on may be overtaken by what the next one does that delays.
    if history.is_cluster {
        return;
    }
    for (queue_id, places) in all {
        let mut in_order: Vec<_> = places.into_iter().map(|(id, place)| (place, id)).collect();
        in_order.sort_unstable();
        let mut last_before: Option<(u64, MessageId)> = None;
        for (_, id) in in_order {
            let Some((earliest, latest)) = due(history, index, id) else {
                continue;
            };
            if let (Some((before, other)), Some(latest)) = (last_before, latest)
                && latest + MILLIS < before
            {
                let text = format_args!(
                    "queue id {queue_id}: message {} came behind {}, which was due later",
                    id.0, other.0
                );
                flag(out, Kind::Reordered, text);
            }
            if last_before.is_none_or(|(before, _)| before < earliest) {
                last_before = Some((earliest, id));
            }
        }
    }
}
