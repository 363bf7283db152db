//! Fresh deliveries of one queue on one consumer channel follow the order in which each
//! publisher channel sent them (C11, C12), but for those that an exchange delayed. A queue of
//! several partitions keeps the order of each routing key.

use std::collections::BTreeMap;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Fact, History},
    payload,
};

/// Flags `Reordered`.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let mut last = BTreeMap::new();
    for (_, fact) in history.iter() {
        let Fact::Received {
            channel,
            queue,
            id,
            redelivered: false,
            ..
        } = fact
        else {
            continue;
        };
        let Some(message) = index.messages.get(id) else {
            continue;
        };
        if !history.queues[queue.0].ordered || message.delay_millis.is_some() {
            continue;
        }
        let is_urgent = history.queues[queue.0].is_replicated && payload::is_urgent(*id);
        let key = history.queues[queue.0]
            .is_partitioned
            .then_some(message.key_hash);
        let newest = last
            .entry((*channel, *queue, message.channel, is_urgent, key))
            .or_insert((message.sent, *id));
        if newest.0 > message.sent {
            let text = format_args!(
                "'{}': message {} came after {}, which was published later on the same channel",
                history.queues[queue.0].name, id.0, newest.1.0
            );
            flag(out, Kind::Reordered, text);
        } else {
            *newest = (message.sent, *id);
        }
    }
}
