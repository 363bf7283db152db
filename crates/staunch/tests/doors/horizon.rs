//! How long queues hold out, over HTTP.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    http::Client,
    node::{Node, log, until},
};

/// Samples come often, so that nobody waits for them.
const FLAGS: [&str; 2] = ["--collect-statistics-interval", "50ms"];

fn publish(guest: &Client, queue: &str, count: usize) {
    let message = json!({"routing_key": queue, "payload": "12345", "payload_encoding": "string",
        "properties": {}});
    for _ in 0..count {
        guest.check("POST", "/exchanges/%2F/amq.default/publish", &message, 200);
    }
}

/// A queue that takes ten messages and has as many, one with a thousand, one without a limit.
fn three_queues(node: &Node) -> Client {
    let guest = Client::new(node, "guest:guest");
    for (name, arguments, count) in [
        (
            "full",
            json!({"x-max-length": 10, "x-overflow": "reject-publish"}),
            10,
        ),
        ("roomy", json!({"x-max-length-bytes": 5_000}), 20),
        ("free", json!({}), 5),
    ] {
        let body = json!({"durable": true, "arguments": arguments});
        guest.check("PUT", &format!("/queues/%2F/{name}"), &body, 201);
        publish(&guest, name, count);
        let path = format!("/staunch/v1/horizon/queues/%2F/{name}");
        until("a round has seen the messages", || {
            let queue = guest.get(&path).1;
            queue["messages"] == count && queue["rates"]["messages_in_per_second"] != 0.0
        });
    }
    guest
}

#[test]
fn a_horizon_names_what_is_reached_first_and_what_happens_then() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = three_queues(&node);
    let full = guest.get("/staunch/v1/horizon/queues/%2F/full").1;
    let nothing_left = json!({"seconds": 0.0, "low_seconds": 0.0, "high_seconds": 0.0,
        "limit": "max_length", "outcome": "refuse"});
    for basis in ["now", "stress", "peak"] {
        assert_eq!(full["horizon"][basis], nothing_left, "{basis}");
    }
    assert_eq!(
        full["limits"][0],
        json!({"limit": "max_length", "outcome": "refuse", "unit": "messages", "capacity": 10,
            "used": 10, "left": 0, "is_shared": false})
    );
    assert_eq!(full["has_history"], true);
    let roomy = guest.get("/staunch/v1/horizon/queues/%2F/roomy").1;
    assert_eq!(roomy["message_bytes"], 100);
    let stress = &roomy["horizon"]["stress"];
    assert_eq!(
        (&stress["limit"], &stress["outcome"]),
        (&json!("max_length_bytes"), &json!("drop"))
    );
    let [low, at, high] = ["low_seconds", "seconds", "high_seconds"]
        .map(|key| stress[key].as_f64().unwrap_or(f64::INFINITY));
    assert!(0.0 < low && low <= at && at <= high, "{stress}");
    // As a part of what else is said of the queue.
    let shown = guest.get("/queues/%2F/full").1;
    assert_eq!(shown["horizon"]["stress"], nothing_left);
    assert!(guest.get("/queues/%2F/full?disable_stats=true").1["horizon"].is_null());
    assert_eq!(guest.get("/staunch/v1/horizon/queues/%2F/missing").0, 404);
    assert_eq!(guest.get("/staunch/v1/horizon/queues/missing/full").0, 404);
}

