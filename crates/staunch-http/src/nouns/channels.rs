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
    listing::{Head, Listing},
    nouns::connections,
    question::{Question, Wanted},
    rates::message_stats,
};

/// How long a delivery may wait for its acknowledgement unless the queue says something else,
/// milliseconds (RabbitMQ).
const CONSUMER_TIMEOUT_MILLIS: u64 = 1_800_000;

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    list_of(&api, &caller, &listing, Wanted::default()).await
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

pub(crate) async fn list_connection(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(connection): Path<String>,
) -> Answer {
    connections::find(&api, &caller, &connection, &Listing::default()).await?;
    let wanted = Wanted {
        connection: Some(connection),
        ..Wanted::default()
    };
    list_of(&api, &caller, &listing, wanted).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(channel): Path<String>,
) -> Answer {
    let row = if let Some(row) = own_channel(&api, &channel, &listing).await? {
        row
    } else {
        let question = Question::Channel {
            name: channel,
            query: listing.query.clone(),
        };
        let heard = api.ask_others::<Option<Value>>(&question).await?;
        let mut found = heard.answers.into_iter().filter_map(|(_, row)| row);
        found.next().ok_or(ApiError::NotFound)?
    };
    if !caller.is_called(&row["user"]) && !caller.is_monitor() {
        return Err(ApiError::NotAuthorized("Not monitor user".to_owned()));
    }
    body::ok(&listing.only_columns(row))
}

pub(crate) async fn consumers(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let vhosts = vhosts.iter().map(Name::to_string).collect();
    consumers_in(&api, &listing, vhosts).await
}

pub(crate) async fn consumers_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    caller.enter(&api, &name(&vhost)?).await?;
    consumers_in(&api, &listing, vec![vhost]).await
}

async fn consumers_in(api: &Api, listing: &Listing, vhosts: Vec<String>) -> Answer {
    let wanted = Wanted {
        vhosts: Some(vhosts),
        ..Wanted::default()
    };
    let rows = own_consumers(api, &wanted).await?;
    let query = listing.query.clone();
    let question = Question::Consumers { wanted, query };
    api.list(listing, rows, &question).await
}

/// Consumers of a queue, whatever node they are connected to.
pub(crate) async fn consumers_of(
    api: &Api,
    vhost: &Name,
    queue: &Name,
) -> Result<Vec<Value>, ApiError> {
    let wanted = Wanted {
        vhosts: Some(vec![vhost.to_string()]),
        queue: Some(queue.to_string()),
        ..Wanted::default()
    };
    let mut rows = own_consumers(api, &wanted).await?;
    let query = String::new();
    let question = Question::Consumers { wanted, query };
    let heard = api.ask_others::<Head>(&question).await?;
    rows.extend(
        heard
            .answers
            .into_iter()
            .flat_map(|(_, head)| head.into_rows()),
    );
    Ok(rows)
}

/// Monitors see every channel, others their own.
async fn list_of(api: &Api, caller: &Caller, listing: &Listing, wanted: Wanted) -> Answer {
    let wanted = wanted.seen_by(caller);
    let rows = own(api, &wanted, listing).await?;
    let query = listing.query.clone();
    let question = Question::Channels { wanted, query };
    api.list(listing, rows, &question).await
}

/// Channels of this node's clients.
pub(crate) async fn own(
    api: &Api,
    wanted: &Wanted,
    listing: &Listing,
) -> Result<Vec<Value>, ApiError> {
    let channels = api.node.channels().await?;
    let wanted = channels
        .iter()
        .filter(|it| wanted.takes(&it.user, &it.vhost, &it.connection_name));
    let window = listing.windows.messages;
    Ok(wanted.map(|channel| shown(api, channel, window)).collect())
}

/// A channel of one of this node's clients, with its consumers.
pub(crate) async fn own_channel(
    api: &Api,
    channel: &str,
    listing: &Listing,
) -> Result<Option<Value>, ApiError> {
    let channels = api.node.channels().await?;
    let found = channels.into_iter().find(|it| channel_name(it) == channel);
    let Some(found) = found else {
        return Ok(None);
    };
    let consumers = api.node.consumers().await?;
    let own = consumers.iter().filter(|consumer| {
        (consumer.connection, consumer.channel) == (found.connection, found.number)
    });
    let mut row = shown(api, &found, listing.windows.messages);
    row["consumer_details"] = own.map(|it| shown_consumer(api, it)).collect();
    Ok(Some(row))
}

/// Consumers of this node's clients.
pub(crate) async fn own_consumers(api: &Api, wanted: &Wanted) -> Result<Vec<Value>, ApiError> {
    let consumers = api.node.consumers().await?;
    let is_wanted = |it: &&ConsumerInfo| {
        wanted.takes(&it.user, &it.vhost, &it.connection_name) && wanted.takes_queue(&it.queue)
    };
    let wanted = consumers.iter().filter(is_wanted);
    Ok(wanted.map(|it| shown_consumer(api, it)).collect())
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

fn shown_consumer(api: &Api, consumer: &ConsumerInfo) -> Value {
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
