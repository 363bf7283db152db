//! One publish gives at most one place in a queue, and a place belongs to one message (C10).

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag},
    history::{Fact, History},
};

/// Flags `DoubleEnqueue`.
///
/// A place may be given again after a crash, when its first message was delivered before it was
/// on disk and went with the tail; a message never moves.
pub fn check(history: &History, out: &mut Vec<Violation>) {
    let mut place_of = BTreeMap::new();
    let mut holder_of = BTreeMap::new();
    for (_, fact) in history.iter() {
        match fact {
            Fact::Emitted {
                queue_id,
                index,
                id,
                ..
            } => {
                let place = *place_of.entry((*queue_id, *id)).or_insert(*index);
                if place != *index {
                    let text = format_args!(
                        "message {} is at {place} and {index} of queue id {queue_id}",
                        id.0
                    );
                    flag(out, Kind::DoubleEnqueue, text);
                }
                let holder = *holder_of.entry((*queue_id, *index)).or_insert(*id);
                if holder != *id {
                    let text = format_args!(
                        "messages {} and {} share place {index} of queue id {queue_id}",
                        holder.0, id.0
                    );
                    flag(out, Kind::DoubleEnqueue, text);
                }
            }
            Fact::Crash => holder_of.clear(),
            _ => {}
        }
    }
}
