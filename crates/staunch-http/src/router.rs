//! Which path leads where, and what bounds every request.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use staunch_broker::PasswordHash;
use tokio::{
    sync::{Semaphore, watch},
    time,
};

use crate::{
    Api, EventLog, NodePort, PeerPort, Settings, SharedStatistics,
    auth::VERIFICATIONS_MAX,
    directory::Directory,
    error::ApiError,
    jobs::Jobs,
    nouns,
    nouns::stream::Streams,
    openapi,
    page_session::{PageSessions, cookie_name},
};

/// Largest body of a request, in bytes.
pub const BODY_SIZE_BYTES_MAX: usize = 2 << 20;
/// Largest definitions, which only administrators may send, in bytes.
pub const DEFINITIONS_SIZE_BYTES_MAX: usize = 20 << 20;
/// Requests that are worked on at once; more are refused with 503.
pub const REQUESTS_MAX: usize = 256;
/// Time that a request may take in all, its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The interface of a node.
#[derive(Clone)]
pub struct Interface {
    api: Api,
    routes: Router<Api>,
    stopping: watch::Receiver<bool>,
}

impl Interface {
    /// That of this node, which asks others by `peers`. Streams end when `stopping` gets true.
    #[must_use]
    pub fn new(
        node: NodePort,
        settings: Settings,
        statistics: SharedStatistics,
        peers: PeerPort,
        events: EventLog,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        // An empty password is never right.
        let decoy = PasswordHash::hash(settings.password_hashing, b"", &(settings.salt)());
        let (routes, operations) = nouns::routes().into_parts();
        let api = Api {
            document: openapi::document(&operations, settings.version).into(),
            node,
            peers,
            directory: Directory::default(),
            sessions: PageSessions::default(),
            cookie_name: cookie_name(&settings.node_name).into(),
            statistics,
            events,
            jobs: Jobs::default(),
            decoy: Arc::new(decoy),
            settings: Arc::new(settings),
            verifying: Arc::new(Semaphore::new(VERIFICATIONS_MAX)),
        };
        Self {
            api,
            routes,
            stopping,
        }
    }

    /// What serves HTTP. Requests need `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        let turns = Arc::new(Semaphore::new(REQUESTS_MAX));
        let routes = Router::new()
            .nest("/api", self.routes.clone())
            .fallback(async || ApiError::NotFound)
            .method_not_allowed_fallback(other_method)
            .layer(middleware::from_fn_with_state(turns, bounded))
            .with_state(self.api.clone());
        let streams = Streams::new(trimming(routes.clone()), self.stopping.clone());
        let routes = trimming(routes.layer(Extension(streams)));
        routes.layer(middleware::from_fn(unchallenged))
    }

    /// Answers the interface of another node; none if there is no answer.
    pub async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.api.answer(question).await
    }
}

/// Paths are changed before they are looked up.
fn trimming(routes: Router) -> Router {
    Router::new()
        .fallback_service(routes)
        .layer(middleware::from_fn(trimmed))
}

/// The methods that there are come with the answer, which is no error if that was the question.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    ApiError::MethodNotAllowed.into_response()
}

/// The page asks for passwords itself: a challenge would have the browser do so.
async fn unchallenged(request: Request, next: Next) -> Response {
    let by = request.headers().get("x-requested-with");
    let is_page = by.is_some_and(|by| by.as_bytes() == b"staunch-page");
    let mut response = next.run(request).await;
    if is_page {
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    response
}

/// A slash at the end of a path means nothing (RabbitMQ).
async fn trimmed(mut request: Request, next: Next) -> Response {
    let uri = request.uri();
    if let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) {
        let path_and_query = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = path_and_query.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

/// Lets a request in if there is room, and ends it if it takes too long.
async fn bounded(State(turns): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_turn) = turns.try_acquire() else {
        return ApiError::Busy.into_response();
    };
    match time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable.into_response(),
    }
}
