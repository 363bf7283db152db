//! `/api/overview` and `/api/whoami`.

use axum::extract::State;
use serde_json::{Map, Value, json};
use staunch_definitions::value_to_json;
use staunch_stats::{CHURN_NAMES, DEPTH_NAMES, MESSAGE_NAMES};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    listing::Listing,
    rates::{extend, moving},
};

/// Exchange types and what they do.
pub(crate) const EXCHANGE_TYPES: [(&str, &str); 4] = [
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

pub(crate) async fn get(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
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
    let mut shown = facts(&api);
    extend(&mut shown, rates(&api, &listing));
    shown["cluster_name"] = cluster_name.unwrap_or_else(|| api.settings.node_name.clone().into());
    shown["default_queue_type"] = queue_type.into();
    shown["object_totals"] = json!({
        "connections": connections.len(),
        "channels": channels,
        "consumers": consumers,
        "exchanges": exchange_count,
        "queues": seen.len(),
    });
    // The numbers themselves are newer, and of what the caller may see.
    shown["queue_totals"]["messages"] = (ready + unacked).into();
    shown["queue_totals"]["messages_ready"] = ready.into();
    shown["queue_totals"]["messages_unacknowledged"] = unacked.into();
    if !caller.is_monitor() {
        hide_totals(&mut shown);
    }
    body::ok(&listing.only_columns(shown))
}

/// What does not change while the node runs.
fn facts(api: &Api) -> Value {
    let settings = &api.settings;
    let kind =
        |(name, description)| json!({"name": name, "description": description, "enabled": true});
    json!({
        "management_version": settings.product_version,
        "rabbitmq_version": settings.product_version,
        "product_name": settings.product,
        "product_version": settings.product_version,
        "staunch_version": settings.version,
        "node": settings.node_name,
        "erlang_version": "n/a",
        "erlang_full_version": "n/a: this is not Erlang",
        "crypto_lib_version": "n/a",
        "rates_mode": "basic",
        "sample_retention_policies": {"global": [600], "basic": [600], "detailed": [600]},
        "release_series_support_status": "supported",
        "is_op_policy_updating_enabled": true,
        "cluster_tags": [],
        "node_tags": [],
        "statistics_db_event_queue": 0,
        "disable_stats": false,
        "enable_queue_totals": false,
        "exchange_types": EXCHANGE_TYPES.map(kind),
        "listeners": listeners(api),
        "contexts": contexts(api),
    })
}

fn rates(api: &Api, listing: &Listing) -> Map<String, Value> {
    let statistics = api.statistics.read();
    let (totals, round) = (statistics.totals(), statistics.round());
    let windows = &listing.windows;
    let of = |name: &str, moving| (name.to_owned(), Value::Object(moving));
    Map::from_iter([
        of(
            "message_stats",
            moving(&MESSAGE_NAMES, &totals.messages, round, windows.messages),
        ),
        of(
            "churn_rates",
            moving(&CHURN_NAMES, &totals.churn, round, windows.node),
        ),
        of(
            "queue_totals",
            moving(&DEPTH_NAMES, &totals.depth, round, windows.lengths),
        ),
    ])
}

/// Rates are of the whole node: who may not see that sees none.
fn hide_totals(shown: &mut Value) {
    for key in ["message_stats", "churn_rates"] {
        shown[key] = json!({});
    }
    if let Some(totals) = shown["queue_totals"].as_object_mut() {
        totals.retain(|key, _| !key.ends_with("_details"));
    }
}

pub(crate) fn contexts(api: &Api) -> Value {
    let http = api.settings.listeners.iter();
    let http = http.filter(|listener| listener.protocol == "http");
    let shown = http.map(|listener| {
        json!({
            "node": api.settings.node_name,
            "description": "RabbitMQ Management",
            "path": "/",
            "ip": listener.address.ip().to_string(),
            "port": listener.address.port().to_string(),
            "ssl_opts": [],
        })
    });
    shown.collect()
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
            "socket_opts": {},
        })
    });
    shown.collect()
}
