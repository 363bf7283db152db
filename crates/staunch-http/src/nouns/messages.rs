//! `/api/exchanges/{vhost}/{name}/publish`, `/api/queues/{vhost}/{name}/get` and `…/contents`: for
//! a look, not for traffic.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_types::{
    Delivery, Event, Message, Outcome, PublishSeq, Reply, Request,
    properties::{Properties, PropertiesBuilder},
    request::{Publish, Settle},
};

use super::exchanges::named;
use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json, Number},
    error::ApiError,
    json::{name, object, table},
    session::{CHANNEL, Session},
};

/// Bytes of payloads after which no more messages are got for one answer.
const GOT_SIZE_BYTES_MAX: usize = 20 << 20;

/// The body of a publish. All of it must be there.
#[derive(Deserialize)]
pub(crate) struct PublishBody {
    routing_key: String,
    payload: String,
    payload_encoding: String,
    properties: Value,
}

impl Content for PublishBody {
    const REQUIRED: &'static [&'static str] =
        &["routing_key", "properties", "payload", "payload_encoding"];
}

/// The body of a get. All but `truncate` must be there.
#[derive(Deserialize)]
pub(crate) struct GetBody {
    count: Number,
    ackmode: String,
    encoding: String,
    /// Bytes of a payload that are shown.
    truncate: Option<Number>,
}

impl Content for GetBody {
    const REQUIRED: &'static [&'static str] = &["ackmode", "count", "encoding"];
}

pub(crate) async fn publish(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    Json(body): Json<PublishBody>,
) -> Answer {
    let (vhost, exchange) = (name(&vhost)?, named(&exchange)?);
    caller.enter(&api, &vhost).await?;
    let routing_key = name(&body.routing_key)?;
    let payload = match body.payload_encoding.as_str() {
        "string" => body.payload.into_bytes(),
        "base64" => STANDARD
            .decode(body.payload)
            .map_err(|error| ApiError::BadRequest(format!("payload: {error}")))?,
        other => {
            let reason = format!("unsupported_encoding: {other}");
            return Err(ApiError::BadRequest(reason));
        }
    };
    let properties = encode_properties(&body.properties)?;
    let message = Message::copied(&exchange, &routing_key, &properties, &payload);
    let mut session = Session::open(&api, &caller, vhost).await?;
    if session.is_alarmed {
        return Err(ApiError::Unavailable);
    }
    let publish = Request::Publish(Publish {
        channel: CHANNEL,
        seq: Some(PublishSeq(1)),
        mandatory: true,
        message,
    });
    session.say(vec![publish]).await?;
    let mut routed = true;
    loop {
        match session.hear().await.map_err(refused)? {
            Event::Confirmed { .. } => break,
            Event::Returned { .. } => routed = false,
            Event::Nacked { .. } => {
                routed = false;
                break;
            }
            _ => {}
        }
    }
    session.close().await;
    body::ok(&json!({ "routed": routed }))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    Json(body): Json<GetBody>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let is_text_shown = match body.encoding.as_str() {
        "auto" => true,
        "base64" => false,
        _ => {
            let reason = "Unsupported encoding. Please use auto or base64.";
            return Err(ApiError::BadRequest(reason.to_owned()));
        }
    };
    // What is not settled returns to its place when the session ends.
    let (no_ack, outcome) = match body.ackmode.as_str() {
        "ack_requeue_true" | "reject_requeue_true" => (false, None),
        "ack_requeue_false" => (true, None),
        "reject_requeue_false" => (false, Some(Outcome::Discard)),
        other => {
            return Err(ApiError::BadRequest(format!("unknown ackmode: {other}")));
        }
    };
    let mut session = Session::open(&api, &caller, vhost).await?;
    let mut got = Vec::new();
    let mut got_size_bytes = 0;
    let mut settles = Vec::new();
    let truncate = body
        .truncate
        .map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
    for _ in 0..body.count.0 {
        let request = Request::Get {
            channel: CHANNEL,
            queue: queue.clone(),
            no_ack,
        };
        let reply = session.ask(request).await.map_err(|error| match error {
            ApiError::Missing(reason) => ApiError::Missing(format!("NOT_FOUND - {reason}")),
            other => other,
        })?;
        let Reply::Got {
            delivery,
            ready_count,
        } = reply
        else {
            break;
        };
        got_size_bytes += delivery.message.body().len();
        got.push(shown(&delivery, ready_count, truncate, is_text_shown));
        settles.extend(outcome.map(|outcome| settle(&delivery, outcome)));
        if got_size_bytes >= GOT_SIZE_BYTES_MAX {
            break;
        }
    }
    if !settles.is_empty() {
        session.say(settles).await?;
    }
    session.close().await;
    body::ok(&Value::Array(got))
}

