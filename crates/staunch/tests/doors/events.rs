//! What has happened, as a list and as it happens.

use serde_json::{Value, json};

use crate::{
    http::Client,
    node::{Node, until},
    stream::{Follower, Told},
};

/// The next event; how many rounds passed before does not matter.
fn next(follower: &mut Follower) -> Told {
    let mut all = std::iter::from_fn(|| follower.next());
    all.find(|told| told.event == "event").unwrap()
}

fn set_policy(guest: &Client, name: &str) {
    let policy = json!({"pattern": "^x", "definition": {"max-length": 5}});
    guest.check("PUT", &format!("/policies/%2F/{name}"), &policy, 201);
}

#[test]
fn what_operators_change_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--node-name", "n1@test"]);
    let guest = Client::new(&node, "guest:guest");
    set_policy(&guest, "p");
    guest.check("DELETE", "/policies/%2F/p", &Value::Null, 204);
    let alice = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/alice", &alice, 201);
    let events = guest.get("/staunch/v1/events").1;
    let all = events["events"].as_array().unwrap();
    let named = |name: &str| all.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(named("node.recovered")["node"], "n1@test");
    assert_eq!(
        named("policy.set")["fields"],
        json!({"vhost": "/", "name": "p"})
    );
    assert_eq!(named("user.set")["fields"], json!({"name": "alice"}));
    assert_eq!(events["unknown_nodes"], json!([]));
    let policies = guest.get("/staunch/v1/events?name=policy.").1;
    let about: Vec<_> = policies["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["event"])
        .collect();
    assert_eq!(about, ["policy.set", "policy.deleted"]);
    let last = guest.get("/staunch/v1/events?count=1").1;
    assert_eq!(last["events"].as_array().unwrap()[..], all[all.len() - 1..]);
    let alice = Client::new(&node, "alice:p");
    alice.check("GET", "/staunch/v1/events", &Value::Null, 401);
}

#[test]
fn alarms_are_told_as_they_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--disk-free-limit", "1000TiB"]);
    let guest = Client::new(&node, "guest:guest");
    let alarm = || guest.get("/staunch/v1/events?name=alarm.").1["events"][0].clone();
    until("the alarm is on", || !alarm().is_null());
    assert_eq!(
        (&alarm()["event"], &alarm()["level"]),
        (&json!("alarm.on"), &json!("warn"))
    );
    assert_eq!(alarm()["fields"], json!({"resource": "disk"}));
}

#[test]
fn who_follows_sees_what_happens_and_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let guest = Client::new(&node, "guest:guest");
    set_policy(&guest, "before");
    let mut follower = Follower::begin(&node, "guest:guest", "/events").unwrap();
    set_policy(&guest, "one");
    set_policy(&guest, "two");
    let one = next(&mut follower);
    assert_eq!(one.data["fields"]["name"], "one");
    assert_eq!(next(&mut follower).data["fields"]["name"], "two");
    let again = |path: &str, last: &str| Follower::after(&node, "guest:guest", path, Some(last));
    let mut later = again("/events", &one.id.unwrap()).unwrap();
    assert_eq!(next(&mut later).data["fields"]["name"], "two");
    guest.check("PUT", "/vhosts/v", &Value::Null, 201);
    let mut all = again("/events?name=vhost.", "").unwrap();
    // The first is that of every node's beginning.
    let mut told = std::iter::from_fn(|| Some(next(&mut all)));
    let told = told
        .find(|told| told.data["fields"]["vhost"] == "v")
        .unwrap();
    assert_eq!(told.data["event"], "vhost.created");
    assert_eq!(again("/events", "x").err(), Some(400));
}
