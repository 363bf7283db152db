//! `/api/health/checks` and other questions whose answer is that all is well.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{CatalogCommand, Change, ParameterCommand, ParameterValue};
use staunch_definitions::value_to_json;
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, with_value},
};

/// Features of RabbitMQ that clients ask for before they use them. `stream_queue` stands for
/// dead-lettering at least once in `NServiceBus`'s eyes, and that is here.
const FEATURES: [&str; 8] = [
    "classic_queue_type_delivery_support",
    "drop_unroutable_metric",
    "empty_basic_get_metric",
    "implicit_default_bindings",
    "quorum_queue",
    "stream_queue",
    "user_limits",
    "virtual_host_metadata",
];

/// The body of PUT on the cluster's name.
#[derive(Deserialize)]
pub(crate) struct ClusterName {
    name: String,
}

impl Content for ClusterName {
    const REQUIRED: &'static [&'static str] = &["name"];
}

/// No alarm is on, anywhere that this node knows of.
pub(crate) async fn alarms(State(api): State<Api>, _caller: Caller) -> Answer {
    check_alarms(&api).await
}

pub(crate) async fn local_alarms(State(api): State<Api>, _caller: Caller) -> Answer {
    check_alarms(&api).await
}

async fn check_alarms(api: &Api) -> Answer {
    let condition = api.node.condition().await?;
    let alarms = [
        ("memory", condition.has_memory_alarm),
        ("disk", condition.has_disk_alarm),
    ];
    let on = alarms.into_iter().filter(|(_, is_on)| *is_on);
    let on: Vec<_> = on
        .map(|(resource, _)| json!({"node": api.settings.node_name, "resource": resource}))
        .collect();
    if on.is_empty() {
        return ok();
    }
    failed(
        "There are alarms in effect in the cluster",
        json!({"alarms": on}),
    )
}

pub(crate) async fn virtual_hosts(State(api): State<Api>, _caller: Caller) -> Answer {
    // They cannot fail one by one; a node that answers has them all.
    api.node.condition().await?;
    ok()
}

/// Whether the other nodes are a majority of everything without this one.
pub(crate) async fn quorum_critical(State(api): State<Api>, _caller: Caller) -> Answer {
    if api.node.cluster_status().await?.is_none() {
        return body::ok(&json!({"status": "ok", "reason": "single node cluster"}));
    }
    let me = name(&api.settings.node_name)?;
    let check = api.node.stops_with(me).await?.ok_or(ApiError::NotFound)?;
    if check.is_safe() {
        return ok();
    }
    let queues = check.queues.iter();
    let queues =
        queues.map(|(vhost, queue)| json!({"name": queue.to_string(), "vhost": vhost.to_string()}));
    failed(
        "There are quorum queues that would lose their quorum if the target node is shut down",
        json!({"queues": queues.collect::<Vec<_>>()}),
    )
}

pub(crate) async fn mirror_sync_critical(State(api): State<Api>, _caller: Caller) -> Answer {
    let reason = match api.node.cluster_status().await? {
        None => "single node cluster",
        Some(_) => "no mirrored queues",
    };
    body::ok(&json!({"status": "ok", "reason": reason}))
}

pub(crate) async fn port_listener(
    State(api): State<Api>,
    _caller: Caller,
    Path(port): Path<String>,
) -> Answer {
    let port: u16 = port
        .parse()
        .map_err(|_| ApiError::BadRequest("Invalid port".to_owned()))?;
    let listeners = api.settings.listeners.iter();
    let ports: Vec<_> = listeners.map(|listener| listener.address.port()).collect();
    if ports.contains(&port) {
        return body::ok(&json!({"status": "ok", "port": port}));
    }
    failed(
        "No active listener",
        json!({"missing": port, "ports": ports}),
    )
}

pub(crate) async fn protocol_listener(
    State(api): State<Api>,
    _caller: Caller,
    Path(protocol): Path<String>,
) -> Answer {
    let listeners = api.settings.listeners.iter();
    let protocols: Vec<_> = listeners.map(|listener| listener.protocol).collect();
    let wanted = protocol.trim().to_lowercase();
    let wanted = match wanted.as_str() {
        "amqp091" | "amqp0.9.1" => "amqp",
        "amqps" => "amqp/ssl",
        "https" => "http",
        other => other,
    };
    if protocols.contains(&wanted) {
        return body::ok(&json!({"status": "ok", "protocol": protocol}));
    }
    failed(
        "No active listener",
        json!({"missing": protocol, "protocols": protocols}),
    )
}

