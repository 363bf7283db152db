//! Plain tables, made here: for a build without the page's files, and for browsers without scripts.
//!
//! All that is shown is asked of the interface in the visitor's name, and escaped. The pages lie
//! beside each other, so that links work below any path that a proxy puts before them.

use std::fmt::Write as _;

use axum::{
    Form, Router,
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_service::Service as _;

use crate::assets::PAGE;

/// Largest answer that a table is made of, in bytes.
const ANSWER_SIZE_BYTES_MAX: usize = 16 << 20;
/// Rows of a page.
const PAGE_SIZE: usize = 100;
const SESSION: &str = "/api/staunch/v1/session";
/// Allows nothing but the style sheet and the forms.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// Who visits, as its requests say, and whom to ask.
struct Visit {
    api: Router,
    parts: Parts,
}

/// What an answer was.
struct Told {
    status: StatusCode,
    cookie: Option<HeaderValue>,
    body: Value,
}

/// Which rows.
#[derive(Default, Deserialize)]
pub(crate) struct Rows {
    page: Option<usize>,
    sort: Option<String>,
    sort_reverse: Option<String>,
    name: Option<String>,
}

/// A column: what it is called, where it is in a row, whether it is a number.
type Column = (&'static str, &'static str, bool);

const NODES: [Column; 7] = [
    ("name", "name", false),
    ("running", "running", false),
    ("memory", "mem_used", true),
    ("memory limit", "mem_limit", true),
    ("disk free", "disk_free", true),
    ("disk limit", "disk_free_limit", true),
    ("uptime, ms", "uptime", true),
];
const QUEUES: [Column; 8] = [
    ("vhost", "vhost", false),
    ("name", "name", false),
    ("type", "type", false),
    ("state", "state", false),
    ("ready", "messages_ready", true),
    ("unacked", "messages_unacknowledged", true),
    ("consumers", "consumers", true),
    ("node", "node", false),
];
const CONNECTIONS: [Column; 7] = [
    ("name", "name", false),
    ("user", "user", false),
    ("vhost", "vhost", false),
    ("state", "state", false),
    ("channels", "channels", true),
    ("received", "recv_oct", true),
    ("sent", "send_oct", true),
];

/// The pages.
pub(crate) fn routes(api: Router) -> Router {
    Router::new()
        .route("/plain", get(overview))
        .route("/plain-queues", get(queues))
        .route("/plain-connections", get(connections))
        .route("/plain-login", post(log_in))
        .route("/plain-logout", post(log_out))
        .route("/plain.css", get(style))
        .with_state(api)
}

/// The whole at a glance, and the nodes.
pub(crate) async fn overview(State(api): State<Router>, request: Request) -> Response {
    let visit = Visit::new(api, request);
    let told = visit.get("/api/overview").await;
    if told.status != StatusCode::OK {
        return refused(&told);
    }
    let mut text = String::new();
    let totals = &told.body["object_totals"];
    let messages = &told.body["queue_totals"];
    let facts = [
        ("cluster", &told.body["cluster_name"]),
        ("ready messages", &messages["messages_ready"]),
        ("unacked messages", &messages["messages_unacknowledged"]),
        ("queues", &totals["queues"]),
        ("connections", &totals["connections"]),
        ("channels", &totals["channels"]),
        ("consumers", &totals["consumers"]),
    ];
    text.push_str("<table><caption>Overview</caption><tbody>");
    for (name, value) in facts {
        push(
            &mut text,
            format_args!("<tr><th scope=row>{name}<td>{}", escaped(&shown(value))),
        );
    }
    text.push_str("</table>");
    unknown(&mut text, &told.body["unknown_nodes"]);
    let nodes = visit.get("/api/nodes").await;
    table(&mut text, "Nodes", &NODES, &nodes.body, None);
    visit.page("Overview", &text).await
}

async fn queues(State(api): State<Router>, Query(rows): Query<Rows>, request: Request) -> Response {
    listed(api, rows, request, ("Queues", "/api/queues", &QUEUES)).await
}

async fn connections(
    State(api): State<Router>,
    Query(rows): Query<Rows>,
    request: Request,
) -> Response {
    let list: List<'_> = ("Connections", "/api/connections", &CONNECTIONS);
    listed(api, rows, request, list).await
}

/// A list's title, where it comes from, and its columns.
type List<'a> = (&'a str, &'a str, &'a [Column]);

