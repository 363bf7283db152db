//! Confirms: each publish at most once, never one that was not sent, never before the message is
//! on disk (C1), never before the return of an unroutable one (C3).

use std::collections::BTreeSet;

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{ChannelKey, Fact, History, MessageId},
};

/// Flags `ConfirmWrong`.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    let mut outstanding = BTreeSet::new();
    let mut returned = BTreeSet::new();
    for (_, fact) in history.iter() {
        match fact {
            Fact::Published {
                channel,
                seq: Some(seq),
                ..
            } => {
                outstanding.insert((*channel, *seq));
            }
            Fact::Confirmed {
                channel,
                tag,
                multiple,
            }
            | Fact::Nacked {
                channel,
                tag,
                multiple,
            } => {
                take(&mut outstanding, *channel, *tag, *multiple, out);
            }
            Fact::ConfirmSent { id, synced: false } => flag(
                out,
                Kind::ConfirmWrong,
                format_args!("message {} was confirmed before it was synced", id.0),
            ),
            Fact::Returned { id } if !returned.insert(*id) => {
                flag(
                    out,
                    Kind::ConfirmWrong,
                    format_args!("message {} came back twice", id.0),
                );
            }
            _ => {}
        }
    }
    for (id, message) in &index.messages {
        check_return(*id, message, out);
        if history.refuses_nothing {
            check_refusal(history, *id, message, out);
        }
    }
}

fn take(
    outstanding: &mut BTreeSet<(ChannelKey, u64)>,
    channel: ChannelKey,
    tag: u64,
    multiple: bool,
    out: &mut Vec<Violation>,
) {
    let first = if multiple { 0 } else { tag };
    let covered: Vec<_> = outstanding
        .range((channel, first)..=(channel, tag))
        .copied()
        .collect();
    if covered.last() != Some(&(channel, tag)) {
        flag(
            out,
            Kind::ConfirmWrong,
            format_args!(
                "channel {}: tag {tag} is unknown or was confirmed before",
                channel.0
            ),
        );
    }
    for key in covered {
        outstanding.remove(&key);
    }
}

/// A publish to queues that several nodes keep, and that are never full, is not refused.
fn check_refusal(
    history: &History,
    id: MessageId,
    message: &crate::check::index::Message<'_>,
    out: &mut Vec<Violation>,
) {
    let mut queues = message.must.iter().chain(message.may);
    let takes_all = queues.all(|queue| {
        let facts = &history.queues[queue.0];
        facts.is_replicated && !facts.refuses
    });
    if message.is_refused && takes_all {
        let text = format_args!("message {} was refused though its queues work", id.0);
        flag(out, Kind::ConfirmWrong, text);
    }
}

fn check_return(
    id: MessageId,
    message: &crate::check::index::Message<'_>,
    out: &mut Vec<Violation>,
) {
    let Some(confirmed) = message.confirmed else {
        return;
    };
    let came_back = message.returned.is_some_and(|stamp| stamp < confirmed);
    let unroutable = message.must.is_empty() && message.may.is_empty();
    let is_delayed = message.delay_millis.is_some();
    if message.mandatory && unroutable && !came_back && !is_delayed {
        let text = format_args!("unroutable message {} was confirmed without a return", id.0);
        flag(out, Kind::ConfirmWrong, text);
    }
    if message.returned.is_some() && (!message.mandatory || !message.must.is_empty()) {
        let text = format_args!("message {} came back though a queue was bound for it", id.0);
        flag(out, Kind::ConfirmWrong, text);
    }
}
