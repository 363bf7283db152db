//! Answers that go on: server-sent events.

use std::io::{BufRead as _, BufReader};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    http::Client,
    node::{Node, PATIENCE, until},
};

/// Streams at once.
const STREAMS_MAX: usize = 64;

/// Somebody who reads a stream.
pub(crate) struct Follower {
    lines: std::io::Lines<BufReader<ureq::BodyReader<'static>>>,
}

/// The last thing that happened in a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Follower {
    /// Begins to read, or tells why not.
    pub(crate) fn begin(node: &Node, credentials: &str, path: &str) -> Result<Self, u16> {
        Self::after(node, credentials, path, None)
    }

    /// Goes on behind an event.
    pub(crate) fn after(
        node: &Node,
        credentials: &str,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, u16> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE));
        let agent: ureq::Agent = config.build().into();
        let mut request = agent
            .get(format!("http://{}/api/staunch/v1{path}", node.http))
            .header("accept", "text/event-stream")
            .header(
                "authorization",
                format!("Basic {}", STANDARD.encode(credentials)),
            );
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.call().unwrap();
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        Ok(Self { lines })
    }

    /// None at the end, if that is a proper one.
    pub(crate) fn next(&mut self) -> Option<Told> {
        let mut told = Told {
            id: None,
            event: String::new(),
            data: Value::Null,
        };
        loop {
            let line = self.lines.next()?.unwrap();
            match line.split_once(": ") {
                Some(("id", id)) => told.id = Some(id.to_owned()),
                Some(("event", event)) => event.clone_into(&mut told.event),
                Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && !told.event.is_empty() => return Some(told),
                _ => {}
            }
        }
    }

    /// What changed in a round, by the number of its path.
    pub(crate) fn round(&mut self) -> Vec<(String, Value)> {
        let mut changes = Vec::new();
        loop {
            let told = self.next().unwrap();
            if told.event == "tick" {
                return changes;
            }
            assert!(told.event != "end", "{}", told.data);
            changes.push((told.event, told.data));
        }
    }
}

/// The path of a stream that looks at these.
pub(crate) fn stream(paths: &[&str]) -> String {
    let query: Vec<_> = paths
        .iter()
        .map(|path| format!("get={}", utf8_percent_encode(path, NON_ALPHANUMERIC)))
        .collect();
    format!("/stream?interval=500&{}", query.join("&"))
}

fn change(at: usize, status: u16, body: &Value) -> (String, Value) {
    let data = json!({"status": status, "body": body, "unknown_nodes": []});
    (at.to_string(), data)
}

#[test]
fn a_stream_tells_what_has_changed() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let paths = stream(&[
        "/api/queues?columns=name&sort=name",
        "/api/whoami",
        "/api/queues/%2F/b?columns=name",
        "/api/queues/",
    ]);
    let mut stream = Follower::begin(&node, "guest:guest", &paths).unwrap();
    let missing = json!({"error": "Object Not Found", "reason": "Not Found"});
    let me = json!({"name": "guest", "tags": ["administrator"]});
    let expected = [
        change(0, 200, &json!([])),
        change(1, 200, &me),
        change(2, 404, &missing),
        change(3, 200, &json!([])),
    ];
    assert_eq!(stream.round(), expected);
    assert_eq!(stream.round(), []);
    guest.check("PUT", "/queues/%2F/b", &json!({}), 201);
    let mut seen = Vec::new();
    while !seen.contains(&change(2, 200, &json!({"name": "b"}))) {
        seen.extend(stream.round());
    }
    assert!(seen.contains(&change(0, 200, &json!([{"name": "b"}]))));
    assert!(!seen.iter().any(|(at, _)| at == "1"), "{seen:?}");
}

#[test]
fn a_stream_shows_what_its_caller_may_see_while_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let alice = |tags: &str| {
        let alice = json!({"password": "p", "tags": tags});
        guest.ask("PUT", "/users/alice", &alice)
    };
    alice("management");
    let paths = stream(&["/api/users"]);
    let mut stream = Follower::begin(&node, "alice:p", &paths).unwrap();
    let refused = |round: &[(String, Value)]| round[0].1["status"] == 401;
    assert!(refused(&stream.round()));
    alice("administrator");
    let mut round = Vec::new();
    while round.is_empty() {
        round = stream.round();
    }
    assert_eq!(round[0].1["body"][0]["name"], "alice");
    guest.check("DELETE", "/users/alice", &Value::Null, 204);
    let end = std::iter::from_fn(|| stream.next()).last().unwrap();
    let reason = json!({"reason": "Login failed"});
    assert_eq!((end.event.as_str(), end.data), ("end", reason));
    assert_eq!(Follower::begin(&node, "alice:p", &paths).err(), Some(401));
}

#[test]
fn streams_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let begin = |path: &str| Follower::begin(&node, "guest:guest", path);
    let whoami = stream(&["/api/whoami"]);
    for wrong in [
        "/stream",
        "/stream?get=whoami",
        "/stream?get=http://elsewhere/api/whoami",
        "/stream?interval=499&get=/api/whoami",
        "/stream?interval=60001&get=/api/whoami",
        "/stream?interval=x&get=/api/whoami",
        &stream(&["/api/whoami"; 9]),
    ] {
        assert_eq!(begin(wrong).err(), Some(400), "{wrong}");
    }
    let mut nested = begin(&stream(&[&format!("/api/staunch/v1{whoami}")])).unwrap();
    assert_eq!(nested.round()[0].1["status"], 400);
    let _others: Vec<_> = (1..STREAMS_MAX).map(|_| begin(&whoami).unwrap()).collect();
    assert_eq!(begin(&whoami).err(), Some(503));
    drop(nested);
    until("a place is free", || begin(&whoami).is_ok());
}

#[test]
fn a_stream_ends_with_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let paths = stream(&["/api/overview", "/api/nodes"]);
    let mut stream = Follower::begin(&node, "guest:guest", &paths).unwrap();
    assert_eq!(stream.round().len(), 2);
    node.stop();
    let end = std::iter::from_fn(|| stream.next()).last().unwrap();
    assert_eq!(end.data, json!({"reason": "the node stops"}));
}
