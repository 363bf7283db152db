//! `redelivered=0` promises that the message was never sent to anyone, also across crashes (C8).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History, MessageId, QueueRef},
};

/// Flags `DupUnflagged`.
///
/// What counts is when the queue's server hands them out, not when they are received: the bytes of
/// the first delivery may arrive after those of the second when the first consumer reads slowly,
/// or when they wait for long on the way to the node of their client. A message can be several times in a queue that
/// gets dead letters, once for every queue it was routed to from which it can get there: each
/// place counts for itself, and a crash may take a dead letter and put it into another place, but
/// there are never more fresh ones than that. The same is true of delayed messages, which have one
/// way to each queue.
pub fn check(history: &History, known: &Index<'_>, out: &mut Vec<Violation>) {
    let graves = known.graves(history);
    let mut sent: BTreeSet<(u64, MessageId, Option<u64>)> = BTreeSet::new();
    let mut fresh_counts: BTreeMap<(u64, MessageId), usize> = BTreeMap::new();
    let mut handed_out: Vec<_> = history.iter().map(|(_, fact)| fact).collect();
    handed_out.sort_by_key(|fact| match fact {
        Fact::Emitted { handed_out, .. } => Some(*handed_out),
        _ => None,
    });
    for fact in handed_out {
        let Fact::Emitted {
            queue_id,
            id,
            redelivered,
            index,
            ..
        } = fact
        else {
            continue;
        };
        let ways = match graves.get(queue_id) {
            Some(grave) => Some(ways(history, known, *id, *grave)),
            None => known.is_delayed(*id).then_some(1),
        };
        let mut is_wrong = !sent.insert((*queue_id, *id, ways.map(|_| *index))) && !redelivered;
        if let Some(ways) = ways
            && !redelivered
        {
            let count = fresh_counts.entry((*queue_id, *id)).or_default();
            *count += 1;
            is_wrong |= *count > ways;
        }
        if is_wrong {
            let text = format_args!(
                "message {} at index {index} of queue id {queue_id} was sent before, but flagged \
                 as fresh",
                id.0
            );
            flag(out, Kind::DupUnflagged, text);
        }
    }
}

/// Queues the message may have been routed to that are `grave` or lead there.
fn ways(history: &History, known: &Index<'_>, id: MessageId, grave: QueueRef) -> usize {
    let Some(message) = known.messages.get(&id) else {
        return 1;
    };
    let routed: BTreeSet<QueueRef> = message.must.iter().chain(message.may).copied().collect();
    let leads = |queue: &&QueueRef| history.line_of_death(**queue).any(|at| at == grave);
    routed.iter().filter(leads).count().max(1)
}
