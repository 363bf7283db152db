//! Deliveries of what nobody published, from where it was not routed, or with other bytes.

use crate::{
    check::{Kind, Violation, flag, index::Index},
    history::{Emission, Fact, History, MessageId, QueueRef},
};

/// Flags `Phantom` and `Corrupt`.
pub fn check(history: &History, index: &Index<'_>, out: &mut Vec<Violation>) {
    for (_, fact) in history.iter() {
        let Fact::Received {
            emission,
            queue,
            id,
            redelivered,
            intact,
            ..
        } = fact
        else {
            continue;
        };
        check_route(history, index, *queue, *id, out);
        check_emission(index, *emission, *id, *redelivered, out);
        if !intact {
            let name = &history.queues[queue.0].name;
            let text = format_args!("message {} from '{name}' is not as published", id.0);
            flag(out, Kind::Corrupt, text);
        }
    }
}

fn check_route(
    history: &History,
    index: &Index<'_>,
    queue: QueueRef,
    id: MessageId,
    out: &mut Vec<Violation>,
) {
    let name = &history.queues[queue.0].name;
    let Some(message) = index.messages.get(&id) else {
        let text = format_args!("nobody published message {} from '{name}'", id.0);
        return flag(out, Kind::Phantom, text);
    };
    let mut routed = message.must.iter().chain(message.may);
    if !routed.any(|from| history.line_of_death(*from).any(|at| at == queue)) {
        let text = format_args!("message {} was never routed to '{name}'", id.0);
        flag(out, Kind::Phantom, text);
    }
}

fn check_emission(
    index: &Index<'_>,
    emission: Emission,
    id: MessageId,
    redelivered: bool,
    out: &mut Vec<Violation>,
) {
    let Some(emitted) = index.deliveries.get(&emission) else {
        let text = format_args!(
            "message {} was received but the node never emitted it",
            id.0
        );
        return flag(out, Kind::Phantom, text);
    };
    if (emitted.id, emitted.redelivered) != (id, redelivered) {
        let text = format_args!(
            "the node emitted message {} (redelivered {}), the client got {} ({redelivered})",
            emitted.id.0, emitted.redelivered, id.0
        );
        flag(out, Kind::Corrupt, text);
    }
}
