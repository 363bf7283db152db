//! The HTTP interface: status codes, errors, and that what it says is so over AMQP.

use std::{collections::BTreeSet, fs, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    node::{Node, connect, log},
    wire::{CLOSE, OPEN_OK, TUNE, login, login_guest, open},
};

/// Somebody who asks.
pub(crate) struct Client {
    base: String,
    authorization: String,
}

impl Client {
    pub(crate) fn new(node: &Node, credentials: &str) -> Self {
        Self {
            base: format!("http://{}/api", node.http),
            authorization: format!("Basic {}", STANDARD.encode(credentials)),
        }
    }

    /// Status and body; null if there is none.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true);
        let agent: ureq::Agent = config.build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", &self.authorization)
            .header("X-Reason", "enough");
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut response = agent.run(request.body(text).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        (response.status().as_u16(), body)
    }

    /// The methods that a path has, as OPTIONS tells.
    pub(crate) fn allowed(&self, path: &str) -> BTreeSet<String> {
        let agent = ureq::Agent::new_with_defaults();
        let asked = agent
            .options(format!("{}{path}", self.base))
            .call()
            .unwrap();
        let allowed = asked.headers()["allow"].to_str().unwrap();
        allowed
            .split(',')
            .map(|method| method.trim().to_owned())
            .collect()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null)
    }

    #[track_caller]
    pub(crate) fn check(&self, method: &str, path: &str, body: &Value, status: u16) {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
    }
}

/// Made, made again, taken away, taken away again.
#[test]
fn every_noun_answers_as_rabbitmq_does() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    guest.check("PUT", "/vhosts/a%2Fb", &Value::Null, 201);
    guest.check(
        "PUT",
        "/users/alice",
        &json!({"password": "p", "tags": "management"}),
        201,
    );
    guest.check(
        "PUT",
        "/permissions/%2F/alice",
        &json!({"configure": "", "write": "", "read": ""}),
        201,
    );
    let policy = json!({"pattern": "^x", "definition": {"max-length": 5}, "apply-to": "queues"});
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    for (path, body) in [
        ("/vhosts/v", json!({"description": "d", "tags": ["t"]})),
        ("/users/bob", json!({"password": "p", "tags": ""})),
        ("/permissions/a%2Fb/alice", all),
        ("/policies/%2F/p", policy.clone()),
        ("/operator-policies/%2F/p", policy),
        (
            "/parameters/shovel/%2F/s",
            json!({"value": {"deep": [1, null]}}),
        ),
        ("/global-parameters/g", json!({"value": 5})),
        (
            "/queues/%2F/q",
            json!({"durable": true, "arguments": {"x-max-length": 10}}),
        ),
        ("/exchanges/%2F/x", json!({"type": "topic"})),
    ] {
        guest.check("GET", path, &Value::Null, 404);
        guest.check("PUT", path, &body, 201);
        guest.check("PUT", path, &body, 204);
        guest.check("GET", path, &Value::Null, 200);
        guest.check("DELETE", path, &Value::Null, 204);
        guest.check("DELETE", path, &Value::Null, 404);
    }
}

