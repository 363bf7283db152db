//! A message whose time was up before it could be handed out is not delivered (D2).

use crate::{
    check::{Kind, Violation, flag, index::Index, rules::RuleBook},
    history::{Fact, History},
    schedule::MILLIS,
};

/// Flags `Overdue`.
///
/// Only what came to its queue from its publisher: when a dead letter or a delayed message came
/// there nobody knows.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    // In a cluster it may have been handed out in time and been held up between two nodes.
    if history.is_cluster {
        return;
    }
    let queues = index.queue_ids();
    let book = RuleBook::read(history);
    for (stamp, fact) in history.iter() {
        let Fact::Emitted { queue_id, id, .. } = fact else {
            continue;
        };
        let (Some(queue), Some(message)) = (queues.get(queue_id), index.messages.get(id)) else {
            continue;
        };
        let queue = &history.queues[queue.0];
        let is_direct = message.delay_millis.is_none() && !queue.gets_dead_letters;
        let (true, Some(confirmed)) = (is_direct, message.confirmed) else {
            continue;
        };
        let ruled = queue
            .is_ruled
            .then(|| book.ttl_millis(message.sent, confirmed));
        let all = [message.ttl_millis, queue.ttl_millis, ruled.flatten()];
        let Some(ttl_millis) = all.into_iter().flatten().min() else {
            continue;
        };
        let expires_at = history.time(confirmed) + ttl_millis * MILLIS;
        if history.time(stamp) > expires_at + MILLIS + history.clock_slack_nanos {
            let text = format_args!("message {} came from '{}' too late", id.0, queue.name);
            flag(out, Kind::Overdue, text);
        }
    }
}
