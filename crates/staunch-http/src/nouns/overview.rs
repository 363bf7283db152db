//! `/api/overview` and `/api/whoami`.

use axum::extract::State;
use serde_json::{Value, json};
use staunch_definitions::value_to_json;
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
};

/// Exchange types and what they do.
const EXCHANGE_TYPES: [(&str, &str); 4] = [
    (
        "direct",
        "AMQP direct exchange, as per the AMQP specification",
    ),
    (
        "fanout",
        "AMQP fanout exchange, as per the AMQP specification",
    ),
    (
        "headers",
        "AMQP headers exchange, as per the AMQP specification",
    ),
    (
        "topic",
        "AMQP topic exchange, as per the AMQP specification",
    ),
];

pub(crate) async fn get(State(api): State<Api>, caller: Caller) -> Answer {
    let vhosts = caller.vhosts_seen(&api).await?;
    let queues = api.node.queues(None).await?;
    let connections = api.node.connections().await?;
    let inside = vhosts.clone();
    let (exchange_count, cluster_name, queue_type) = api
        .node
        .read(move |catalog| {
            let exchanges = inside.iter().map(|vhost| catalog.exchanges(vhost).count());
            let name = catalog.global_parameter(b"cluster_name").map(value_to_json);
            (
                exchanges.sum::<usize>(),
                name,
                catalog.limits().default_queue_type.name(),
            )
        })
        .await?;
    let settings = &api.settings;
    let seen: Vec<_> = queues
        .iter()
        // Its queue counts what a partition holds.
        .filter(|queue| vhosts.contains(&queue.vhost) && !queue.is_partition)
        .collect();
    let ready: u64 = seen.iter().map(|queue| queue.ready_count).sum();
    let unacked: u64 = seen.iter().map(|queue| queue.unacked_count).sum();
    let consumers: u64 = seen
        .iter()
        .map(|queue| u64::from(queue.consumer_count))
        .sum();
    let is_seen = |user: &Name| caller.is_monitor() || *user == caller.name;
    let connections: Vec<_> = connections.iter().filter(|it| is_seen(&it.user)).collect();
    let channels: usize = connections.iter().map(|it| it.channel_count).sum();
    let kind =
        |(name, description)| json!({"name": name, "description": description, "enabled": true});
    body::ok(&json!({
        "management_version": settings.product_version,
        "rabbitmq_version": settings.product_version,
        "product_name": settings.product,
        "product_version": settings.product_version,
        "staunch_version": settings.version,
        "cluster_name": cluster_name.unwrap_or_else(|| settings.node_name.clone().into()),
        "node": settings.node_name,
        "rates_mode": "none",
        "disable_stats": true,
        "enable_queue_totals": true,
        "default_queue_type": queue_type,
        "exchange_types": EXCHANGE_TYPES.map(kind),
        "object_totals": {
            "connections": connections.len(),
            "channels": channels,
            "consumers": consumers,
            "exchanges": exchange_count,
            "queues": seen.len(),
        },
        "queue_totals": {
            "messages": ready + unacked,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
        },
        "listeners": listeners(&api),
        "contexts": [],
    }))
}

pub(crate) async fn whoami(caller: Caller) -> Answer {
    let tags: Vec<_> = caller.tags.iter().map(Name::to_string).collect();
    body::ok(&json!({"name": caller.name.to_string(), "tags": tags}))
}

fn listeners(api: &Api) -> Value {
    let shown = api.settings.listeners.iter().map(|listener| {
        json!({
            "node": api.settings.node_name,
            "protocol": listener.protocol,
            "ip_address": listener.address.ip().to_string(),
            "port": listener.address.port(),
        })
    });
    shown.collect()
}
