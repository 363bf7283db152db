//! `/api/staunch/v1/stream`: several GETs of this interface on one connection, again and again, as
//! server-sent events (WHATWG HTML, 9.2).
//!
//! Whoever shows things says once what it looks at. Every interval each of these paths is asked for
//! again, by the router that would have answered it and for the same caller, and what has changed is
//! sent. So there is nothing that a stream shows and a GET does not, permissions are asked each time, and
//! a stream costs what its GETs cost. Changes are not pushed from where they happen: most of what is
//! shown are rates and counts, which change in every round.
//!
//! One answer at a time is on its way to a client. While it does not take it nothing is asked for, so
//! one that is slow sees fewer changes and holds no more than that answer.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, Request, StatusCode, Uri, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{self, MissedTickBehavior},
};
use tower_service::Service as _;

use crate::{
    Api,
    auth::Caller,
    body::{Answer, Asked},
    error::ApiError,
    others::UNKNOWN_NODES,
    statistics::wall_millis,
};

/// Streams at once, of all kinds; more are refused with 503.
const STREAMS_MAX: usize = 64;
/// Paths that one stream asks for.
const PATHS_MAX: usize = 8;
/// Largest answer that is sent, in bytes.
const ANSWER_SIZE_BYTES_MAX: usize = 2 << 20;
/// From one round to the next, milliseconds.
const INTERVAL_MILLIS: std::ops::RangeInclusive<u64> = 500..=60_000;
/// Unless something else is asked for, milliseconds.
const INTERVAL_MILLIS_DEFAULT: u64 = 1_000;

/// A stream rests for so many times as long as its round took, so that what is shown of very many
/// queues takes little of the machine,
const RESTS_PER_ROUND: u32 = 30;
/// but not for longer than this.
const REST_MAX: Duration = Duration::from_secs(5);

/// What streams need beside what every handler has.
#[derive(Clone)]
pub(crate) struct Streams {
    /// Answers what a stream asks for. It does not know streams.
    router: Router,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// What a stream asks for, and for whom.
struct Watch {
    api: Api,
    router: Router,
    paths: Vec<Path>,
    /// What every request has: who asks, and from where.
    parts: Parts,
    interval: Duration,
    hashes: RandomState,
}

/// A path that is asked for again and again.
struct Path {
    uri: Uri,
    /// Of what was sent last.
    hash: Option<u64>,
}

/// An answer as it is sent.
struct Answered {
    status: StatusCode,
    /// JSON, or none.
    body: Option<String>,
    unknown_nodes: Vec<String>,
}

/// Nobody reads the stream any more.
pub(super) struct Gone;

impl Streams {
    pub(crate) fn new(router: Router, stopping: watch::Receiver<bool>) -> Self {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        Self {
            router,
            places,
            stopping,
        }
    }

    /// A stream of what `work` sends, until its client has gone, the node stops, or `work` says why
    /// there is no more.
    pub(super) fn begin<W, F>(mut self, work: W) -> Answer
    where
        W: FnOnce(mpsc::Sender<Event>) -> F,
        F: Future<Output = Result<ApiError, Gone>> + Send + 'static,
    {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| ApiError::Busy)?;
        let (sender, receiver) = mpsc::channel(1);
        let working = work(sender.clone());
        tokio::spawn(async move {
            let reason = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => "the node stops".to_owned(),
                () = sender.closed() => return,
                ended = working => match ended {
                    Ok(refusal) => refusal.to_string(),
                    Err(Gone) => return,
                },
            };
            let end = Event::default().event("end");
            let end = end.data(json!({"reason": reason}).to_string());
            // Who has not even taken what came before learns it from the end itself.
            if sender.try_send(end).is_err() {
                tracing::debug!(
                    event = "http.stream_ended",
                    reason,
                    "a slow stream has ended"
                );
            }
        });
        let sent = Sent {
            receiver,
            _place: place,
        };
        // Proxies that gather answers would hold events back (nginx).
        Ok(([("x-accel-buffering", "no")], Sse::new(sent)).into_response())
    }
}

pub(crate) async fn follow(
    State(api): State<Api>,
    _caller: Caller,
    streams: Option<Extension<Streams>>,
    Asked(asked): Asked<Vec<(String, String)>>,
    parts: Parts,
) -> Answer {
    let Some(Extension(streams)) = streams else {
        return Err(ApiError::BadRequest("a stream holds no streams".to_owned()));
    };
    let mut watch = Watch {
        api,
        router: streams.router.clone(),
        paths: paths(&asked)?,
        interval: interval(&asked)?,
        parts: credentials(&parts),
        hashes: RandomState::new(),
    };
    streams.begin(move |sender| async move { watch.rounds(&sender).await })
}