/// Certificates are read again when they change; how long they are good is not looked at here yet,
/// so only a node without TLS passes.
pub(crate) async fn certificate_expiration(
    State(api): State<Api>,
    _caller: Caller,
    Path((within, unit)): Path<(String, String)>,
) -> Answer {
    let wrong = |text: &str| ApiError::BadRequest(text.to_owned());
    within
        .parse::<u32>()
        .map_err(|_| wrong("Invalid expiration value."))?;
    if !["days", "weeks", "months", "years"].contains(&unit.as_str()) {
        return Err(wrong(
            "Time unit not recognised. Supported units: days, weeks, months, years.",
        ));
    }
    let mut listeners = api.settings.listeners.iter();
    if listeners.any(|listener| listener.protocol == "amqp/ssl") {
        return failed("The expiry of certificates is not known", json!({}));
    }
    ok()
}

/// This node takes requests. For load balancers and orchestrators, which do not log in.
pub(crate) async fn in_service(State(api): State<Api>) -> Answer {
    if api.node.condition().await?.is_stopping {
        return failed("this node is stopping", json!({}));
    }
    ok()
}

/// As in RabbitMQ, where the size that is aimed at is 1 unless it is configured, a node that answers
/// is enough.
pub(crate) async fn target_cluster_size(State(api): State<Api>) -> Answer {
    api.node.condition().await?;
    ok()
}

/// Another connection would be let in.
pub(crate) async fn connection_limit(State(api): State<Api>) -> Answer {
    let condition = api.node.condition().await?;
    if condition.has_room_for_connections && !condition.is_stopping {
        return ok();
    }
    failed(
        "the limit on connections of this node is reached",
        json!({}),
    )
}

pub(crate) async fn aliveness(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    caller.enter(&api, &name(&vhost)?).await?;
    ok()
}

pub(crate) async fn node(State(api): State<Api>, _caller: Caller) -> Answer {
    api.node.condition().await?;
    ok()
}

pub(crate) async fn feature_flags(_caller: Caller) -> Answer {
    let flags = FEATURES.map(|name| {
        json!({
            "name": name,
            "state": "enabled",
            "stability": "stable",
            "provided_by": "rabbit",
            "desc": "",
            "doc_url": "",
        })
    });
    body::ok(&Value::from(flags.to_vec()))
}

/// Whatever there is is enabled already.
pub(crate) async fn enable_feature(caller: Caller, Path(feature): Path<String>) -> Answer {
    caller.administrator()?;
    if !FEATURES.contains(&feature.as_str()) {
        return Err(ApiError::BadRequest("unsupported".to_owned()));
    }
    body::put(Change::Updated)
}

/// How many have tried to log in is not counted.
pub(crate) async fn login_attempts(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    caller.administrator()?;
    if node != api.settings.node_name {
        return Err(ApiError::NotFound);
    }
    body::ok(&json!([]))
}

/// Lists of things that are not here, which tools ask for all the same.
pub(crate) async fn none(_caller: Caller) -> Answer {
    body::ok(&json!([]))
}

pub(crate) async fn extensions(_caller: Caller) -> Answer {
    body::ok(&json!([{"javascript": "dispatcher.js"}]))
}

pub(crate) async fn cluster_name(State(api): State<Api>, _caller: Caller) -> Answer {
    let name = api
        .node
        .read(|catalog| catalog.global_parameter(b"cluster_name").map(value_to_json));
    let name = name.await?;
    let name = name.unwrap_or_else(|| api.settings.node_name.clone().into());
    body::ok(&json!({"name": name}))
}

pub(crate) async fn set_cluster_name(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<ClusterName>,
) -> Answer {
    caller.administrator()?;
    let command = ParameterCommand::SetGlobal {
        name: Name::from_static("cluster_name"),
        value: with_value(&Value::String(body.name), ParameterValue::new)?,
    };
    api.node.apply(CatalogCommand::Parameter(command)).await?;
    body::put(Change::Updated)
}

/// Without login: the version that clients are told.
pub(crate) async fn version(State(api): State<Api>) -> Answer {
    body::ok(&json!(api.settings.product_version))
}

pub(crate) async fn auth(_caller: Caller) -> Answer {
    body::ok(&json!({"oauth_enabled": false, "enable_uaa": false}))
}

fn ok() -> Answer {
    body::ok(&json!({"status": "ok"}))
}

/// 503, which tools go by.
#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn failed(reason: &str, more: Value) -> Answer {
    let mut shown = json!({"status": "failed", "reason": reason});
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    let response: Response = body::json(StatusCode::SERVICE_UNAVAILABLE, &shown);
    Ok(response)
}