/// As RabbitMQ keeps them among the parameters, they can be changed there too.
#[test]
fn limits_and_operator_policies_are_parameters() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let limits = "/parameters/vhost-limits/%2F/limits";
    let hundred = json!({"value": {"max-queues": 100}});
    guest.check("PUT", limits, &hundred, 201);
    guest.check("PUT", limits, &hundred, 204);
    let seen = guest.get("/vhost-limits/%2F").1;
    assert_eq!(seen, json!([{"vhost": "/", "value": {"max-queues": 100}}]));
    assert_eq!(guest.get(limits).1["value"], hundred["value"]);
    let refused = |limits: Value| {
        guest.ask(
            "PUT",
            "/parameters/vhost-limits/%2F/limits",
            &json!({"value": limits}),
        )
    };
    let (status, body) = refused(json!({"max-queues": "a"}));
    let reason =
        "Validation failed\n\nmax-queues should be a number, actually was &lt;&lt;\"a\"&gt;&gt;\n";
    assert_eq!((status, body["reason"].as_str()), (400, Some(reason)));
    let (status, body) = refused(json!({"nonsense": 1}));
    let reason =
        "Validation failed\n\nUnrecognised terms [{&lt;&lt;\"nonsense\"&gt;&gt;,1}] in limits\n";
    assert_eq!((status, body["reason"].as_str()), (400, Some(reason)));
    guest.check("PUT", "/parameters/vhost-limits/%2F/other", &hundred, 400);
    guest.check("DELETE", limits, &Value::Null, 204);
    guest.check("DELETE", limits, &Value::Null, 404);
    assert_eq!(guest.get("/vhost-limits/%2F").1, json!([]));

    let policy = json!({"value": {"pattern": "^z", "definition": {"max-length": 5}}});
    guest.check("PUT", "/parameters/operator_policy/%2F/p", &policy, 201);
    guest.check("GET", "/operator-policies/%2F/p", &Value::Null, 200);
    guest.check(
        "DELETE",
        "/parameters/operator_policy/%2F/p",
        &Value::Null,
        204,
    );
    guest.check("GET", "/operator-policies/%2F/p", &Value::Null, 404);
    guest.check("PUT", "/parameters/policy/%2F/p", &policy, 400);

    let maker = json!({"password": "p", "tags": "policymaker"});
    guest.check("PUT", "/users/maker", &maker, 201);
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    guest.check("PUT", "/permissions/%2F/maker", &all, 201);
    let maker = Client::new(&node, "maker:p");
    maker.check("PUT", limits, &hundred, 401);
    maker.check("PUT", "/parameters/operator_policy/%2F/p", &policy, 401);
}

#[test]
fn limits_topic_permissions_and_bindings_have_paths_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let alice = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/alice", &alice, 201);
    guest.check("PUT", "/queues/%2F/q0", &json!({}), 201);
    let topic = json!({"exchange": "amq.topic", "write": "a", "read": "b"});
    guest.check("PUT", "/topic-permissions/%2F/alice", &topic, 201);
    guest.check(
        "GET",
        "/topic-permissions/%2F/alice/amq.topic",
        &Value::Null,
        200,
    );
    guest.check("DELETE", "/topic-permissions/%2F/alice", &Value::Null, 204);
    guest.check(
        "PUT",
        "/vhost-limits/%2F/max-queues",
        &json!({"value": 100}),
        204,
    );
    let limits = guest.get("/vhost-limits/%2F").1;
    assert_eq!(
        limits,
        json!([{"vhost": "/", "value": {"max-queues": 100}}])
    );
    guest.check(
        "PUT",
        "/user-limits/alice/max-channels",
        &json!({"value": 1}),
        204,
    );
    guest.check(
        "DELETE",
        "/user-limits/alice/max-channels",
        &Value::Null,
        204,
    );
    assert_eq!(guest.get("/user-limits").1, json!([]));
    let binding = json!({"routing_key": "a/b", "arguments": {"n": 1}});
    guest.check("POST", "/bindings/%2F/e/amq.topic/q/q0", &binding, 201);
    let bound = guest.get("/bindings/%2F/e/amq.topic/q/q0").1;
    let properties = bound[0]["properties_key"].as_str().unwrap();
    let path = format!(
        "/bindings/%2F/e/amq.topic/q/q0/{}",
        properties.replace('%', "%25")
    );
    guest.check("GET", &path, &Value::Null, 200);
    guest.check("DELETE", &path, &Value::Null, 204);
    guest.check("DELETE", &path, &Value::Null, 404);
}

#[test]
fn errors_have_rabbitmqs_shape() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let error = |error: &str, reason: &str| json!({"error": error, "reason": reason});
    let login_failed = (401, error("not_authorized", "Login failed"));
    assert_eq!(
        Client::new(&node, "guest:wrong").get("/whoami"),
        login_failed
    );
    assert_eq!(Client::new(&node, "nobody:x").get("/whoami"), login_failed);
    assert_eq!(
        guest.get("/queues/%2F/none"),
        (404, error("Object Not Found", "Not Found"))
    );
    guest.check("GET", "/nonsense", &Value::Null, 404);
    guest.check("PATCH", "/whoami", &Value::Null, 405);
    guest.check("PUT", "/users/x", &json!({"password": "p"}), 400);
    guest.check("PUT", "/users/x", &json!("text"), 400);
    guest.check(
        "PUT",
        "/queues/%2F/q",
        &json!({"arguments": {"x-max-length": "many"}}),
        400,
    );
    guest.check(
        "PUT",
        "/exchanges/%2F/amq.mine",
        &json!({"type": "topic"}),
        401,
    );
    guest.check("PUT", "/exchanges/%2F/x", &json!({"type": "odd"}), 400);
    guest.check("PUT", "/queues/none/q", &json!({}), 404);
    guest.check("POST", "/definitions", &json!({"users": 5}), 400);
    let (status, body) = guest.get("/whoami");
    assert_eq!(
        (status, body),
        (200, json!({"name": "guest", "tags": ["administrator"]}))
    );
    assert_eq!(guest.get("/overview").1["rabbitmq_version"], "4.2.0");
}

