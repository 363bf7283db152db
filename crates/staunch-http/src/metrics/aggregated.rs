//! What is told of the node as a whole.

use std::time::Duration;

use staunch_broker::QueueKind;
use staunch_node::Failover;
use staunch_stats::CHURN_NAMES;

use super::{Exporter, Scrape, text::Text};
use crate::SharedStatistics;

/// The only protocol there is.
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// What a link between nodes is when it is up (Erlang's distribution).
const PEER_UP: u8 = 3;
const PEER_DOWN: u8 = 1;

/// Who we are: dashboards join every panel with this.
pub(super) fn identity(exporter: &Exporter, scrape: &Scrape, text: &mut Text) {
    let settings = &exporter.settings;
    text.family(
        "rabbitmq_identity_info",
        "untyped",
        "RabbitMQ node & cluster identity info",
    );
    let cluster = scrape.cluster_name.as_str();
    text.sample(
        &[
            ("rabbitmq_node", &settings.node_name),
            ("rabbitmq_cluster", cluster),
            ("rabbitmq_cluster_permanent_id", cluster),
            ("rabbitmq_endpoint", scrape.endpoint),
        ],
        1,
    );
    text.family(
        "rabbitmq_build_info",
        "untyped",
        "RabbitMQ & Erlang/OTP version info",
    );
    text.sample(
        &[
            ("rabbitmq_version", &settings.product_version),
            ("prometheus_plugin_version", &settings.product_version),
            ("prometheus_client_version", "n/a"),
            ("erlang_version", "n/a"),
            ("product_name", &settings.product),
            ("product_version", &settings.product_version),
        ],
        1,
    );
}

/// Resources, alarms and what comes and goes.
pub(super) fn node(exporter: &Exporter, scrape: &Scrape, text: &mut Text) {
    let machine = (exporter.settings.machine.0)();
    let condition = &scrape.condition;
    let uptime_seconds = machine.uptime_millis / 1000;
    let free = condition.disk_free_size_bytes.unwrap_or(0);
    for (name, help, value) in [
        (
            "rabbitmq_erlang_uptime_seconds",
            "Node uptime",
            uptime_seconds,
        ),
        (
            "rabbitmq_process_open_fds",
            "Open file descriptors",
            machine.fd_used,
        ),
        (
            "rabbitmq_process_max_fds",
            "Open file descriptors limit",
            machine.fd_max,
        ),
        (
            "rabbitmq_process_resident_memory_bytes",
            "Memory used in bytes",
            machine.memory_used_size_bytes,
        ),
        (
            "rabbitmq_resident_memory_limit_bytes",
            "Memory high watermark in bytes",
            condition.kept_size_bytes_max,
        ),
        (
            "rabbitmq_disk_space_available_bytes",
            "Disk space available in bytes",
            free,
        ),
        (
            "rabbitmq_disk_space_available_limit_bytes",
            "Free disk space low watermark in bytes",
            condition.disk_free_limit_size_bytes,
        ),
        (
            "rabbitmq_alarms_memory_used_watermark",
            "is 1 if VM memory watermark alarm is in effect",
            u64::from(condition.has_memory_alarm),
        ),
        (
            "rabbitmq_alarms_free_disk_space_watermark",
            "is 1 if free disk space watermark alarm is in effect",
            u64::from(condition.has_disk_alarm),
        ),
        (
            "rabbitmq_alarms_file_descriptor_limit",
            "is 1 if file descriptor limit alarm is in effect",
            u64::from(machine.fd_used >= machine.fd_max),
        ),
    ] {
        text.single(name, "gauge", help, value);
    }
    let churn = *exporter.statistics.read().totals().churn.now();
    for (name, value) in CHURN_NAMES.iter().zip(churn) {
        // `connection_created` is `connections_opened` here, `queue_deleted` is `queues_deleted`.
        let (what, verb) = name.split_once('_').unwrap_or((name, ""));
        let verb = if what == "queue" || verb == "closed" {
            verb
        } else {
            "opened"
        };
        let name = format!("rabbitmq_{what}s_{verb}_total");
        text.single(&name, "counter", "Total number of them", value);
    }
    peers(scrape, text);
}