#[test]
fn the_soonest_is_first_and_filters_leave_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = three_queues(&node);
    let policy = json!({"pattern": "^(full|free)$", "definition": {"horizon-slo": "30m"},
        "apply-to": "queues"});
    guest.check("PUT", "/policies/%2F/slo", &policy, 201);
    let mut wrong = policy;
    wrong["definition"]["horizon-slo"] = json!("soon");
    let refused = guest.ask("PUT", "/policies/%2F/wrong", &wrong).1;
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("not a valid horizon objective"),
        "{refused}"
    );
    let names = |query: &str| -> Vec<String> {
        let (status, answer) = guest.get(&format!("/staunch/v1/horizon{query}"));
        assert_eq!(status, 200, "{query}: {answer}");
        let queues = answer["queues"].as_array().unwrap().iter();
        queues
            .map(|queue| queue["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("")[0], "full");
    until("a round has seen the policy", || {
        names("?slo=policy") == ["full"]
    });
    let all = guest.get("/staunch/v1/horizon").1;
    let first = &all["queues"][0];
    assert_eq!(
        (&first["slo_seconds"], &first["is_slo_met"]),
        (&json!(1800.0), &json!(false))
    );
    assert_eq!(all["vhosts"][0]["queue"], "full");
    assert_eq!(all["vhosts"][0]["horizon"]["now"]["seconds"], 0.0);
    let limits = all["node"]["limits"].as_array().unwrap();
    let limits: Vec<_> = limits.iter().map(|limit| &limit["limit"]).collect();
    assert_eq!(limits, ["memory", "disk"]);
    assert_eq!(all["node"]["histories"]["count"], 3);
    assert_eq!(
        (&all["total_count"], &all["page"], &all["page_size"]),
        (&json!(3), &json!(1), &json!(100))
    );
    let page = guest
        .get("/staunch/v1/horizon?page=2&page_size=1&basis=now")
        .1;
    assert_eq!(
        (&page["item_count"], &page["page_count"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(names("?slo=1&basis=peak"), ["full"]);
    assert_eq!(names("?name=oom"), ["roomy"]);
    assert_eq!(names("?name=^f&use_regex=true").len(), 2);
    for wrong in [
        "?slo=soon",
        "?basis=never",
        "?page=0",
        "?page=9",
        "?unknown=1",
    ] {
        let (status, answer) = guest.get(&format!("/staunch/v1/horizon{wrong}"));
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(answer["reason"].is_string(), "{wrong}: {answer}");
    }
    assert_eq!(guest.get("/staunch/v1/horizon?vhost=missing").0, 404);
}

#[test]
fn what_if_answers_what_can_be_asked_and_refuses_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = three_queues(&node);
    let path = "/staunch/v1/horizon/queues/%2F/roomy/what-if";
    let (status, by_query) = guest.get(&format!("{path}?consumers_gone_seconds=3600"));
    assert_eq!(status, 200, "{by_query}");
    assert_eq!(by_query["what_if"]["consumers_gone_seconds"], 3600.0);
    let [low, at, high] = ["low_messages", "messages", "high_messages"]
        .map(|key| by_query["messages_at_return"][key].as_u64().unwrap());
    assert!(20 <= low && low <= at && at <= high, "{by_query}");
    let (status, by_body) = guest.ask("POST", path, &json!({"consumers_gone_seconds": 3600}));
    assert_eq!((status, &by_body["name"]), (200, &json!("roomy")));
    assert!(by_body["as_is"]["stress"]["seconds"].is_number());
    let smaller = json!({"limit": "max_length_bytes", "capacity": 50});
    let full = guest.ask("POST", path, &smaller).1["full"].clone();
    assert_eq!(
        (&full["seconds"], &full["limit"], &full["outcome"]),
        (&json!(0.0), &json!("max_length_bytes"), &json!("drop"))
    );
    let disk = guest
        .get("/staunch/v1/horizon/what-if?limit=disk&capacity=0")
        .1;
    assert_eq!(
        (
            &disk["vhost"],
            &disk["full"]["limit"],
            &disk["full"]["seconds"]
        ),
        (&Value::Null, &json!("disk"), &json!(0.0))
    );
    for (wrong, reason) in [
        (json!({}), "nothing is asked"),
        (json!({"limit": "max_length"}), "belong together"),
        (
            json!({"limit": "max_length", "capacity": 5}),
            "roomy has no limit 'max_length'",
        ),
        (
            json!({"limit": "width", "capacity": 5}),
            "there are max_length,",
        ),
        (json!({"rate_factor": -1}), "cannot be multiplied by -1"),
        (json!({"consumers_gone_seconds": -1}), "gone for -1"),
        (json!({"consumers_gone_seconds": 1e12}), "at most"),
        (json!({"one_node_fewer": true}), "nobody left"),
        (json!({"rate": 2}), "unknown field"),
    ] {
        let (status, answer) = guest.ask("POST", path, &wrong);
        let text = answer["reason"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(text.contains(reason), "{wrong}: {answer}");
    }
    assert_eq!(guest.get(&format!("{path}?rate_factor=much")).0, 400);
}

#[test]
fn who_may_not_see_a_queue_does_not_see_its_horizon() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = three_queues(&node);
    let alice = json!({"password": "p", "tags": "management"});
    guest.check("PUT", "/users/alice", &alice, 201);
    let alice = Client::new(&node, "alice:p");
    let queue = "/staunch/v1/horizon/queues/%2F/full";
    let seen = alice.get("/staunch/v1/horizon").1;
    assert_eq!(
        (&seen["queues"], &seen["vhosts"], &seen["node"]),
        (&json!([]), &json!([]), &Value::Null)
    );
    assert_eq!(alice.get(queue).0, 401);
    assert_eq!(alice.get(&format!("{queue}/what-if?rate_factor=2")).0, 401);
    let permissions = json!({"configure": "", "write": "", "read": ""});
    guest.check("PUT", "/permissions/%2F/alice", &permissions, 201);
    let seen = alice.get("/staunch/v1/horizon").1;
    assert_eq!(
        (&seen["total_count"], &seen["node"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(alice.get(queue).0, 200);
    let node_path = "/staunch/v1/horizon/what-if?rate_factor=2";
    assert_eq!(alice.get(node_path).0, 401);
    assert_eq!(guest.get(node_path).0, 200);
    let nobody = Client::new(&node, "nobody:p");
    assert_eq!(nobody.get("/staunch/v1/horizon").0, 401);
}

/// Metrics that only a node of a cluster has.
const OF_CLUSTERS: [&str; 2] = ["staunch_groups_leaderless", "staunch_node_up"];

fn scrape(node: &Node, path: &str) -> String {
    let mut response = ureq::get(format!("http://{}{path}", node.metrics))
        .call()
        .unwrap();
    response.body_mut().read_to_string().unwrap()
}

/// The value of a sample, whose labels stand there as they are rendered.
fn sample(scraped: &str, series: &str) -> f64 {
    let mut lines = scraped.lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {series}"));
    found.parse().unwrap()
}

#[test]
fn metrics_say_what_is_over_first() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = three_queues(&node);
    let policy = json!({"pattern": "full", "definition": {"horizon-slo": "30m"}});
    guest.check("PUT", "/policies/%2F/slo", &policy, 201);
    until("a round has seen the policy", || {
        let scraped = scrape(&node, "/metrics");
        sample(&scraped, "staunch_horizon_slo_missed") > 0.0
    });
    let scraped = scrape(&node, "/metrics/per-object");
    let is = |series: &str, value: f64| {
        let found = sample(&scraped, series);
        assert!((found - value).abs() < 1e-9, "{series} {found}");
    };
    is("staunch_horizon_stress_seconds{limit=\"max_length\"}", 0.0);
    let full = "vhost=\"/\",queue=\"full\"";
    let limited = format!("{full},limit=\"max_length\"");
    is(
        &format!("staunch_queue_horizon_now_seconds{{{limited}}}"),
        0.0,
    );
    is(
        &format!("staunch_queue_horizon_stress_low_seconds{{{limited}}}"),
        0.0,
    );
    is(
        &format!("staunch_queue_horizon_slo_seconds{{{full}}}"),
        1800.0,
    );
    is("staunch_horizon_histories", 3.0);
    let chosen = scrape(
        &node,
        "/metrics/detailed?family=queue_horizon_metrics&queue=roomy",
    );
    assert!(chosen.contains("queue=\"roomy\"") && !chosen.contains("queue=\"full\""));
}

/// What `deploy/` names is there.
#[test]
fn alert_rules_and_the_dashboard_name_metrics_that_exist() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let read = |path: &str| fs::read_to_string(deploy.join(path)).unwrap();
    let dashboard = read("grafana/staunch-horizon.json");
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() >= 5);
    let texts = [dashboard, read("prometheus/staunch.rules.yml")].concat();
    let words = texts.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("staunch_") || word.starts_with("rabbitmq_"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    three_queues(&node);
    let scraped = [
        scrape(&node, "/metrics"),
        scrape(&node, "/metrics/per-object"),
    ]
    .concat();
    let families: BTreeSet<&str> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !families.contains(**name) && !OF_CLUSTERS.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn histories_survive_a_restart_and_damaged_ones_are_no_reason_not_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    three_queues(&node);
    node.stop();
    let file = directory.path().join("data/histories");
    let kept = fs::read(&file).unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let text = log(directory.path());
    assert!(text.contains("flow histories are read"), "{text}");
    assert!(!text.contains("histories.temp") && !text.contains("start from nothing"));
    drop(node);
    let mut damaged = kept;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&file, damaged).unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = Client::new(&node, "guest:guest");
    until("queues are there", || {
        guest.get("/staunch/v1/horizon").1["total_count"] == 3
    });
    let text = log(directory.path());
    assert!(
        text.contains("damaged") && text.contains("horizons start from nothing"),
        "{text}"
    );
}

#[test]
fn a_queue_that_misses_its_objective_is_slowed_and_the_log_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &FLAGS);
    let guest = Client::new(&node, "guest:guest");
    let policy = json!({"pattern": "^q$", "definition": {"horizon-slo": "2h", "max-length": 1000}});
    guest.check("PUT", "/policies/%2F/slo", &policy, 201);
    guest.check("PUT", "/queues/%2F/q", &json!({"durable": true}), 201);
    let path = "/staunch/v1/horizon/queues/%2F/q";
    until("its publishers are slowed", || {
        publish(&guest, "q", 1);
        guest.get(path).1["is_slowed"] == true
    });
    assert_eq!(guest.get(path).1["slo_seconds"], 7200.0);
    until("the log says so", || {
        let text = log(directory.path());
        text.contains("horizon.short") && text.contains("queue.slowed")
    });
    let scraped = scrape(&node, "/metrics");
    assert!((sample(&scraped, "staunch_horizon_slowed") - 1.0).abs() < 1e-9);
    guest.check("DELETE", "/policies/%2F/slo", &Value::Null, 204);
    until("nobody is slowed any more", || {
        guest.get(path).1["is_slowed"] == false
    });
}
