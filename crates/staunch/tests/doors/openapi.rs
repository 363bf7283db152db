//! The HTTP interface against the `OpenAPI` document that it serves: every operation is called, and
//! what comes back is what the document says, neither more nor less.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use staunch_client::{ConnectOptions, Connection, QueueSpec};

use crate::{
    http::Client,
    node::Node,
    stream::{Follower, stream},
};

const DOCUMENT: &str = "/staunch/v1/openapi.json";

/// What is not said of a node that stands alone.
const ALONE: &str = "/api/staunch/v1/nodes/{node}/safe-to-stop";

/// What must have been begun.
const JOB: &str = "/api/staunch/v1/jobs/{job}";

/// What does not end by itself.
const STREAM: &str = "/api/staunch/v1/stream";

/// A method and a path as the document has it.
type Operation = (String, String);

/// Calls operations and remembers which.
struct Walk {
    client: Client,
    document: Value,
    called: BTreeSet<Operation>,
}

/// What stands in paths for what varies.
const PARTS: [(&str, &str); 10] = [
    ("{vhost}", "v"),
    ("{user}", "alice"),
    ("{queue}", "q"),
    ("{exchange}", "x"),
    ("{source}", "x"),
    ("{kind}", "q"),
    ("{destination}", "q"),
    ("{properties}", "k"),
    ("{protocol}", "amqp"),
    ("{component}", "shovel"),
];

impl Walk {
    fn new(client: Client) -> Self {
        let (status, mut document) = client.get(DOCUMENT);
        assert_eq!(status, 200);
        close(&mut document["components"]["schemas"]);
        Self {
            client,
            document,
            called: BTreeSet::new(),
        }
    }

    /// Calls an operation with a body that fits, and checks its answer; gives its body. `more` says
    /// what stands for what only this path has.
    #[track_caller]
    fn call(&mut self, method: &str, path: &str, more: &[(&str, &str)], body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, more, body);
        let responses = &self.told(method, path)["responses"];
        let response = &responses[status.to_string()];
        assert!(response.is_object(), "{method} {path}: {status} {answer}");
        let said = format!("{method} {path}: {status}");
        match &response["content"]["application/json"]["schema"] {
            Value::Null => assert_eq!(answer, Value::Null, "{said}"),
            schema => self.check(schema, &answer, &said),
        }
        answer
    }

    /// Calls an operation that cannot be done here, and checks that this is said.
    #[track_caller]
    fn refused(&mut self, method: &str, path: &str, more: &[(&str, &str)], body: &Value) {
        let (status, answer) = self.ask(method, path, more, body);
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        let schema = json!({"$ref": "#/components/schemas/Error"});
        self.check(&schema, &answer, path);
    }

    /// `path` may end with a query.
    #[track_caller]
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &Value,
    ) -> (u16, Value) {
        let told = self.told(method, path).clone();
        assert!(told.is_object(), "{method} {path} is not in the document");
        let content = &told["requestBody"]["content"]["application/json"]["schema"];
        match content {
            Value::Null => assert_eq!(*body, Value::Null, "{method} {path} takes no body"),
            schema => self.check(schema, body, path),
        }
        let operation = (method.to_lowercase(), template(path).to_owned());
        self.called.insert(operation);
        self.client.ask(method, &real(path, more), body)
    }

    fn told(&self, method: &str, path: &str) -> &Value {
        &self.document["paths"][template(path)][method.to_lowercase()]
    }

    #[track_caller]
    fn check(&self, schema: &Value, value: &Value, said: &str) {
        let mut root = schema.clone();
        root["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&root).unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{said}: {wrong:#?}\n{value:#}");
    }

    fn operations(&self) -> BTreeSet<Operation> {
        let paths = self.document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.clone(), path.clone()))
        });
        operations.collect()
    }
}

/// A path without its query.
fn template(path: &str) -> &str {
    path.split('?').next().unwrap()
}

/// A path as it is asked for, below `/api`.
fn real(path: &str, more: &[(&str, &str)]) -> String {
    let mut real = path.strip_prefix("/api").unwrap().to_owned();
    for (part, text) in more.iter().chain(&PARTS) {
        real = real.replace(part, text);
    }
    assert!(!real.contains('{'), "{real}");
    real
}