fn paths(asked: &[(String, String)]) -> Result<Vec<Path>, ApiError> {
    let paths = asked.iter().filter(|(key, _)| key == "get");
    let paths: Vec<_> = paths.map(|(_, path)| path).collect();
    if !(1..=PATHS_MAX).contains(&paths.len()) {
        let reason = format!("a stream asks for 1 to {PATHS_MAX} paths");
        return Err(ApiError::BadRequest(reason));
    }
    let read = |path: &String| match path.parse::<Uri>() {
        Ok(uri) if path.starts_with("/api/") => Ok(Path { uri, hash: None }),
        Ok(_) | Err(_) => {
            let reason = format!("no path below /api: {path}");
            Err(ApiError::BadRequest(reason))
        }
    };
    paths.into_iter().map(read).collect()
}

fn interval(asked: &[(String, String)]) -> Result<Duration, ApiError> {
    let said = asked.iter().find(|(key, _)| key == "interval");
    let millis = said.map_or(Some(INTERVAL_MILLIS_DEFAULT), |(_, said)| said.parse().ok());
    match millis.filter(|millis| INTERVAL_MILLIS.contains(millis)) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(ApiError::BadRequest(format!(
            "interval is a number of milliseconds from {} to {}",
            INTERVAL_MILLIS.start(),
            INTERVAL_MILLIS.end()
        ))),
    }
}

/// Of a request what says who asks, and from where.
pub(super) fn credentials(parts: &Parts) -> Parts {
    let (mut own, ()) = Request::new(()).into_parts();
    for name in [header::AUTHORIZATION, header::COOKIE] {
        for value in parts.headers.get_all(&name) {
            own.headers.append(name.clone(), value.clone());
        }
    }
    if let Some(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        own.extensions.insert(*peer);
    }
    own
}

impl Watch {
    /// Round after round; why there is no other.
    async fn rounds(&mut self, sender: &mpsc::Sender<Event>) -> Result<ApiError, Gone> {
        let mut rounds = time::interval(self.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let caller = Caller::from_request_parts(&mut self.parts.clone(), &self.api).await;
            let caller = match caller {
                Ok(caller) => caller,
                // It may be there again in the next round.
                Err(ApiError::Unavailable) => continue,
                Err(refusal) => return Ok(refusal),
            };
            self.parts.extensions.insert(caller);
            let mut taken = Duration::ZERO;
            for at in 0..self.paths.len() {
                let free = sender.reserve().await.map_err(|_| Gone)?;
                let asked_at = Instant::now();
                let change = self.ask(at).await;
                taken += asked_at.elapsed();
                if let Some(change) = change {
                    free.send(change);
                }
            }
            self.parts.extensions.remove::<Caller>();
            let tick = json!({"at": wall_millis(), "node": self.api.settings.node_name});
            let tick = Event::default().event("tick").data(tick.to_string());
            sender.send(tick).await.map_err(|_| Gone)?;
            time::sleep((taken * RESTS_PER_ROUND).min(REST_MAX)).await;
        }
    }

    /// What is said of a path, if that is something else than before.
    async fn ask(&mut self, at: usize) -> Option<Event> {
        let mut request = Request::from_parts(self.parts.clone(), Body::empty());
        *request.uri_mut() = self.paths[at].uri.clone();
        let response = self.router.call(request).await;
        let data = read(response.unwrap_or_else(|never| match never {}))
            .await
            .shown();
        let hash = Some(self.hashes.hash_one(&data));
        if std::mem::replace(&mut self.paths[at].hash, hash) == hash {
            return None;
        }
        Some(Event::default().event(at.to_string()).data(data))
    }
}

/// Reads an answer of this interface.
async fn read(response: Response) -> Answered {
    let (parts, body) = response.into_parts();
    let is_json = parts.headers.get(header::CONTENT_TYPE);
    let is_json = is_json.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let unknown_nodes = unknown_nodes(&parts.headers);
    let Ok(bytes) = to_bytes(body, ANSWER_SIZE_BYTES_MAX).await else {
        let error = ApiError::BodyTooLarge(ANSWER_SIZE_BYTES_MAX);
        return Answered {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            body: Some(json!({"error": "too_large", "reason": error.to_string()}).to_string()),
            unknown_nodes,
        };
    };
    Answered {
        status: parts.status,
        body: String::from_utf8(bytes.into())
            .ok()
            .filter(|body| is_json && !body.is_empty()),
        unknown_nodes,
    }
}

fn unknown_nodes(headers: &HeaderMap) -> Vec<String> {
    let names = headers.get(UNKNOWN_NODES).and_then(|it| it.to_str().ok());
    let names = names.into_iter().flat_map(|names| names.split(", "));
    names.map(str::to_owned).collect()
}

impl Answered {
    /// One line: JSON of this interface has no other.
    fn shown(self) -> String {
        let status = self.status.as_u16();
        let body = self.body.unwrap_or_else(|| Value::Null.to_string());
        let unknown = Value::from(self.unknown_nodes);
        format!(r#"{{"status":{status},"body":{body},"unknown_nodes":{unknown}}}"#)
    }
}

/// A stream as its client gets it.
struct Sent {
    receiver: mpsc::Receiver<Event>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Sent {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|event| event.map(Ok))
    }
}