#[test]
fn a_slash_at_the_end_of_a_path_means_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    assert_eq!(guest.get("/vhosts/"), guest.get("/vhosts"));
    assert_eq!(
        guest.get("/exchanges/%2F/?a=b"),
        guest.get("/exchanges/%2F")
    );
    guest.check("GET", "/nonsense/", &Value::Null, 404);
}

#[test]
fn tags_and_permissions_decide_who_may_what() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    for (user, tags) in [
        ("plain", ""),
        ("manager", "management"),
        ("maker", "policymaker"),
    ] {
        let body = json!({"password": "p", "tags": tags});
        guest.check("PUT", &format!("/users/{user}"), &body, 201);
        let patterns = json!({"configure": "^mine", "write": "^mine", "read": ".*"});
        guest.check("PUT", &format!("/permissions/%2F/{user}"), &patterns, 201);
    }
    guest.check("PUT", "/vhosts/other", &Value::Null, 201);
    Client::new(&node, "plain:p").check("GET", "/whoami", &Value::Null, 401);
    let manager = Client::new(&node, "manager:p");
    manager.check("GET", "/users", &Value::Null, 401);
    manager.check("PUT", "/queues/%2F/mine", &json!({}), 201);
    manager.check("PUT", "/queues/%2F/yours", &json!({}), 401);
    manager.check("GET", "/queues/other", &Value::Null, 401);
    let policy = json!({"pattern": "^x", "definition": {"max-length": 5}});
    manager.check("PUT", "/policies/%2F/p", &policy, 401);
    let maker = Client::new(&node, "maker:p");
    maker.check("PUT", "/policies/%2F/p", &policy, 201);
    maker.check("PUT", "/operator-policies/%2F/p", &policy, 401);
    // What AMQP refuses is refused here.
    let dead = |exchange| json!({"arguments": {"x-dead-letter-exchange": exchange}});
    manager.check("PUT", "/queues/%2F/mine-1", &dead("yours"), 401);
    manager.check("PUT", "/queues/%2F/mine-1", &dead("mine"), 201);
    let topic = json!({"exchange": "amq.topic", "write": ".*", "read": "^a"});
    guest.check("PUT", "/topic-permissions/%2F/manager", &topic, 201);
    let bindings = "/bindings/%2F/e/amq.topic/q/mine";
    for (key, status, gone) in [("a", 201, 204), ("b", 401, 401)] {
        manager.check("POST", bindings, &json!({"routing_key": key}), status);
        guest.check("POST", bindings, &json!({"routing_key": key}), 201);
        manager.check("DELETE", &format!("{bindings}/{key}"), &Value::Null, gone);
    }
    manager.check("POST", "/definitions", &json!({}), 401);
    // What was set over HTTP holds over AMQP.
    let mut socket = connect(node.amqp);
    assert_eq!(login(&mut socket, "PLAIN", b"\0plain\0p").unwrap(), TUNE);
    assert_eq!(open(&mut socket).unwrap(), OPEN_OK);
    guest.check("DELETE", "/users/manager", &Value::Null, 204);
    let mut socket = connect(node.amqp);
    assert_eq!(login(&mut socket, "PLAIN", b"\0manager\0p").unwrap(), CLOSE);
}

/// What no frame bounds must not stop the node, now or when it starts again.
#[test]
fn arguments_without_measure_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let many: serde_json::Map<_, _> = (0..2_000).map(|i| (format!("x-{i}"), i.into())).collect();
    let deep = (0..40).fold(json!({}), |inner, _| json!({"t": inner}));
    let numbers = json!({"x-list": vec![1; 900_000]});
    for arguments in [many.into(), deep, numbers] {
        let body = json!({"arguments": arguments});
        guest.check("PUT", "/queues/%2F/q", &body, 400);
    }
    drop(node);
    Node::start(directory.path(), &[]);
}

