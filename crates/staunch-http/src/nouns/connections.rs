//! `/api/connections`.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json};
use staunch_node::ConnectionInfo;
use staunch_stats::{ConnectionStats, TRAFFIC_NAMES, Window};
use staunch_types::field_table::Value as Field;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::{name, object},
    listing::Listing,
    rates::{extend, moving},
};

/// What a client is told unless `X-Reason` says something else.
const REASON: &str = "Closed via management plugin";
/// Longest reason: a reply text is a short string with `CONNECTION_FORCED - ` before it.
const REASON_SIZE_BYTES_MAX: usize = 200;

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    shown_if(&api, &caller, &listing, |_| true).await
}

pub(crate) async fn list_user(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(user): Path<String>,
) -> Answer {
    let user = name(&user)?;
    shown_if(&api, &caller, &listing, |connection| {
        connection.user == user
    })
    .await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    shown_if(&api, &caller, &listing, |connection| {
        connection.vhost == vhost
    })
    .await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(connection): Path<String>,
) -> Answer {
    let found = find(&api, &caller, &connection).await?;
    body::ok(&listing.only_columns(shown(&api, &found, listing.windows.data)))
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
async fn shown_if(
    api: &Api,
    caller: &Caller,
    listing: &Listing,
    wanted: impl Fn(&ConnectionInfo) -> bool,
) -> Answer {
    let connections = api.node.connections().await?;
    let seen = connections
        .iter()
        .filter(|connection| may_see(caller, connection));
    let shown = seen
        .filter(|connection| wanted(connection))
        .map(|connection| shown(api, connection, listing.windows.data));
    listing.answer(shown.collect())
}

pub(crate) async fn find(
    api: &Api,
    caller: &Caller,
    name: &str,
) -> Result<ConnectionInfo, ApiError> {
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

fn shown(api: &Api, connection: &ConnectionInfo, window: Option<Window>) -> Value {
    let peer = &connection.peer;
    let host = |address: Option<std::net::SocketAddr>| address.map(|it| it.ip().to_string());
    let port = |address: Option<std::net::SocketAddr>| address.map(|it| it.port());
    let given_name = peer.client_properties.get("connection_name");
    let mut shown = json!({
        "name": connection.name,
        "user_provided_name": given_name.and_then(Field::as_str),
        "node": api.settings.node_name,
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
        "connected_at": connection.connected_at.0,
        "client_properties": object(peer.client_properties.as_table_ref()),
    });
    let statistics = api.statistics.read();
    let none = ConnectionStats::default();
    let known = statistics.connection(connection.id).unwrap_or(&none);
    let traffic = known.traffic;
    shown["recv_cnt"] = traffic.received_count.into();
    shown["send_cnt"] = traffic.sent_count.into();
    shown["send_pend"] = traffic.waiting_bytes.into();
    let round = statistics.round();
    extend(
        &mut shown,
        moving(&TRAFFIC_NAMES, &known.bytes, round, window),
    );
    shown
}
