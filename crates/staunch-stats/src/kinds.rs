//! What is kept of each kind of thing, and how RabbitMQ calls it.

use staunch_node::{ChannelCounts, Churn, ExchangeCounts, Held, QueueCounts};

use crate::traffic::Traffic;

/// Of `message_stats`; `deliver_get` is the sum of the four ways to be handed out.
pub const MESSAGE_NAMES: [&str; 12] = [
    "publish",
    "confirm",
    "return_unroutable",
    "drop_unroutable",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "deliver_get",
    "redeliver",
    "ack",
];

/// Of what queues hold.
pub const DEPTH_NAMES: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];

/// Of exchanges.
pub const EXCHANGE_NAMES: [&str; 2] = ["publish_in", "publish_out"];

/// Of connections.
pub const TRAFFIC_NAMES: [&str; 2] = ["recv_oct", "send_oct"];

/// Of `churn_rates`.
pub const CHURN_NAMES: [&str; 7] = [
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
];

pub(crate) type Messages = [u64; MESSAGE_NAMES.len()];

pub(crate) fn of_channel(counts: &ChannelCounts) -> Messages {
    [
        counts.publish,
        counts.confirm,
        counts.return_unroutable,
        counts.drop_unroutable,
        counts.deliver,
        counts.deliver_no_ack,
        counts.get,
        counts.get_no_ack,
        counts.get_empty,
        counts.deliver + counts.deliver_no_ack + counts.get + counts.get_no_ack,
        counts.redeliver,
        counts.ack,
    ]
}

pub(crate) fn of_queue(counts: &QueueCounts) -> Messages {
    [
        counts.publish,
        0,
        0,
        0,
        counts.deliver,
        counts.deliver_no_ack,
        counts.get,
        counts.get_no_ack,
        counts.get_empty,
        counts.deliver + counts.deliver_no_ack + counts.get + counts.get_no_ack,
        counts.redeliver,
        counts.ack,
    ]
}

pub(crate) fn depth(held: &Held) -> [u64; DEPTH_NAMES.len()] {
    let (ready, unacked) = (held.ready_count, held.unacked_count);
    [ready + unacked, ready, unacked]
}

pub(crate) fn of_exchange(counts: ExchangeCounts) -> [u64; EXCHANGE_NAMES.len()] {
    [counts.publish_in, counts.publish_out]
}

pub(crate) fn of_traffic(traffic: Traffic) -> [u64; TRAFFIC_NAMES.len()] {
    [traffic.received_bytes, traffic.sent_bytes]
}

pub(crate) fn of_churn(churn: &Churn) -> [u64; CHURN_NAMES.len()] {
    [
        churn.connection_created,
        churn.connection_closed,
        churn.channel_created,
        churn.channel_closed,
        churn.queue_declared,
        churn.queue_created,
        churn.queue_deleted,
    ]
}