/// Lets objects have no other keys than those that are told, so that none is left out.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object
                .get("properties")
                .is_some_and(|it| it.get("$ref").is_none())
            {
                object.entry("additionalProperties").or_insert(false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_operation_is_as_the_document_says_and_there_is_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--node-name", "n1@test"]);
    let mut walk = Walk::new(Client::new(&node, "guest:guest"));
    define(&mut walk);
    let client = consumer(&node);
    let connection = look(&mut walk, &node);
    follow(&mut walk, &node);
    carry(&mut walk);
    visit(&mut walk);
    wonder(&mut walk);
    take_away(&mut walk, &connection);
    drop(client);
    assert_eq!(walk.called, walk.operations());
}

/// Everything that can be made.
fn define(walk: &mut Walk) {
    let put = "PUT";
    walk.call(
        put,
        "/api/vhosts/{vhost}",
        &[],
        &json!({"description": "d", "tags": "a,b"}),
    );
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    walk.call(
        put,
        "/api/permissions/{vhost}/{user}",
        &[("{user}", "guest")],
        &all,
    );
    let alice = json!({"password": "p", "tags": ["management"]});
    walk.call(put, "/api/users/{user}", &[], &alice);
    walk.call(put, "/api/users/{user}", &[("{user}", "bob")], &alice);
    walk.call(put, "/api/permissions/{vhost}/{user}", &[], &all);
    for exchange in ["x", "amq.topic"] {
        let topic = json!({"exchange": exchange, "write": ".*", "read": ".*"});
        walk.call(put, "/api/topic-permissions/{vhost}/{user}", &[], &topic);
    }
    let policy = json!({"pattern": "^q", "definition": {"max-length": 100}, "priority": 1});
    for path in [
        "/api/policies/{vhost}/{name}",
        "/api/operator-policies/{vhost}/{name}",
    ] {
        walk.call(put, path, &[("{name}", "p")], &policy);
    }
    let limit = [("{limit}", "max-connections")];
    walk.call(
        put,
        "/api/vhost-limits/{vhost}/{limit}",
        &limit,
        &json!({"value": 50}),
    );
    walk.call(
        put,
        "/api/user-limits/{user}/{limit}",
        &limit,
        &json!({"value": 50}),
    );
    let value = json!({"value": {"any": [1, null]}});
    let parameter = "/api/parameters/{component}/{vhost}/{name}";
    walk.call(put, parameter, &[("{name}", "s")], &value);
    walk.call(
        put,
        "/api/global-parameters/{name}",
        &[("{name}", "g")],
        &value,
    );
    walk.call(put, "/api/cluster-name", &[], &json!({"name": "here"}));
    define_queue(walk);
}

/// A queue with a message that came through an exchange.
fn define_queue(walk: &mut Walk) {
    let put = "PUT";
    let queue = json!({"durable": true, "arguments": {"x-max-length-bytes": 1_000_000}});
    walk.call(
        put,
        "/api/queues/{vhost}/{name}",
        &[("{name}", "q")],
        &queue,
    );
    let exchange = json!({"type": "topic", "durable": true, "arguments": {}});
    walk.call(
        put,
        "/api/exchanges/{vhost}/{name}",
        &[("{name}", "x")],
        &exchange,
    );
    let between = "/api/bindings/{vhost}/e/{source}/{kind}/{destination}";
    walk.call(
        "POST",
        between,
        &[],
        &json!({"routing_key": "k", "arguments": {}}),
    );
    let message = json!({
        "routing_key": "k", "payload": "hello", "payload_encoding": "string",
        "properties": {"delivery_mode": 2, "headers": {"h": 1}},
    });
    let publish = "/api/exchanges/{vhost}/{name}/publish";
    let answer = walk.call("POST", publish, &[("{name}", "x")], &message);
    assert_eq!(answer["routed"], true);
    let get = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let got = walk.call(
        "POST",
        "/api/queues/{vhost}/{name}/get",
        &[("{name}", "q")],
        &get,
    );
    assert_eq!(got[0]["payload"], "hello");
}

/// Somebody who holds a message and a queue of its own.
fn consumer(node: &Node) -> Connection {
    let url = format!("amqp://guest:guest@{}/v", node.amqp);
    let mut connection = Connection::open(&ConnectOptions::from_url(&url).unwrap()).unwrap();
    let channel = connection.open_channel().unwrap();
    let own = QueueSpec {
        exclusive: true,
        ..QueueSpec::durable("own")
    };
    connection.queue_declare(channel, &own).unwrap();
    connection.consume(channel, "q", false).unwrap();
    connection
}

/// All that can be looked at, and what can be done at each path; gives the name of the connection.
fn look(walk: &mut Walk, node: &Node) -> String {
    let connections = walk.call("GET", "/api/connections", &[], &Value::Null);
    let channels = walk.call("GET", "/api/channels", &[], &Value::Null);
    assert_eq!(connections.as_array().map(Vec::len), Some(1));
    let escaped = |name: &Value| {
        let name = name.as_str().unwrap();
        name.replace(' ', "%20").replace('>', "%3E")
    };
    let connection = escaped(&connections[0]["name"]);
    let channel = escaped(&channels[0]["name"]);
    let port = node.amqp.port().to_string();
    let operations = walk.operations();
    for (_, path) in operations.iter().filter(|(method, _)| method == "get") {
        if path == ALONE || path == STREAM || path == JOB {
            continue;
        }
        let name = match path.split('/').nth(2).unwrap() {
            "queues" | "staunch" => "q",
            "exchanges" => "x",
            "policies" | "operator-policies" => "p",
            "parameters" => "s",
            "global-parameters" => "g",
            "connections" => &connection,
            _ => "nothing has a name there",
        };
        let more = [
            ("{name}", name),
            ("{channel}", &channel),
            ("{node}", "n1@test"),
            ("{port}", &port),
            ("{within}", "1"),
            ("{unit}", "weeks"),
            (
                "{user}",
                if path.contains("username") {
                    "guest"
                } else {
                    "alice"
                },
            ),
        ];
        let asked = if path.ends_with("what-if") {
            "?rate_factor=2"
        } else {
            ""
        };
        walk.call("GET", &format!("{path}{asked}"), &more, &Value::Null);
        let response = &walk.told("GET", path)["responses"]["200"];
        if response["content"]["application/json"]["schema"]["oneOf"].is_array() {
            let page = format!("{path}?page=1&page_size=1&msg_rates_age=60&msg_rates_incr=5");
            walk.call("GET", &page, &more, &Value::Null);
        }
        let methods = walk.document["paths"][path].as_object().unwrap().keys();
        let mut methods: BTreeSet<_> = methods.map(|method| method.to_uppercase()).collect();
        methods.insert("HEAD".to_owned());
        assert_eq!(walk.client.allowed(&real(path, &more)), methods, "{path}");
    }
    let own = [("{name}", "own")];
    walk.call("GET", "/api/queues/{vhost}/{name}", &own, &Value::Null);
    connection
}

/// What a stream tells until all has been told once.
fn follow(walk: &mut Walk, node: &Node) {
    walk.called.insert(("get".to_owned(), STREAM.to_owned()));
    let content = &walk.told("GET", STREAM)["responses"]["200"]["content"];
    let schema = content["text/event-stream"]["schema"].clone();
    let paths = stream(&["/api/overview", "/api/queues/none"]);
    let mut follower = Follower::begin(node, "guest:guest", &paths).unwrap();
    let mut told = String::new();
    while told != "tick" {
        let next = follower.next().unwrap();
        walk.check(&schema, &next.data, &next.event);
        told = next.event;
    }
    walk.refused("GET", &format!("{STREAM}?interval=1"), &[], &Value::Null);
}

/// A job, from its beginning to its end.
fn carry(walk: &mut Walk) {
    let task = json!({"kind": "drop", "vhost": "v", "queue": "q", "dry_run": true});
    let job = walk.call("POST", "/api/staunch/v1/jobs", &[], &task);
    let id = [("{job}", job["id"].as_str().unwrap())];
    while walk.call("GET", JOB, &id, &Value::Null)["state"] == "running" {}
    walk.call("GET", "/api/staunch/v1/jobs", &[], &Value::Null);
    walk.call("DELETE", JOB, &id, &Value::Null);
    let look = "/api/staunch/v1/dead-letters/{vhost}/{name}";
    walk.call("POST", look, &[("{name}", "q")], &json!({"count": 1}));
}

/// In and out by cookie.
fn visit(walk: &mut Walk) {
    let session = "/api/staunch/v1/session";
    let login = json!({"user": "guest", "password": "guest", "path": "/"});
    walk.call("POST", session, &[], &login);
    walk.call("DELETE", &format!("{session}?path=/"), &[], &Value::Null);
}

/// What changes nothing, or cannot be done with one node.
fn wonder(walk: &mut Walk) {
    let question = json!({"rate_factor": 2.0, "consumers_gone_seconds": 60});
    let of_queue = "/api/staunch/v1/horizon/queues/{vhost}/{name}/what-if";
    walk.call("POST", of_queue, &[("{name}", "q")], &question);
    walk.call("POST", "/api/staunch/v1/horizon/what-if", &[], &question);
    for path in [
        "/api/staunch/v1/cluster/rebalance",
        "/api/rebalance/queues",
        "/api/vhosts/{vhost}/deletion/protection",
    ] {
        walk.call("POST", path, &[], &Value::Null);
    }
    let feature = [("{feature}", "quorum_queue")];
    let enable = "/api/feature-flags/{feature}/enable";
    walk.call("PUT", enable, &feature, &Value::Null);
    let node = [("{node}", "n2@test")];
    for (method, path) in [
        ("PUT", "/api/staunch/v1/nodes/{node}/drain"),
        ("DELETE", "/api/staunch/v1/nodes/{node}/drain"),
        ("DELETE", "/api/staunch/v1/nodes/{node}"),
        ("GET", ALONE),
    ] {
        walk.refused(method, path, &node, &Value::Null);
    }
    let change = json!({"action": "add", "node": "n2@test"});
    let replicas = "/api/staunch/v1/queues/{vhost}/{name}/replicas";
    walk.refused("POST", replicas, &[("{name}", "q")], &change);
    let definitions = walk.call("GET", "/api/definitions", &[], &Value::Null);
    walk.call("POST", "/api/definitions", &[], &definitions);
    let definitions = walk.call("GET", "/api/definitions/{vhost}", &[], &Value::Null);
    walk.call("POST", "/api/definitions/{vhost}", &[], &definitions);
}

/// All of it goes again.
fn take_away(walk: &mut Walk, connection: &str) {
    let connection = [("{name}", connection)];
    walk.call(
        "DELETE",
        "/api/connections/{name}",
        &connection,
        &Value::Null,
    );
    let protection = "/api/vhosts/{vhost}/deletion/protection";
    walk.call(
        "DELETE",
        "/api/connections/username/{user}",
        &[],
        &Value::Null,
    );
    walk.refused("DELETE", "/api/vhosts/{vhost}", &[], &Value::Null);
    walk.call("DELETE", protection, &[], &Value::Null);
    for (path, name) in [
        ("/api/queues/{vhost}/{name}/contents", "q"),
        (
            "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}",
            "",
        ),
        ("/api/queues/{vhost}/{name}", "q"),
        ("/api/exchanges/{vhost}/{name}", "x"),
        ("/api/policies/{vhost}/{name}", "p"),
        ("/api/operator-policies/{vhost}/{name}", "p"),
        ("/api/parameters/{component}/{vhost}/{name}", "s"),
        ("/api/global-parameters/{name}", "g"),
        ("/api/topic-permissions/{vhost}/{user}/{exchange}", ""),
        ("/api/topic-permissions/{vhost}/{user}", ""),
        ("/api/vhost-limits/{vhost}/{limit}", ""),
        ("/api/user-limits/{user}/{limit}", ""),
        ("/api/permissions/{vhost}/{user}", ""),
        ("/api/users/{user}", ""),
        ("/api/vhosts/{vhost}", ""),
    ] {
        let more = [("{name}", name), ("{limit}", "max-connections")];
        walk.call("DELETE", path, &more, &Value::Null);
    }
    walk.call(
        "POST",
        "/api/users/bulk-delete",
        &[],
        &json!({"users": ["bob"]}),
    );
}