#[test]
fn a_connection_is_listed_and_closed() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let mut socket = connect(node.amqp);
    assert_eq!(login_guest(&mut socket).unwrap(), TUNE);
    assert_eq!(open(&mut socket).unwrap(), OPEN_OK);
    let (status, connections) = guest.get("/connections");
    assert_eq!(
        (status, connections.as_array().map(Vec::len)),
        (200, Some(1))
    );
    let name = connections[0]["name"].as_str().unwrap();
    assert_eq!(connections[0]["user"], "guest");
    let path = format!(
        "/connections/{}",
        name.replace(' ', "%20").replace('>', "%3E")
    );
    guest.check("DELETE", &path, &Value::Null, 204);
    assert_eq!(crate::wire::method(&mut socket).unwrap(), CLOSE);
}

#[test]
fn definitions_move_from_node_to_node() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let file = directories[0]
        .path()
        .join("definitions.json")
        .display()
        .to_string();
    let first = Node::start(directories[0].path(), &[]);
    let guest = Client::new(&first, "guest:guest");
    guest.check("PUT", "/vhosts/v", &json!({"description": "moved"}), 201);
    guest.check(
        "PUT",
        "/queues/%2F/q",
        &json!({"arguments": {"x-max-length": 7}}),
        201,
    );
    guest.check(
        "PUT",
        "/users/alice",
        &json!({"password": "p", "tags": "administrator"}),
        201,
    );
    let staunch = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_staunch"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let url = format!("http://guest:guest@{}", first.http);
    assert!(
        staunch(&["definitions", "export", &file, "--url", &url])
            .status
            .success()
    );
    // A new node that starts with definitions has no default user but theirs.
    let second = Node::start(directories[1].path(), &["--load-definitions", &file]);
    let alice = Client::new(&second, "alice:p");
    assert_eq!(alice.get("/vhosts/v").1["description"], "moved");
    assert_eq!(alice.get("/queues/%2F/q").1["arguments"]["x-max-length"], 7);
    let url = format!("http://alice:p@{}", second.http);
    assert!(
        staunch(&["definitions", "import", &file, "--url", &url])
            .status
            .success()
    );
    fs::write(&file, "{\"queues\": [{\"name\": 5}]}").unwrap();
    let refused = staunch(&["definitions", "import", &file, "--url", &url]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("queues[0]"));
}

#[test]
fn a_bad_definitions_file_stops_the_start_and_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("definitions.json");
    let bad = json!({"vhosts": [{"name": "/"}], "queues": [
        {"name": "q", "vhost": "/", "durable": true, "arguments": {"x-max-length": "many"}}]});
    fs::write(&file, bad.to_string()).unwrap();
    let flags = ["--load-definitions", &file.display().to_string()];
    assert!(Node::try_start(directory.path(), &flags).is_none());
    assert!(
        log(directory.path()).contains("queues[0] 'q'"),
        "{}",
        log(directory.path())
    );
    fs::write(&file, json!({"users": []}).to_string()).unwrap();
    let node = Node::start(directory.path(), &flags);
    // Definitions were there at the first start, so there is no guest.
    let mut socket = connect(node.amqp);
    assert_eq!(login_guest(&mut socket).unwrap(), CLOSE);
}

#[test]
fn a_password_is_hashed_as_rabbitmq_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    for algorithm in ["sha256", "sha512", "argon2id"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
        let output = command
            .args(["hash-password", "--algorithm", algorithm, "secret"])
            .output();
        let hash = String::from_utf8(output.unwrap().stdout).unwrap();
        let name = match algorithm {
            "argon2id" => "argon2id".to_owned(),
            rabbit => format!("rabbit_password_hashing_{rabbit}"),
        };
        let body = json!({"password_hash": hash.trim(), "hashing_algorithm": name, "tags": ""});
        guest.check("PUT", &format!("/users/{algorithm}"), &body, 201);
        for (password, answer) in [("secret", TUNE), ("wrong", CLOSE)] {
            let mut socket = connect(node.amqp);
            let response = format!("\0{algorithm}\0{password}");
            assert_eq!(
                login(&mut socket, "PLAIN", response.as_bytes()).unwrap(),
                answer
            );
        }
    }
}

