//! `/api/overview` and `/api/whoami`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use staunch_broker::Partitioning;
use staunch_definitions::value_to_json;
use staunch_stats::{CHURN_NAMES, DEPTH_NAMES, MESSAGE_NAMES};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    listing::Listing,
    question::{Question, Wanted},
    rates::{add, extend, moving},
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

/// What one node has to say to the overview.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Part {
    ready: u64,
    unacked: u64,
    consumers: usize,
    connections: usize,
    channels: usize,
    listeners: Vec<Value>,
    contexts: Vec<Value>,
    /// `message_stats`, `churn_rates`, `queue_totals`.
    rates: Map<String, Value>,
}

pub(crate) async fn get(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let vhosts = caller.vhosts_seen(&api).await?;
    let inside = vhosts.clone();
    let (exchange_count, queue_count, cluster_name, queue_type) = api
        .node
        .read(move |catalog| {
            let exchanges = inside.iter().map(|vhost| catalog.exchanges(vhost).count());
            // Its queue counts what a partition holds.
            let queues = catalog.queues().filter(|entry| {
                !matches!(entry.partitioning, Partitioning::Part { .. })
                    && inside.binary_search(&entry.vhost).is_ok()
            });
            let name = catalog.global_parameter(b"cluster_name").map(value_to_json);
            (
                exchanges.sum::<usize>(),
                queues.count(),
                name,
                catalog.limits().default_queue_type.name(),
            )
        })
        .await?;
    let wanted = Wanted::default().seen_by(&caller);
    let wanted = Wanted {
        vhosts: (!caller.is_monitor()).then(|| vhosts.iter().map(Name::to_string).collect()),
        ..wanted
    };
    let mut all = part(&api, &wanted, &listing).await?;
    let query = listing.query.clone();
    let question = Question::Overview { wanted, query };
    let heard = api.ask_others::<Part>(&question).await?;
    for (_, other) in heard.answers {
        all.add(other);
    }
    let mut shown = facts(&api);
    shown["unknown_nodes"] = heard.unknown.shown();
    shown["listeners"] = all.listeners.into();
    shown["contexts"] = all.contexts.into();
    extend(&mut shown, all.rates);
    shown["cluster_name"] = cluster_name.unwrap_or_else(|| api.settings.node_name.clone().into());
    shown["default_queue_type"] = queue_type.into();
    shown["object_totals"] = json!({
        "connections": all.connections,
        "channels": all.channels,
        "consumers": all.consumers,
        "exchanges": exchange_count,
        "queues": queue_count,
    });
    // The numbers themselves are newer, and of what the caller may see.
    shown["queue_totals"]["messages"] = (all.ready + all.unacked).into();
    shown["queue_totals"]["messages_ready"] = all.ready.into();
    shown["queue_totals"]["messages_unacknowledged"] = all.unacked.into();
    if !caller.is_monitor() {
        hide_totals(&mut shown);
    }
    Ok(heard.unknown.mark(body::ok(&listing.only_columns(shown))?))
}

/// What this node has to say.
pub(crate) async fn part(api: &Api, wanted: &Wanted, listing: &Listing) -> Result<Part, ApiError> {
    let queues = api.node.queues(None).await?;
    let connections = api.node.connections().await?;
    let consumers = api.node.consumers().await?;
    // A queue with partitions is shown by what they hold.
    let served = queues
        .iter()
        .filter(|queue| queue.is_served_here && !queue.is_split && wanted.is_inside(&queue.vhost));
    let consumers = consumers.iter().filter(|it| wanted.is_inside(&it.vhost));
    let mut part = Part {
        consumers: consumers.count(),
        listeners: listeners(api),
        contexts: contexts(api),
        rates: rates(api, listing),
        ..Part::default()
    };
    for queue in served {
        part.ready += queue.ready_count;
        part.unacked += queue.unacked_count;
    }
    for connection in connections.iter().filter(|it| wanted.is_seen(&it.user)) {
        part.connections += 1;
        part.channels += connection.channel_count;
    }
    Ok(part)
}

impl Part {
    fn add(&mut self, other: Self) {
        self.ready += other.ready;
        self.unacked += other.unacked;
        self.consumers += other.consumers;
        self.connections += other.connections;
        self.channels += other.channels;
        self.listeners.extend(other.listeners);
        self.contexts.extend(other.contexts);
        add(&mut self.rates, other.rates);
    }
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

/// Rates are of whole nodes: who may not see that sees none.
fn hide_totals(shown: &mut Value) {
    for key in ["message_stats", "churn_rates"] {
        shown[key] = json!({});
    }
    if let Some(totals) = shown["queue_totals"].as_object_mut() {
        totals.retain(|key, _| !key.ends_with("_details"));
    }
}

pub(crate) fn contexts(api: &Api) -> Vec<Value> {
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

fn listeners(api: &Api) -> Vec<Value> {
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
