//! `redelivered=0` promises that the message was never sent to anyone, also across crashes (C8).

use std::collections::BTreeSet;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History, MessageId},
};

/// Flags `DupUnflagged`.
///
/// Emissions count, not receptions: the bytes of the first delivery may arrive after those of
/// the second when the first consumer reads slowly. A dead letter that a crash took, because it
/// was handed out before it was on disk, is published once more, and is a new one then.
pub fn check(history: &History, known: &Index<'_>, out: &mut Vec<Violation>) {
    let graves = known.ids_of_graves(history);
    let mut sent: BTreeSet<(u64, MessageId, Option<u64>)> = BTreeSet::new();
    for (_, fact) in history.iter() {
        if matches!(fact, Fact::Crash) {
            sent.retain(|(_, _, place)| place.is_none());
        }
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
        // Of a message that can be in a queue several times each place counts for itself.
        let place = graves.contains(queue_id).then_some(*index);
        if !sent.insert((*queue_id, *id, place)) && !redelivered {
            let text = format_args!(
                "message {} at index {index} of queue id {queue_id} was sent before, but flagged \
                 as fresh",
                id.0
            );
            flag(out, Kind::DupUnflagged, text);
        }
    }
}
