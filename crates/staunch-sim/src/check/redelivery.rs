//! `redelivered=0` promises that the message was never sent to anyone, also across crashes (C8).

use std::collections::BTreeSet;

use crate::{
    check::{Kind, Violation, flag},
    history::{Fact, History},
};

/// Flags `DupUnflagged`.
///
/// Emissions count, not receptions: the bytes of the first delivery may arrive after those of
/// the second when the first consumer reads slowly.
pub fn check(history: &History, out: &mut Vec<Violation>) {
    let mut sent = BTreeSet::new();
    for (_, fact) in history.iter() {
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
        if !sent.insert((*queue_id, *id)) && !redelivered {
            let text = format_args!(
                "message {} at index {index} of queue id {queue_id} was sent before, but flagged \
                 as fresh",
                id.0
            );
            flag(out, Kind::DupUnflagged, text);
        }
    }
}
