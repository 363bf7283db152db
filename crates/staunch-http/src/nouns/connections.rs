//! `/api/connections`.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json};
use staunch_node::ConnectionInfo;
use staunch_stats::{ConnectionStats, TRAFFIC_NAMES, Window};
use staunch_types::{Name, field_table::Value as Field};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::{name, object},
    listing::{Head, Listing},
    question::{Question, Wanted},
    rates::{extend, moving},
};

/// What a client is told unless `X-Reason` says something else.
const REASON: &str = "Closed via management plugin";
/// Longest reason: a reply text is a short string with `CONNECTION_FORCED - ` before it.
const REASON_SIZE_BYTES_MAX: usize = 200;

/// A connection, here or elsewhere.
pub(crate) struct Found {
    row: Value,
    /// The other node that has it.
    node: Option<Name>,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    list_of(&api, &caller, &listing, Wanted::default()).await
}

pub(crate) async fn list_user(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(user): Path<String>,
) -> Answer {
    let wanted = Wanted {
        user: Some(user),
        ..Wanted::default()
    };
    list_of(&api, &caller, &listing, wanted).await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    caller.enter(&api, &name(&vhost)?).await?;
    let wanted = Wanted {
        vhosts: Some(vec![vhost]),
        ..Wanted::default()
    };
    list_of(&api, &caller, &listing, wanted).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(connection): Path<String>,
) -> Answer {
    let found = find(&api, &caller, &connection, &listing).await?;
    body::ok(&listing.only_columns(found.row))
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(connection): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let found = find(&api, &caller, &connection, &Listing::default()).await?;
    may_close(&caller, &found.row["user"])?;
    match close(&api, found.node, connection, reason(&headers)).await? {
        0 => Err(ApiError::NotFound),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Closes every connection of a user that the caller may close; names the nodes that were not heard
/// of, whose connections stay.
pub(crate) async fn delete_user(
    State(api): State<Api>,
    caller: Caller,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Answer {
    may_close(&caller, &Value::from(user.as_str()))?;
    let wanted = Wanted {
        user: Some(user),
        ..Wanted::default()
    };
    let listing = Listing::default();
    let rows = own(&api, &wanted, &listing).await?;
    let mut found: Vec<_> = rows.into_iter().map(|row| (None, row)).collect();
    let query = listing.query.clone();
    let question = Question::Connections { wanted, query };
    let heard = api.ask_others::<Head>(&question).await?;
    for (node, head) in heard.answers {
        found.extend(
            head.into_rows()
                .into_iter()
                .map(|row| (Some(node.clone()), row)),
        );
    }
    for (node, row) in found {
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        // One that has gone meanwhile is closed.
        close(&api, node, name, reason(&headers)).await?;
    }
    Ok(heard.unknown.mark(StatusCode::NO_CONTENT.into_response()))
}

fn may_close(caller: &Caller, owner: &Value) -> Result<(), ApiError> {
    if caller.is_called(owner) {
        return Ok(());
    }
    caller.administrator()
}

/// Closes a connection of this node's or another's clients: how many of that name there were.
async fn close(
    api: &Api,
    node: Option<Name>,
    name: String,
    reason: String,
) -> Result<usize, ApiError> {
    let Some(node) = node else {
        return api.node.close_connection(name, reason).await;
    };
    let question = Question::Close { name, reason };
    let closed = api.ask_node(node, &question).await;
    closed.ok_or(ApiError::Unavailable)
}

/// What a client is told.
fn reason(headers: &HeaderMap) -> String {
    let reason = headers
        .get("x-reason")
        .and_then(|reason| reason.to_str().ok());
    reason
        .unwrap_or(REASON)
        .chars()
        .take(REASON_SIZE_BYTES_MAX)
        .collect()
}

/// Monitors see every connection, others their own.
async fn list_of(api: &Api, caller: &Caller, listing: &Listing, wanted: Wanted) -> Answer {
    let wanted = wanted.seen_by(caller);
    let rows = own(api, &wanted, listing).await?;
    let query = listing.query.clone();
    let question = Question::Connections { wanted, query };
    api.list(listing, rows, &question).await
}

/// Those of this node's clients.
pub(crate) async fn own(
    api: &Api,
    wanted: &Wanted,
    listing: &Listing,
) -> Result<Vec<Value>, ApiError> {
    let connections = api.node.connections().await?;
    let wanted = connections
        .iter()
        .filter(|it| wanted.takes(&it.user, &it.vhost, &it.name));
    Ok(wanted
        .map(|it| shown(api, it, listing.windows.data))
        .collect())
}

pub(crate) async fn find(
    api: &Api,
    caller: &Caller,
    name: &str,
    listing: &Listing,
) -> Result<Found, ApiError> {
    let wanted = Wanted {
        connection: Some(name.to_owned()),
        ..Wanted::default()
    };
    let here = own(api, &wanted, listing).await?.into_iter().next();
    let found = if let Some(row) = here {
        Found { row, node: None }
    } else {
        let query = listing.query.clone();
        let question = Question::Connections { wanted, query };
        let heard = api.ask_others::<Head>(&question).await?;
        let mut rows = heard.answers.into_iter().filter_map(|(node, head)| {
            let row = head.into_first()?;
            let node = Some(node);
            Some(Found { row, node })
        });
        rows.next().ok_or(ApiError::NotFound)?
    };
    if caller.is_monitor() || caller.is_called(&found.row["user"]) {
        Ok(found)
    } else {
        Err(ApiError::NotAuthorized("Not monitor user".to_owned()))
    }
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
