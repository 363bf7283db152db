//! One publish gives at most one place in a queue, and a place belongs to one message (C10).

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History},
};

/// Flags `DoubleEnqueue`.
///
/// A place may be given again after a crash, when its first message was delivered before it was
/// on disk and went with the tail; a message never moves. Dead letters come from several queues,
/// and after a crash perhaps once more; so do delayed messages.
pub fn check(history: &History, known: &Index<'_>, out: &mut Vec<Violation>) {
    let graves = known.graves(history);
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
                let comes_again = graves.contains_key(queue_id) || known.is_delayed(*id);
                if place != *index && !comes_again {
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
