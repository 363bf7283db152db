//! `/api/channels` and `/api/consumers`.

use std::net::SocketAddr;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use staunch_node::{ChannelInfo, ConsumerInfo};
use staunch_stats::{Round, Window};
use staunch_types::{ChannelNumber, Name};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::{name, object},
    listing::Listing,
    nouns::connections,
    rates::message_stats,
};

/// How long a delivery may wait for its acknowledgement unless the queue says something else,
/// milliseconds (RabbitMQ).
const CONSUMER_TIMEOUT_MILLIS: u64 = 1_800_000;

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    shown_if(&api, &caller, &listing, |_| true).await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    shown_if(&api, &caller, &listing, |channel| channel.vhost == vhost).await
}

pub(crate) async fn list_connection(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(connection): Path<String>,
) -> Answer {
    let found = connections::find(&api, &caller, &connection).await?;
    shown_if(&api, &caller, &listing, |it| it.connection == found.id).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(channel): Path<String>,
) -> Answer {
    let channels = api.node.channels().await?;
    let found = channels.into_iter().find(|it| channel_name(it) == channel);
    let found = found.ok_or(ApiError::NotFound)?;
    if found.user != caller.name && !caller.is_monitor() {
        return Err(ApiError::NotAuthorized("Not monitor user".to_owned()));
    }
    let consumers = api.node.consumers().await?;
    let own = consumers.iter().filter(|consumer| {
        (consumer.connection, consumer.channel) == (found.connection, found.number)
    });
    let mut row = shown(&api, &found, listing.windows.messages);
    row["consumer_details"] = own.map(|it| shown_consumer(&api, it)).collect();
    body::ok(&listing.only_columns(row))
}

pub(crate) async fn consumers(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let consumers = api.node.consumers().await?;
    let seen = consumers.iter().filter(|it| vhosts.contains(&it.vhost));
    listing.answer(seen.map(|it| shown_consumer(&api, it)).collect())
}

pub(crate) async fn consumers_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let consumers = api.node.consumers().await?;
    let inside = consumers.iter().filter(|it| it.vhost == vhost);
    listing.answer(inside.map(|it| shown_consumer(&api, it)).collect())
}

/// Monitors see every channel, others their own.
async fn shown_if(
    api: &Api,
    caller: &Caller,
    listing: &Listing,
    wanted: impl Fn(&ChannelInfo) -> bool,
) -> Answer {
    let channels = api.node.channels().await?;
    let seen = channels
        .iter()
        .filter(|channel| caller.is_monitor() || channel.user == caller.name)
        .filter(|channel| wanted(channel));
    let window = listing.windows.messages;
    listing.answer(seen.map(|channel| shown(api, channel, window)).collect())
}

fn channel_name(channel: &ChannelInfo) -> String {
    format!("{} ({})", channel.connection_name, channel.number)
}

fn shown(api: &Api, channel: &ChannelInfo, window: Option<Window>) -> Value {
    let counts = &channel.counts;
    let statistics = api.statistics.read();
    let known = statistics.connection(channel.connection);
    let known = known.and_then(|known| known.channels.get(&channel.number));
    let known = known.filter(|(opening, _)| *opening == channel.opening);
    let round: &Round = statistics.round();
    json!({
        "name": channel_name(channel),
        "number": channel.number.0,
        "node": api.settings.node_name,
        "user": channel.user.to_string(),
        "user_who_performed_action": channel.user.to_string(),
        "vhost": channel.vhost.to_string(),
        "state": "running",
        "connection_details": connection_details(&channel.connection_name, channel.peer),
        "consumer_count": channel.consumer_count,
        "confirm": counts.numbered > 0,
        "transactional": channel.is_transactional,
        "prefetch_count": 0,
        "global_prefetch_count": channel.prefetch_global,
        "messages_unacknowledged": channel.unacked_count,
        "messages_unconfirmed": counts.unconfirmed(),
        "messages_uncommitted": channel.uncommitted_count,
        "acks_uncommitted": 0,
        "message_stats": message_stats(known.map(|(_, series)| series), round, window),
    })
}

pub(crate) fn shown_consumer(api: &Api, consumer: &ConsumerInfo) -> Value {
    let status = if consumer.is_active { "up" } else { "waiting" };
    json!({
        "consumer_tag": consumer.tag.to_string(),
        "queue": queue_details(&consumer.vhost, &consumer.queue),
        "channel_details": channel_details(
            api,
            (&consumer.connection_name, consumer.channel),
            &consumer.user,
            consumer.peer,
        ),
        "ack_required": consumer.is_acking,
        "exclusive": consumer.is_exclusive,
        "active": consumer.is_active,
        "activity_status": status,
        "prefetch_count": consumer.prefetch,
        "consumer_timeout": CONSUMER_TIMEOUT_MILLIS,
        "arguments": object(consumer.arguments.as_table_ref()),
    })
}

fn queue_details(vhost: &Name, queue: &Name) -> Value {
    json!({"name": queue.to_string(), "vhost": vhost.to_string()})
}

fn channel_details(
    api: &Api,
    (connection, number): (&str, ChannelNumber),
    user: &Name,
    peer: Option<SocketAddr>,
) -> Value {
    let mut details = connection_details(connection, peer);
    details["connection_name"] = connection.into();
    details["name"] = format!("{connection} ({number})").into();
    details["number"] = number.0.into();
    details["node"] = api.settings.node_name.clone().into();
    details["user"] = user.to_string().into();
    details
}

fn connection_details(connection: &str, peer: Option<SocketAddr>) -> Value {
    json!({
        "name": connection,
        "peer_host": peer.map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string()),
        "peer_port": peer.map_or(0, |peer| peer.port()),
    })
}
