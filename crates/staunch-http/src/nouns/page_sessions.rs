//! `/api/staunch/v1/session`: logging in by cookie, and out again.

use std::{net::SocketAddr, time::Instant};

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse as _,
};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    page_session::{self, Found, IDLE_MAX},
};

/// Who wants in.
#[derive(Deserialize)]
pub(crate) struct LoginBody {
    user: String,
    password: String,
    path: Option<String>,
}

impl Content for LoginBody {
    const REQUIRED: &'static [&'static str] = &["user", "password"];
}

/// Which path the cookie is for.
#[derive(Default, Deserialize)]
pub(crate) struct PathAsked {
    path: Option<String>,
}

pub(crate) async fn open(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(body): Json<LoginBody>,
) -> Answer {
    // Another site's form would log its victim in as somebody else.
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return Err(ApiError::NotAuthorized("another site asks".to_owned()));
    }
    let path = page_session::cookie_path(body.path.as_deref())?;
    let name = Name::new(body.user.as_bytes()).map_err(|_| ApiError::LoginFailed)?;
    let is_near = peer.ip().to_canonical().is_loopback();
    let password = body.password.into_bytes();
    let (caller, hash) = Caller::log_in(&api, name, password, is_near).await?;
    let token = (api.settings.token)();
    let csrf = (api.settings.token)();
    let user = caller.name.clone();
    let sessions = &api.sessions;
    let found = sessions.open((&token, csrf), user, hash.as_bytes(), Instant::now());
    let cookie = page_session::set_cookie(&headers, &api.cookie_name, path, Some(&token));
    let mut response = body::ok(&shown(&caller, Some(&found)))?;
    let cookie = cookie.ok_or(ApiError::Unavailable)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

pub(crate) async fn get(State(api): State<Api>, caller: Caller, headers: HeaderMap) -> Answer {
    let token = page_session::token_of(&headers, &api.cookie_name);
    let is_basic = headers.contains_key(header::AUTHORIZATION);
    let token = token.filter(|_| !is_basic);
    let found = token.and_then(|token| api.sessions.find(&token, Instant::now()));
    body::ok(&shown(&caller, found.as_ref()))
}

/// Whoever has no session any more is out as well.
pub(crate) async fn end(
    State(api): State<Api>,
    body::Asked(asked): body::Asked<PathAsked>,
    headers: HeaderMap,
) -> Answer {
    let path = page_session::cookie_path(asked.path.as_deref())?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let Some(token) = page_session::token_of(&headers, &api.cookie_name) else {
        return Ok(response);
    };
    if let Some(found) = api.sessions.find(&token, Instant::now()) {
        found.check_csrf(&headers)?;
    }
    api.sessions.end(&token);
    let cookie = page_session::set_cookie(&headers, &api.cookie_name, path, None);
    let cookie = cookie.ok_or(ApiError::Unavailable)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn shown(caller: &Caller, session: Option<&Found>) -> Value {
    let tags: Vec<_> = caller.tags.iter().map(Name::to_string).collect();
    json!({
        "user": caller.name.to_string(),
        "tags": tags,
        "csrf_token": session.map(|session| page_session::text(&session.csrf)),
        "ends_seconds": session.map(|session| session.rest.as_secs()),
        "idle_seconds": session.map(|_| IDLE_MAX.as_secs()),
    })
}