/// The links with other nodes, under the name that alert rules know.
fn peers(scrape: &Scrape, text: &mut Text) {
    let Some(cluster) = &scrape.cluster else {
        return;
    };
    text.family(
        "erlang_vm_dist_node_state",
        "gauge",
        "Links with other nodes: 3 is up",
    );
    for node in cluster.nodes.iter().filter(|node| node.name != cluster.me) {
        let state = if node.is_up { PEER_UP } else { PEER_DOWN };
        text.sample(&[("peer", &node.name.to_string())], state);
    }
}

/// What happened to messages since the node was started. These never go down.
pub(super) fn messages(statistics: &SharedStatistics, text: &mut Text) {
    let (channels, publishers, kinds) = {
        let statistics = statistics.read();
        let totals = statistics.totals();
        let kinds = [QueueKind::Classic, QueueKind::Quorum].map(|kind| (kind, *totals.of(kind)));
        (totals.channels, totals.publishers, kinds)
    };
    let routed = kinds.iter().map(|(_, kind)| kind.counts.publish).sum();
    for (name, value) in [
        ("received", channels.publish),
        ("received_confirm", channels.numbered),
        ("confirmed", channels.confirm),
        ("routed", routed),
        ("unroutable_dropped", channels.drop_unroutable),
        ("unroutable_returned", channels.return_unroutable),
    ] {
        let name = format!("rabbitmq_global_messages_{name}_total");
        text.family(&name, "counter", "Total number of messages");
        text.sample(&[PROTOCOL], value);
    }
    text.family(
        "rabbitmq_global_publishers",
        "gauge",
        "Publishers currently connected",
    );
    text.sample(&[PROTOCOL], publishers);
    let [classic, quorum] = kinds.map(|(_, kind)| kind.counts);
    let by_kind = |text: &mut Text, name: &str, values: [u64; 2]| {
        let name = format!("rabbitmq_global_messages_{name}_total");
        text.family(&name, "counter", "Total number of messages");
        for (kind, value) in KINDS.into_iter().zip(values) {
            text.sample(&[PROTOCOL, ("queue_type", kind)], value);
        }
    };
    let both = |of: fn(&staunch_node::QueueCounts) -> u64| [of(&classic), of(&quorum)];
    let delivered = both(|it| it.deliver + it.deliver_no_ack + it.get + it.get_no_ack);
    by_kind(text, "delivered", delivered);
    by_kind(text, "delivered_consume_manual_ack", both(|it| it.deliver));
    by_kind(
        text,
        "delivered_consume_auto_ack",
        both(|it| it.deliver_no_ack),
    );
    by_kind(text, "delivered_get_manual_ack", both(|it| it.get));
    by_kind(text, "delivered_get_auto_ack", both(|it| it.get_no_ack));
    by_kind(text, "get_empty", both(|it| it.get_empty));
    by_kind(text, "redelivered", both(|it| it.redeliver));
    by_kind(text, "acknowledged", both(|it| it.ack));
    for (name, values) in [
        ("expired", both(|it| it.expired)),
        ("maxlen", both(|it| it.overflowed)),
        ("rejected", both(|it| it.rejected)),
        ("delivery_limit", both(|it| it.returned_too_often)),
    ] {
        let name = format!("rabbitmq_global_messages_dead_lettered_{name}_total");
        text.family(
            &name,
            "counter",
            "Total number of messages that died for this reason",
        );
        for (kind, value) in KINDS.into_iter().zip(values) {
            let strategy = ("dead_letter_strategy", "at_most_once");
            text.sample(&[("queue_type", kind), strategy], value);
        }
    }
}

/// RabbitMQ's modules for types of queues.
const KINDS: [&str; 2] = ["rabbit_classic_queue", "rabbit_quorum_queue"];