pub(crate) async fn purge(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let mut session = Session::open(&api, &caller, vhost).await?;
    let channel = CHANNEL;
    let purged = session.ask(Request::PurgeQueue { channel, queue }).await;
    purged.map_err(|error| match error {
        // The path names it.
        ApiError::Missing(_) => ApiError::NotFound,
        other => other,
    })?;
    session.close().await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a publish is refused with: RabbitMQ tells the reply that AMQP would give.
fn refused(error: ApiError) -> ApiError {
    match error {
        ApiError::Missing(reason) => ApiError::BadRequest(format!("404 NOT_FOUND - {reason}")),
        ApiError::NotAuthorized(reason) => {
            ApiError::BadRequest(format!("403 ACCESS_REFUSED - {reason}"))
        }
        ApiError::BadRequest(reason) => {
            ApiError::BadRequest(format!("406 PRECONDITION_FAILED - {reason}"))
        }
        other => other,
    }
}

fn settle(delivery: &Delivery, outcome: Outcome) -> Request {
    Request::Settle(Settle {
        channel: CHANNEL,
        consumer: delivery.consumer,
        queue: delivery.queue,
        first: delivery.index,
        count: 1,
        outcome,
    })
}

/// A message with the beginning of its payload.
pub(super) fn sample(delivery: &Delivery, size_bytes_max: usize) -> Value {
    shown(delivery, 0, Some(size_bytes_max), true)
}

/// A message as RabbitMQ shows it.
fn shown(
    delivery: &Delivery,
    ready_count: u64,
    truncate: Option<usize>,
    is_text_shown: bool,
) -> Value {
    let message = &delivery.message;
    let payload = message.body();
    let size_shown = truncate.map_or(payload.len(), |size| size.min(payload.len()));
    let part = &payload[..size_shown];
    let (payload_shown, encoding) = match std::str::from_utf8(part) {
        Ok(text) if is_text_shown => (text.to_owned(), "string"),
        _ => (STANDARD.encode(part), "base64"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    json!({
        "payload_bytes": payload.len(),
        "redelivered": delivery.redelivered,
        "exchange": text(message.exchange()),
        "routing_key": text(message.routing_key()),
        "message_count": ready_count,
        "properties": decode_properties(Properties::from_validated(message.properties())),
        "payload": payload_shown,
        "payload_encoding": encoding,
    })
}

/// Properties out of an object; a list without elements is what RabbitMQ makes of none.
fn encode_properties(given: &Value) -> Result<Vec<u8>, ApiError> {
    let none = Map::new();
    let given = match given {
        Value::Object(given) => given,
        Value::Array(list) if list.is_empty() => &none,
        _ => return Err(ApiError::BadRequest("properties: no object".to_owned())),
    };
    let wrong = |key: &str| ApiError::BadRequest(format!("properties: {key}"));
    let mut headers = None;
    for (key, value) in given {
        let is_right = match key.as_str() {
            "headers" => {
                headers = Some(table(value.as_object().ok_or_else(|| wrong(key))?)?);
                true
            }
            "delivery_mode" | "priority" => value.as_u64().is_some_and(|it| it <= 255),
            "timestamp" => value.is_u64(),
            _ => value.is_string(),
        };
        if !is_right {
            return Err(wrong(key));
        }
    }
    let small = |key: &str| {
        given
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|it| u8::try_from(it).ok())
    };
    let mut builder = PropertiesBuilder::new();
    if let Some(headers) = &headers {
        builder = builder.headers(headers.as_table_ref());
    }
    if let Some(mode) = small("delivery_mode") {
        builder = builder.delivery_mode(mode);
    }
    if let Some(priority) = small("priority") {
        builder = builder.priority(priority);
    }
    if let Some(seconds) = given.get("timestamp").and_then(Value::as_u64) {
        builder = builder.timestamp(seconds);
    }
    builder = with_texts(builder, given);
    let mut encoded = Vec::new();
    builder
        .encode(&mut encoded)
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    Ok(encoded)
}

/// Adds the properties that are short strings; others mean nothing (RabbitMQ).
fn with_texts<'a>(
    builder: PropertiesBuilder<'a>,
    given: &'a Map<String, Value>,
) -> PropertiesBuilder<'a> {
    let texts = given.iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some((key.as_str(), text)),
        _ => None,
    });
    texts.fold(builder, |builder, (key, text)| match key {
        "content_type" => builder.content_type(text),
        "content_encoding" => builder.content_encoding(text),
        "correlation_id" => builder.correlation_id(text),
        "reply_to" => builder.reply_to(text),
        "expiration" => builder.expiration(text),
        "message_id" => builder.message_id(text),
        "type" => builder.message_type(text),
        "user_id" => builder.user_id(text),
        "app_id" => builder.app_id(text),
        "cluster_id" => builder.cluster_id(text),
        _ => builder,
    })
}

/// The properties that are there; an empty list if there is none (RabbitMQ).
fn decode_properties(properties: Properties<'_>) -> Value {
    let mut shown = Map::new();
    for (key, value) in [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.message_type()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
        ("cluster_id", properties.cluster_id()),
    ] {
        if let Some(value) = value {
            shown.insert(key.to_owned(), String::from_utf8_lossy(value).into());
        }
    }
    for (key, value) in [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", properties.timestamp()),
    ] {
        if let Some(value) = value {
            shown.insert(key.to_owned(), value.into());
        }
    }
    if let Some(headers) = properties.headers() {
        shown.insert("headers".to_owned(), object(headers));
    }
    if shown.is_empty() {
        return json!([]);
    }
    Value::Object(shown)
}
