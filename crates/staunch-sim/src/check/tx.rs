//! A transaction takes effect with its commit: never before, and never without its beginning (T1).

use std::collections::BTreeSet;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History, MessageId, Stamp},
};

/// Flags `Phantom`, for what was handed out and never committed.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    for (stamp, fact) in history.iter() {
        let Fact::Emitted { id, .. } = fact else {
            continue;
        };
        let Some(message) = index.messages.get(id) else {
            continue;
        };
        let is_committed = message.committing.is_some_and(|sent| sent < stamp);
        if message.in_tx && !is_committed {
            let text = format_args!("message {} was handed out and not committed", id.0);
            flag(out, Kind::Phantom, text);
        }
    }
}

/// Messages of commits without an answer that must be there, because a later one of the same
/// transaction is: a crash cuts a transaction off, it does not take pieces out of it. Nothing is known of those
/// in a cluster.
pub fn beginnings(history: &History, index: &Index<'_>) -> BTreeSet<MessageId> {
    // Several queues of a cluster are several groups: what one of them has tells nothing of others.
    if history.is_cluster {
        return BTreeSet::new();
    }
    let mut last_emitted = std::collections::BTreeMap::new();
    for (stamp, fact) in history.iter() {
        if let Fact::Emitted { id, .. } = fact {
            last_emitted.insert(*id, stamp);
        }
    }
    let mut there = BTreeSet::new();
    for (sent, messages) in index.commits.values() {
        // What was handed out before the crash may have gone with it.
        let lasts_from = index.crashes.iter().find(|crash| *crash > sent).copied();
        let lasts_from = lasts_from.unwrap_or(Stamp(0));
        let is_there = |id: &MessageId| last_emitted.get(id).is_some_and(|at| *at > lasts_from);
        if let Some(last) = messages.iter().rposition(is_there) {
            there.extend(&messages[..last]);
        }
    }
    there
}
