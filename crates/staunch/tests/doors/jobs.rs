//! Messages that are replayed, moved and dropped by the node itself.

use serde_json::{Value, json};

use crate::{
    http::Client,
    node::{Node, until},
};

fn publish(client: &Client, exchange: &str, key: &str, payload: &str) {
    let message = json!({"routing_key": key, "payload": payload, "payload_encoding": "string",
        "properties": {"delivery_mode": 2, "message_id": payload}});
    let path = format!("/exchanges/%2F/{exchange}/publish");
    client.check("POST", &path, &message, 200);
}

/// Payloads, which stay.
fn payloads(client: &Client, queue: &str) -> Vec<String> {
    let get = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let got = client
        .ask("POST", &format!("/queues/%2F/{queue}/get"), &get)
        .1;
    let got = got.as_array().unwrap().iter();
    got.map(|it| it["payload"].as_str().unwrap().to_owned())
        .collect()
}

fn declare(client: &Client, queue: &str, arguments: &Value) {
    let body = json!({"durable": true, "arguments": arguments});
    client.check("PUT", &format!("/queues/%2F/{queue}"), &body, 201);
}

/// Begins a job and waits until it is over.
#[track_caller]
fn run(client: &Client, task: &Value) -> Value {
    let (status, job) = client.ask("POST", "/staunch/v1/jobs", task);
    assert_eq!(status, 200, "{job}");
    over(client, &job)
}

#[track_caller]
fn over(client: &Client, job: &Value) -> Value {
    let path = format!("/staunch/v1/jobs/{}", job["id"].as_str().unwrap());
    let mut now = Value::Null;
    until("the job is over", || {
        now = client.get(&path).1;
        now["state"] != "running"
    });
    now
}

fn counts(job: &Value) -> [u64; 4] {
    ["seen", "done", "stayed", "refused"].map(|key| job["progress"][key].as_u64().unwrap())
}

/// Orders that were rejected, and mail that was too much; both lie in one queue.
fn dead_letters(guest: &Client) {
    declare(guest, "dead", &json!({}));
    let dead = |more: &Value| {
        let mut arguments =
            json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"});
        arguments
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        arguments
    };
    declare(guest, "orders", &dead(&json!({})));
    declare(guest, "mail", &dead(&json!({"x-max-length": 1})));
    guest.check(
        "PUT",
        "/exchanges/%2F/shop",
        &json!({"type": "fanout"}),
        201,
    );
    let binding = json!({"routing_key": ""});
    guest.check("POST", "/bindings/%2F/e/shop/q/orders", &binding, 201);
    for payload in ["o1", "o2", "o3"] {
        publish(guest, "shop", "new", payload);
    }
    let reject = json!({"count": 3, "ackmode": "reject_requeue_false", "encoding": "auto"});
    guest.check("POST", "/queues/%2F/orders/get", &reject, 200);
    for payload in ["m1", "m2", "m3"] {
        publish(guest, "amq.default", "mail", payload);
    }
    until("all have died", || payloads(guest, "dead").len() == 5);
}

#[test]
fn dead_letters_are_found_told_apart_and_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    dead_letters(&guest);
    let queues = guest.get("/staunch/v1/dead-letters").1;
    let expected = json!([{"vhost": "/", "name": "dead", "messages": 5, "consumers": 0,
        "of": ["mail", "orders"]}]);
    assert_eq!(queues, expected);
    let look = "/staunch/v1/dead-letters/%2F/dead";
    let found = guest.ask("POST", look, &json!({"count": 100})).1;
    assert_eq!(
        (&found["looked_at"], &found["left"], &found["never_died"]),
        (&json!(5), &json!(0), &json!(0))
    );
    let groups: Vec<_> = found["groups"].as_array().unwrap().iter().collect();
    let facts =
        |group: &Value| ["reason", "queue", "exchange", "messages"].map(|key| group[key].clone());
    assert_eq!(
        facts(groups[0]),
        [json!("maxlen"), json!("mail"), json!(""), json!(2)]
    );
    assert_eq!(
        facts(groups[1]),
        [json!("rejected"), json!("orders"), json!("shop"), json!(3)]
    );
    assert_eq!(groups[1]["sample"]["payload"], "o1");
    assert!(groups[1]["first_at"].is_u64());
    let some = guest.ask("POST", look, &json!({"count": 2})).1;
    assert_eq!((&some["looked_at"], &some["left"]), (&json!(2), &json!(3)));
    guest.check("POST", "/staunch/v1/dead-letters/%2F/none", &json!({}), 404);

    let rejected = json!({"kind": "replay", "vhost": "/", "queue": "dead", "dry_run": true,
        "filter": {"reason": "rejected"}});
    let dry = run(&guest, &rejected);
    assert_eq!(
        (dry["state"].as_str(), counts(&dry)),
        (Some("done"), [5, 3, 2, 0])
    );
    assert_eq!(payloads(&guest, "orders"), [""; 0]);
    let mut replay = rejected;
    replay["dry_run"] = json!(false);
    replay["count"] = json!(2);
    assert_eq!(counts(&run(&guest, &replay))[1], 2);
    assert_eq!(payloads(&guest, "orders"), ["o1", "o2"]);
    assert_eq!(payloads(&guest, "dead"), ["o3", "m1", "m2"]);
    let again = json!({"kind": "replay", "vhost": "/", "queue": "dead", "republish": true,
        "filter": {"origin": "orders", "replays_below": 1}});
    assert_eq!(counts(&run(&guest, &again)), [3, 1, 2, 0]);
    assert_eq!(payloads(&guest, "orders"), ["o1", "o2", "o3"]);
    let dropped = run(
        &guest,
        &json!({"kind": "drop", "vhost": "/", "queue": "dead"}),
    );
    assert_eq!(counts(&dropped), [2, 2, 0, 0]);
    assert_eq!(payloads(&guest, "dead"), [""; 0]);
}