async fn listed(
    api: Router,
    rows: Rows,
    request: Request,
    (title, path, columns): List<'_>,
) -> Response {
    let visit = Visit::new(api, request);
    let page = rows.page.unwrap_or(1).max(1);
    let query = format!("?page_size={PAGE_SIZE}&page={page}{}", rows.query());
    let told = visit.get(&format!("{path}{query}")).await;
    if told.status != StatusCode::OK {
        return refused(&told);
    }
    let mut text = String::new();
    let name = escaped(rows.name.as_deref().unwrap_or_default());
    push(
        &mut text,
        format_args!(
            "<form method=get><label>Name has <input name=name value=\"{name}\"></label>\
             <button>Filter</button></form>"
        ),
    );
    table(&mut text, title, columns, &told.body["items"], Some(&rows));
    let pages = told.body["page_count"].as_u64().unwrap_or(1);
    let total = told.body["filtered_count"].as_u64().unwrap_or(0);
    push(
        &mut text,
        format_args!("<p>page {page} of {pages}, {total} in all "),
    );
    let others = [("previous", page.saturating_sub(1)), ("next", page + 1)];
    for (word, other) in others {
        if (1..=pages).contains(&(other as u64)) {
            let link = escaped(&format!("?page={other}{}", rows.query()));
            push(&mut text, format_args!("<a href=\"{link}\">{word}</a> "));
        }
    }
    visit.page(title, &text).await
}

/// Who logs in by the form.
#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn log_in(State(api): State<Router>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = Request::from_parts(parts.clone(), body);
    let login = <Form<Login> as axum::extract::FromRequest<()>>::from_request(form, &()).await;
    let Ok(Form(login)) = login else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let visit = Visit { api, parts };
    let body = json!({"user": login.user, "password": login.password});
    let told = visit.ask(Method::POST, SESSION, None, &body).await;
    match told.status {
        StatusCode::OK => back(told),
        _ => refused(&told),
    }
}

/// The token that shows that the form is ours.
#[derive(Deserialize)]
struct Leave {
    token: String,
}

async fn log_out(State(api): State<Router>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = Request::from_parts(parts.clone(), body);
    let leave = <Form<Leave> as axum::extract::FromRequest<()>>::from_request(form, &()).await;
    let Ok(Form(leave)) = leave else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let visit = Visit { api, parts };
    let token = leave.token.as_str();
    let told = visit.ask(Method::DELETE, SESSION, Some(token), &Value::Null);
    back(told.await)
}

async fn style() -> Response {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], include_str!("plain.css")).into_response()
}

