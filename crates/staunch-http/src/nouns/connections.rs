//! `/api/connections`.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json};
use staunch_node::ConnectionInfo;
use staunch_types::field_table::Value as Field;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::{name, object},
};

/// What a client is told unless `X-Reason` says something else.
const REASON: &str = "Closed via management plugin";
/// Longest reason: a reply text is a short string with `CONNECTION_FORCED - ` before it.
const REASON_SIZE_BYTES_MAX: usize = 200;

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    shown_if(&api, &caller, |_| true).await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    shown_if(&api, &caller, |connection| connection.vhost == vhost).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(connection): Path<String>,
) -> Answer {
    let found = find(&api, &caller, &connection).await?;
    body::ok(&shown(&found, &api.settings.node_name))
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(connection): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let found = find(&api, &caller, &connection).await?;
    if found.user != caller.name && !caller.is_anybody(&["administrator"]) {
        return Err(ApiError::NotAuthorized("Not administrator user".to_owned()));
    }
    let reason = headers
        .get("x-reason")
        .and_then(|reason| reason.to_str().ok());
    let reason: String = reason
        .unwrap_or(REASON)
        .chars()
        .take(REASON_SIZE_BYTES_MAX)
        .collect();
    match api.node.close_connection(found.name, reason).await? {
        0 => Err(ApiError::NotFound),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Monitors see every connection, others their own.
async fn shown_if(api: &Api, caller: &Caller, wanted: impl Fn(&ConnectionInfo) -> bool) -> Answer {
    let connections = api.node.connections().await?;
    let seen = connections
        .iter()
        .filter(|connection| may_see(caller, connection));
    let shown = seen
        .filter(|connection| wanted(connection))
        .map(|connection| shown(connection, &api.settings.node_name));
    body::ok(&shown.collect())
}

async fn find(api: &Api, caller: &Caller, name: &str) -> Result<ConnectionInfo, ApiError> {
    let connections = api.node.connections().await?;
    let found = connections
        .into_iter()
        .find(|connection| connection.name == name);
    let found = found.ok_or(ApiError::NotFound)?;
    if may_see(caller, &found) {
        Ok(found)
    } else {
        Err(ApiError::NotAuthorized("Not monitor user".to_owned()))
    }
}

fn may_see(caller: &Caller, connection: &ConnectionInfo) -> bool {
    connection.user == caller.name || caller.is_monitor()
}

fn shown(connection: &ConnectionInfo, node_name: &str) -> Value {
    let peer = &connection.peer;
    let host = |address: Option<std::net::SocketAddr>| address.map(|it| it.ip().to_string());
    let port = |address: Option<std::net::SocketAddr>| address.map(|it| it.port());
    let given_name = peer.client_properties.get("connection_name");
    json!({
        "name": connection.name,
        "user_provided_name": given_name.and_then(Field::as_str),
        "node": node_name,
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "state": "running",
        "user": connection.user.to_string(),
        "user_who_performed_action": connection.user.to_string(),
        "vhost": connection.vhost.to_string(),
        "auth_mechanism": peer.mechanism,
        "ssl": peer.tls.is_some(),
        "ssl_protocol": peer.tls,
        "peer_host": host(peer.address),
        "peer_port": port(peer.address),
        "host": host(peer.local_address),
        "port": port(peer.local_address),
        "channels": connection.channel_count,
        "client_properties": object(peer.client_properties.as_table_ref()),
    })
}