#[test]
fn what_cannot_be_delivered_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    declare(&guest, "from", &json!({}));
    declare(
        &guest,
        "small",
        &json!({"x-max-length": 150, "x-overflow": "reject-publish"}),
    );
    let all: Vec<_> = (0..250).map(|at| format!("{at}")).collect();
    for payload in &all {
        publish(&guest, "amq.default", "from", payload);
    }
    let job = run(
        &guest,
        &json!({"kind": "move", "vhost": "/", "queue": "from", "to": "small"}),
    );
    assert_eq!(counts(&job), [250, 150, 0, 100]);
    assert_eq!(payloads(&guest, "small"), all[..150]);
    assert_eq!(payloads(&guest, "from"), all[150..]);
    // An exchange that leads nowhere takes nothing.
    guest.check(
        "PUT",
        "/exchanges/%2F/void",
        &json!({"type": "direct"}),
        201,
    );
    let nowhere = json!({"kind": "move", "vhost": "/", "queue": "from", "to_exchange": "void"});
    assert_eq!(counts(&run(&guest, &nowhere)), [100, 0, 0, 100]);
    assert_eq!(payloads(&guest, "from"), all[150..]);
}

#[test]
fn a_job_has_its_callers_permissions_and_ends_when_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    for queue in ["mine", "mine-too", "yours"] {
        declare(&guest, queue, &json!({}));
    }
    for at in 0..9 {
        publish(&guest, "amq.default", "mine", &format!("{at}"));
    }
    publish(&guest, "amq.default", "yours", "secret");
    let alice = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/alice", &alice, 201);
    let slow = json!({"kind": "move", "vhost": "/", "queue": "mine", "to": "mine-too", "rate": 1});
    let alice = Client::new(&node, "alice:p");
    alice.check("POST", "/staunch/v1/jobs", &slow, 401);
    let mine = json!({"configure": "", "write": "^amq.default$", "read": "^mine"});
    guest.check("PUT", "/permissions/%2F/alice", &mine, 201);
    let stolen = json!({"kind": "drop", "vhost": "/", "queue": "yours"});
    let failed = run(&alice, &stolen);
    assert_eq!(failed["state"], "failed");
    assert!(
        failed["error"].as_str().unwrap().contains("refused"),
        "{failed}"
    );

    let (_, job) = alice.ask("POST", "/staunch/v1/jobs", &slow);
    let path = format!("/staunch/v1/jobs/{}", job["id"].as_str().unwrap());
    until("one has been moved", || {
        alice.get(&path).1["progress"]["done"] == 1
    });
    assert_eq!(guest.get("/staunch/v1/jobs").1.as_array().unwrap().len(), 2);
    let bob = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/bob", &bob, 201);
    let bob = Client::new(&node, "bob:p");
    assert_eq!(bob.get("/staunch/v1/jobs"), (200, json!([])));
    bob.check("GET", &path, &Value::Null, 404);
    bob.check("DELETE", &path, &Value::Null, 404);
    alice.check("DELETE", &path, &Value::Null, 204);
    let job = over(&alice, &job);
    assert_eq!(job["state"], "cancelled");
    let done = usize::try_from(counts(&job)[1]).unwrap();
    let mut all = payloads(&guest, "mine-too");
    assert_eq!(all.len(), done);
    all.extend(payloads(&guest, "mine"));
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn tasks_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    let check = |more: Value, status: u16| {
        let mut task = json!({"vhost": "/", "queue": "q"});
        task.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        guest.check("POST", "/staunch/v1/jobs", &task, status);
    };
    check(json!({}), 400);
    check(json!({"kind": "burn"}), 400);
    check(json!({"kind": "move"}), 400);
    check(json!({"kind": "move", "to": "q"}), 400);
    check(json!({"kind": "move", "to": "a", "to_exchange": "b"}), 400);
    check(json!({"kind": "drop", "to": "a"}), 400);
    check(json!({"kind": "drop", "republish": true}), 400);
    check(json!({"kind": "drop", "rate": 0}), 400);
    check(json!({"kind": "drop", "filter": {"colour": "red"}}), 400);
    check(json!({"kind": "drop", "vhost": "none"}), 404);
    let missing = run(
        &guest,
        &json!({"kind": "drop", "vhost": "/", "queue": "none"}),
    );
    assert_eq!(missing["state"], "failed");
    guest.check("GET", "/staunch/v1/jobs/5", &Value::Null, 404);
    guest.check("DELETE", "/staunch/v1/jobs/x", &Value::Null, 404);
}