#[test]
fn messages_are_published_got_and_purged_as_over_amqp() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    guest.check("PUT", "/queues/%2F/q", &json!({}), 201);
    let publish = |payload: &str, encoding: &str, properties: Value| {
        let body = json!({"routing_key": "q", "payload": payload, "payload_encoding": encoding,
            "properties": properties});
        guest.ask("POST", "/exchanges/%2F/amq.default/publish", &body)
    };
    let properties = json!({"delivery_mode": 2, "headers": {"h": 1}, "type": "t"});
    let routed = (200, json!({"routed": true}));
    assert_eq!(publish("one", "string", properties.clone()), routed);
    assert_eq!(publish("/w==", "base64", json!({})), routed);
    assert_eq!(publish("?", "base64", json!({})).0, 400);
    assert_eq!(publish("x", "string", json!({"priority": 256})).0, 400);
    let elsewhere = json!({"routing_key": "nowhere", "payload": "", "payload_encoding": "string",
        "properties": {}});
    let answer = guest.ask("POST", "/exchanges/%2F/amq.topic/publish", &elsewhere);
    assert_eq!(answer, (200, json!({"routed": false})));
    guest.check("POST", "/exchanges/%2F/missing/publish", &elsewhere, 400);

    let get = |count: u64, ackmode: &str, encoding: &str| {
        let body = json!({"count": count, "ackmode": ackmode, "encoding": encoding, "truncate": 2});
        guest.ask("POST", "/queues/%2F/q/get", &body)
    };
    let (status, got) = get(5, "ack_requeue_true", "auto");
    let one = json!({"payload_bytes": 3, "redelivered": false, "exchange": "", "routing_key": "q",
        "message_count": 1, "properties": properties, "payload": "on",
        "payload_encoding": "string"});
    let two = json!({"payload_bytes": 1, "redelivered": false, "exchange": "", "routing_key": "q",
        "message_count": 0, "properties": [], "payload": "/w==", "payload_encoding": "base64"});
    assert_eq!((status, got), (200, json!([one, two])));
    let (_, got) = get(1, "ack_requeue_false", "base64");
    assert_eq!(
        (&got[0]["payload"], &got[0]["redelivered"]),
        (&json!("b24="), &json!(true))
    );
    let (_, got) = get(5, "reject_requeue_false", "auto");
    assert_eq!(got.as_array().unwrap().len(), 1);
    assert_eq!(get(5, "ack_requeue_true", "auto"), (200, json!([])));
    assert_eq!(get(1, "sometimes", "auto").0, 400);
    guest.check("POST", "/queues/%2F/q/get", &json!({"count": 1}), 400);
    let one = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    guest.check("POST", "/queues/%2F/missing/get", &one, 404);

    assert_eq!(publish("three", "string", json!({})), routed);
    guest.check("DELETE", "/queues/%2F/q/contents", &Value::Null, 204);
    guest.check("DELETE", "/queues/%2F/missing/contents", &Value::Null, 404);
    assert_eq!(get(5, "ack_requeue_true", "auto"), (200, json!([])));
}

#[test]
fn messages_are_a_matter_of_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    guest.check("PUT", "/queues/%2F/q", &json!({}), 201);
    let alice = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/alice", &alice, 201);
    let alice = Client::new(&node, "alice:p");
    let message = json!({"routing_key": "q", "payload": "", "payload_encoding": "string",
        "properties": {}});
    let one = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let check = |published: u16, got: u16, purged: u16| {
        let exchange = "/exchanges/%2F/amq.default/publish";
        alice.check("POST", exchange, &message, published);
        alice.check("POST", "/queues/%2F/q/get", &one, got);
        alice.check("DELETE", "/queues/%2F/q/contents", &Value::Null, purged);
    };
    check(401, 401, 401);
    let permissions = json!({"configure": "", "write": ".*", "read": ""});
    guest.check("PUT", "/permissions/%2F/alice", &permissions, 201);
    check(200, 401, 401);
    let permissions = json!({"configure": "", "write": "", "read": "q"});
    guest.check("PUT", "/permissions/%2F/alice", &permissions, 204);
    check(400, 200, 204);
}