/// Sums over queues, channels and connections.
pub(super) fn queues(statistics: &SharedStatistics, text: &mut Text) {
    let statistics = statistics.read();
    let totals = statistics.totals();
    let [messages, ready, unacked] = *totals.depth.now();
    let (mut consumers, mut by_kind, mut queue_count) = (0, [0_u64; 2], 0_u64);
    let (mut ready_bytes, mut unacked_bytes, mut memory_bytes) = (0, 0, 0);
    for (_, queue) in statistics
        .queues()
        .filter(|(_, queue)| queue.is_served_here)
    {
        let held = &queue.held;
        let count = u64::from(held.consumer_count);
        consumers += count;
        by_kind[usize::from(queue.kind == QueueKind::Quorum)] += count;
        queue_count += 1;
        ready_bytes += held.ready_body_bytes;
        unacked_bytes += held.unacked_body_bytes;
        memory_bytes += held.memory_size_bytes;
    }
    let connection_count = statistics.connections().count() as u64;
    let channels = statistics
        .connections()
        .map(|(_, it)| it.channels.len() as u64);
    let channel_count: u64 = channels.sum();
    drop(statistics);
    text.family(
        "rabbitmq_global_consumers",
        "gauge",
        "Consumers currently connected",
    );
    for (kind, value) in KINDS.into_iter().zip(by_kind) {
        text.sample(&[PROTOCOL, ("queue_type", kind)], value);
    }
    for (name, value) in [
        ("queues", queue_count),
        ("connections", connection_count),
        ("channels", channel_count),
        ("consumers", consumers),
        ("queue_consumers", consumers),
        ("queue_messages", messages),
        ("queue_messages_ready", ready),
        ("queue_messages_unacked", unacked),
        ("queue_messages_bytes", ready_bytes + unacked_bytes),
        ("queue_messages_ready_bytes", ready_bytes),
        ("queue_messages_unacked_bytes", unacked_bytes),
        ("queue_process_memory_bytes", memory_bytes),
    ] {
        text.single(
            &format!("rabbitmq_{name}"),
            "gauge",
            "Sum over all of them",
            value,
        );
    }
}

/// Sums over channels, closed ones among them.
pub(super) fn channels(statistics: &SharedStatistics, text: &mut Text) {
    let counts = statistics.read().totals().channels;
    for (name, value) in [
        ("published", counts.publish),
        ("confirmed", counts.confirm),
        ("unroutable_returned", counts.return_unroutable),
        ("unroutable_dropped", counts.drop_unroutable),
        ("delivered_ack", counts.deliver),
        ("delivered", counts.deliver_no_ack),
        ("redelivered", counts.redeliver),
        ("acked", counts.ack),
    ] {
        let name = format!("rabbitmq_channel_messages_{name}_total");
        text.single(&name, "counter", "Sum over all channels", value);
    }
    for (name, value) in [
        ("get_ack", counts.get),
        ("get", counts.get_no_ack),
        ("get_empty", counts.get_empty),
    ] {
        let name = format!("rabbitmq_channel_{name}_total");
        text.single(&name, "counter", "Sum over all channels", value);
    }
}

/// What RabbitMQ does not have.
pub(super) fn own(scrape: &Scrape, text: &mut Text) {
    let condition = &scrape.condition;
    let kept = condition.kept_size_bytes;
    text.single(
        "staunch_kept_memory_bytes",
        "gauge",
        "Memory that cannot be dropped",
        kept,
    );
    let Some(cluster) = &scrape.cluster else {
        return;
    };
    let (groups, leaderless) = (cluster.group_count, cluster.leaderless_count);
    text.single(
        "staunch_groups",
        "gauge",
        "Raft groups that this node knows of",
        groups,
    );
    let help = "Replicated queues without a leader that this node knows of";
    text.single("staunch_groups_leaderless", "gauge", help, leaderless);
    text.family(
        "staunch_node_up",
        "gauge",
        "Whether a node of the cluster is up",
    );
    for node in &cluster.nodes {
        text.sample(&[("node", &node.name.to_string())], u8::from(node.is_up));
    }
    if let Some(failover) = &scrape.failover {
        last_failover(failover, text);
    }
}

/// The last failover as this node has seen it (`docs/events.md`).
fn last_failover(failover: &Failover, text: &mut Text) {
    let node = failover.node.to_string();
    let at = Duration::from_millis(failover.suspected_at.0).as_secs_f64();
    text.family(
        "staunch_failover_last_timestamp_seconds",
        "gauge",
        "When this node gave up another the last time",
    );
    text.sample(&[("node", &node)], at);
    text.family(
        "staunch_failover_last_seconds",
        "gauge",
        "Since that node was last heard: until it was given up, its queues were led, one confirmed",
    );
    for (phase, after) in [
        ("suspected", Some(failover.suspected)),
        ("led", failover.all_led),
        ("confirmed", failover.confirmed),
    ] {
        if let Some(after) = after {
            text.sample(&[("node", &node), ("phase", phase)], after.as_secs_f64());
        }
    }
    text.family(
        "staunch_failover_last_queues",
        "gauge",
        "Queues that it led, of those that this node keeps",
    );
    text.sample(&[("node", &node)], failover.queue_count);
}