/// To the tables, with the cookie as it is now.
fn back(told: Told) -> Response {
    let to = HeaderValue::from_static("plain");
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response();
    if let Some(cookie) = told.cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

impl Visit {
    fn new(api: Router, request: Request) -> Self {
        let (parts, _) = request.into_parts();
        Self { api, parts }
    }

    async fn get(&self, path: &str) -> Told {
        self.ask(Method::GET, path, None, &Value::Null).await
    }

    /// Asks the interface in the visitor's name.
    async fn ask(&self, method: Method, path: &str, csrf: Option<&str>, body: &Value) -> Told {
        let none = Told {
            status: StatusCode::BAD_REQUEST,
            cookie: None,
            body: Value::Null,
        };
        let Ok(uri) = path.parse() else {
            return none;
        };
        let mut parts = self.parts.clone();
        parts.method = method;
        parts.uri = uri;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_TYPE);
        if let Some(csrf) = csrf.and_then(|csrf| csrf.parse().ok()) {
            parts.headers.insert("x-staunch-csrf", csrf);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let asked = Request::from_parts(parts, body);
        let Ok(response) = self.api.clone().call(asked).await;
        let (status, cookie) = (
            response.status(),
            response.headers().get(header::SET_COOKIE).cloned(),
        );
        let bytes = to_bytes(response.into_body(), ANSWER_SIZE_BYTES_MAX).await;
        let body = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
        Told {
            status,
            cookie,
            body,
        }
    }

    /// A page with the way to the others.
    async fn page(&self, title: &str, content: &str) -> Response {
        let who = self.get(SESSION).await;
        let mut text = String::from("<nav>");
        for (name, to) in [
            ("Overview", "plain"),
            ("Queues", "plain-queues"),
            ("Connections", "plain-connections"),
        ] {
            push(&mut text, format_args!("<a href={to}>{name}</a> "));
        }
        if PAGE.is_some() {
            text.push_str("<a href=\"./\">The whole page</a> ");
        }
        push(
            &mut text,
            format_args!("{} ", escaped(&shown(&who.body["user"]))),
        );
        if let Some(token) = who.body["csrf_token"].as_str() {
            push(
                &mut text,
                format_args!(
                    "<form method=post action=plain-logout><input type=hidden name=token \
                     value=\"{}\"><button>Log out</button></form>",
                    escaped(token)
                ),
            );
        }
        push(
            &mut text,
            format_args!("</nav><main><h1>{title}</h1>{content}</main>"),
        );
        if PAGE.is_none() {
            text.push_str(
                "<p>This binary was built without the web page: \
                 <code>npm ci --prefix web</code> before <code>cargo build --release</code> \
                 brings it.",
            );
        }
        html(StatusCode::OK, title, &text)
    }
}

impl Rows {
    /// The query but for the page.
    fn query(&self) -> String {
        let mut query = String::new();
        let parts = [
            ("name", &self.name),
            ("sort", &self.sort),
            ("sort_reverse", &self.sort_reverse),
        ];
        for (key, value) in parts {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
                push(&mut query, format_args!("&{key}={value}"));
            }
        }
        query
    }
}

/// The form to log in, or why it is not done.
fn refused(told: &Told) -> Response {
    let status = told.status;
    let reason = told.body["reason"].as_str().unwrap_or_default();
    let mut text = format!("<main><h1>Staunch</h1><p role=alert>{}", escaped(reason));
    if status == StatusCode::UNAUTHORIZED {
        text.push_str(
            "<form method=post action=plain-login>\
             <label>User <input name=user autocomplete=username required></label>\
             <label>Password <input name=password type=password autocomplete=current-password \
             required></label><button>Log in</button></form>",
        );
    }
    text.push_str("</main>");
    html(status, "Log in", &text)
}

fn html(status: StatusCode, title: &str, content: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{title} - Staunch</title><link rel=stylesheet href=plain.css>{content}</html>"
    );
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, fixed, text).into_response()
}

/// Rows as a table; its heads sort it, if `rows` says how it is sorted.
fn table(text: &mut String, title: &str, columns: &[Column], from: &Value, rows: Option<&Rows>) {
    push(
        text,
        format_args!("<table><caption>{title}</caption><thead><tr>"),
    );
    for (name, key, is_number) in columns {
        let class = if *is_number { " class=number" } else { "" };
        push(text, format_args!("<th scope=col{class}>"));
        match rows {
            Some(rows) => {
                let is_same = rows.sort.as_deref() == Some(key);
                let is_up = is_same && rows.sort_reverse.as_deref() != Some("true");
                let asked = Rows {
                    page: None,
                    sort: Some((*key).to_owned()),
                    sort_reverse: is_up.then(|| "true".to_owned()),
                    name: rows.name.clone(),
                };
                let link = escaped(&format!("?page=1{}", asked.query()));
                push(text, format_args!("<a href=\"{link}\">{name}</a>"));
            }
            None => text.push_str(name),
        }
    }
    text.push_str("<tbody>");
    for row in from.as_array().into_iter().flatten() {
        text.push_str("<tr>");
        for (_, key, is_number) in columns {
            let class = if *is_number { " class=number" } else { "" };
            push(
                text,
                format_args!("<td{class}>{}", escaped(&shown(&row[*key]))),
            );
        }
    }
    text.push_str("</table>");
}

fn unknown(text: &mut String, nodes: &Value) {
    let names: Vec<_> = nodes.as_array().into_iter().flatten().map(shown).collect();
    if !names.is_empty() {
        let names = escaped(&names.join(", "));
        push(
            text,
            format_args!("<p class=unknown role=alert>Nothing is known of {names}."),
        );
    }
}

/// A value as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text as text, whatever stands in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a text takes all");
}

#[cfg(test)]
mod tests;
