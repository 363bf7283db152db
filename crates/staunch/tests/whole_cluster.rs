//! Three nodes as processes of their own: each shows the whole cluster over HTTP, and says of whom it
//! knows nothing.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::{Value, json};
use staunch_client::{
    ChannelNumber, Connection, QueueSpec,
    proof::cluster::{ClusterProcess, Site, wait},
};
use staunch_types::properties::PropertyList;

/// Longest wait for anything that a test expects.
const PATIENCE: Duration = Duration::from_mins(1);
/// Replicated queues, whose leaders are on all nodes.
const QUEUES: [&str; 6] = ["q0", "q1", "q2", "q3", "q4", "q5"];
/// A queue that only one node keeps.
const LOCAL: &str = "local";
/// Messages in each queue.
const MESSAGES: u64 = 10;

/// Three nodes, a client of each with a channel, and messages in all queues. A consumer of one queue
/// is a client of the last node.
struct Scene {
    nodes: ClusterProcess,
    clients: Vec<(Connection, ChannelNumber)>,
}

fn scene(directory: &Path) -> Scene {
    let program = Path::new(env!("CARGO_BIN_EXE_staunch"));
    let site = Site {
        arguments: ["--collect-statistics-interval", "100ms"]
            .map(str::to_owned)
            .to_vec(),
        ..Site::loopback(3)
    };
    let mut nodes = ClusterProcess::new(program, directory, &site).unwrap();
    nodes.start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "the nodes meet");
    let mut clients = Vec::new();
    for options in nodes.connect_options() {
        let mut connection = Connection::open(&options).unwrap();
        let channel = connection.open_channel().unwrap();
        clients.push((connection, channel));
    }
    let (last, channel) = &mut clients[2];
    let local = QueueSpec {
        name: LOCAL.to_owned(),
        ..QueueSpec::default()
    };
    last.queue_declare(*channel, &local).unwrap();
    let (first, channel) = &mut clients[0];
    first.confirm_select(*channel).unwrap();
    for queue in QUEUES {
        let spec = QueueSpec::durable(queue);
        first.queue_declare(*channel, &spec).unwrap();
    }
    for queue in QUEUES.into_iter().chain([LOCAL]) {
        for _ in 0..MESSAGES {
            let properties = PropertyList::default();
            first
                .publish(*channel, "", queue, &properties, b"body")
                .unwrap();
        }
    }
    let refused = first.wait_for_confirms(*channel, PATIENCE).unwrap();
    assert!(refused.is_empty());
    let (last, channel) = &mut clients[2];
    last.consume(*channel, QUEUES[0], false).unwrap();
    Scene { nodes, clients }
}

/// Status, nodes of which nothing is known, body.
fn ask(nodes: &mut ClusterProcess, at: usize, method: &str, path: &str) -> (u16, String, Value) {
    ask_with(nodes, at, (method, path), String::new())
}

fn ask_with(
    nodes: &mut ClusterProcess,
    at: usize,
    (method, path): (&str, &str),
    body: String,
) -> (u16, String, Value) {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE));
    let agent: ureq::Agent = config.build().into();
    let uri = format!("http://{}/api{path}", nodes.node(at).http_address());
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(uri)
        .header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let mut response = agent.run(request.body(body).unwrap()).unwrap();
    let unknown = response.headers().get("staunch-unknown-nodes");
    let unknown = unknown.map_or("", |unknown| unknown.to_str().unwrap());
    let (status, unknown) = (response.status().as_u16(), unknown.to_owned());
    let text = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    (status, unknown, body)
}

#[track_caller]
fn get(nodes: &mut ClusterProcess, at: usize, path: &str) -> Value {
    let (status, unknown, body) = ask(nodes, at, "GET", path);
    assert_eq!(
        (status, unknown.as_str()),
        (200, ""),
        "node {at}: {path}: {body}"
    );
    body
}

/// Waits until all nodes answer in the same way, which is as expected.
#[track_caller]
fn agree(nodes: &mut ClusterProcess, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let mut answers = Vec::new();
    let is_good = wait(PATIENCE, || {
        answers = (0..3).map(|at| get(nodes, at, path)).collect();
        answers.iter().all(|it| *it == answers[0]) && expected(&answers[0])
    });
    assert!(is_good, "{path}: {answers:#?}");
    answers.swap_remove(0)
}

fn texts(rows: &Value, column: &str) -> BTreeSet<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row[column].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn every_node_shows_the_whole_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = scene(directory.path());
    check_queues(&mut scene.nodes);
    check_sums(&mut scene.nodes);
    check_horizons(&mut scene.nodes);
    check_clients(&mut scene);
    check_leaders(&mut scene.nodes);
}

/// The numbers are those of their leaders.
fn check_queues(nodes: &mut ClusterProcess) {
    let columns = "columns=name,node,state,messages,messages_unacknowledged,consumers";
    let is_full = |queues: &Value| {
        let rows = queues.as_array().unwrap();
        rows.iter().all(|row| row["messages"] == MESSAGES) && rows.len() == QUEUES.len() + 1
    };
    let queues = agree(nodes, &format!("/queues?sort=name&{columns}"), |queues| {
        is_full(queues) && queues[1]["messages_unacknowledged"] == MESSAGES
    });
    assert_eq!(texts(&queues, "node"), set(&["n1", "n2", "n3"]));
    assert_eq!(texts(&queues, "state"), set(&["running"]));
    assert_eq!(queues[1]["consumers"], 1);
    for page in ["sort=node", "sort=messages&sort_reverse=true", "sort=name"] {
        let path = format!("/queues?page=1&page_size=3&{page}&{columns}");
        let page = agree(nodes, &path, |page| page["total_count"] == 7);
        assert_eq!(page["items"].as_array().unwrap().len(), 3, "{page}");
    }
    let path = |queue: &str| format!("/queues/%2F/{queue}?columns=name,node,message_stats.publish");
    for queue in QUEUES.into_iter().chain([LOCAL]) {
        agree(nodes, &path(queue), |queue| {
            queue["message_stats"]["publish"] == MESSAGES
        });
    }
}

fn check_sums(nodes: &mut ClusterProcess) {
    let all = MESSAGES * (QUEUES.len() as u64 + 1);
    let columns = "object_totals,queue_totals.messages,message_stats.publish";
    let expected = json!({
        "object_totals":
            {"connections": 3, "channels": 3, "consumers": 1, "exchanges": 8, "queues": 7},
        "queue_totals": {"messages": all},
        "message_stats": {"publish": all},
    });
    let overview = format!("/overview?columns={columns}");
    agree(nodes, &overview, |it| *it == expected);
    let vhost = "/vhosts/%2F?columns=messages,cluster_state,message_stats.publish";
    agree(nodes, vhost, |it| {
        it["messages"] == all && it["message_stats"]["publish"] == all
    });
    let exchange = "/exchanges/%2F/amq.default?columns=message_stats.publish_in";
    agree(nodes, exchange, |it| {
        it["message_stats"]["publish_in"] == all
    });
    let shown = agree(nodes, "/nodes?columns=name,running,os_pid", |_| true);
    let pids = nodes.pids().into_iter().map(|pid| pid.to_string());
    let rows = shown.as_array().unwrap().iter();
    let is_told =
        |(row, pid): (&Value, String)| row["running"] == true && row["os_pid"] == *pid.as_str();
    assert!(rows.zip(pids).all(is_told), "{shown}");
}

fn check_horizons(nodes: &mut ClusterProcess) {
    for at in 0..3 {
        let is_whole = || get(nodes, at, "/staunch/v1/horizon")["total_count"] == 7;
        assert!(wait(PATIENCE, is_whole));
        let horizon = get(nodes, at, "/staunch/v1/horizon?page_size=3&basis=now");
        assert_eq!(texts(&horizon["nodes"], "name"), set(&["n1", "n2", "n3"]));
        assert_eq!(horizon["queues"].as_array().unwrap().len(), 3);
        let path = format!("/staunch/v1/horizon/queues/%2F/{LOCAL}");
        assert_eq!(get(nodes, at, &path)["node"], "n3");
        let asked = format!("{path}/what-if?rate_factor=2");
        assert_eq!(get(nodes, at, &asked)["name"], LOCAL);
    }
}

/// A queue is led by the node that is asked for, and holds what it held.
fn check_leaders(nodes: &mut ClusterProcess) {
    let path = format!("/queues/%2F/{}?columns=node,messages", QUEUES[0]);
    for leader in ["n2", "n3", "n1"] {
        let change = json!({"action": "lead", "node": leader});
        let replicas = format!("/staunch/v1/queues/%2F/{}/replicas", QUEUES[0]);
        let told = ask_with(nodes, 0, ("POST", &replicas), change.to_string());
        assert!((200..300).contains(&told.0), "{leader}: {told:?}");
        agree(nodes, &path, |queue| {
            *queue == json!({"node": leader, "messages": MESSAGES})
        });
    }
}

fn check_clients(scene: &mut Scene) {
    let Scene { nodes, clients } = scene;
    let columns = "columns=name,node,user";
    let three = |rows: &Value| rows.as_array().unwrap().len() == 3;
    let connections = agree(nodes, &format!("/connections?sort=name&{columns}"), three);
    assert_eq!(texts(&connections, "node"), set(&["n1", "n2", "n3"]));
    let page = "/connections?page=2&page_size=2&sort=node&columns=node";
    let page = agree(nodes, page, |page| page["total_count"] == 3);
    assert_eq!(page["items"], json!([{"node": "n3"}]));
    let channels = agree(nodes, &format!("/channels?sort=name&{columns}"), three);
    assert_eq!(texts(&channels, "node"), set(&["n1", "n2", "n3"]));
    let consumers = agree(nodes, "/consumers", |it| it.as_array().unwrap().len() == 1);
    assert_eq!(consumers[0]["channel_details"]["node"], "n3");

    // One is closed from another node.
    let mut all = connections.as_array().unwrap().iter();
    let first = all.find(|row| row["node"] == "n1").unwrap();
    let name = first["name"].as_str().unwrap().replace(' ', "%20");
    let path = format!("/connections/{}", name.replace('>', "%3E"));
    assert_eq!(get(nodes, 2, &path)["node"], "n1");
    assert_eq!(ask(nodes, 2, "DELETE", &path).0, 204);
    let error = clients[0].0.next(Some(PATIENCE)).err().unwrap();
    assert!(error.to_string().contains("CONNECTION_FORCED"), "{error}");
    let is_gone = || ask(nodes, 2, "DELETE", &path).0 == 404;
    assert!(wait(PATIENCE, is_gone));
}

#[test]
fn a_node_that_stands_still_is_not_waited_for_and_its_values_are_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let Scene {
        mut nodes,
        clients: _clients,
    } = scene(directory.path());
    let nodes = &mut nodes;
    let path = format!("/queues/%2F/{LOCAL}?columns=state,messages,node");
    let well = json!({"state": "running", "messages": MESSAGES, "node": "n3"});
    agree(nodes, &path, |queue| *queue == well);

    nodes.node(2).pause().unwrap();
    // Whether it is suspected already or not.
    let (status, unknown, overview) = ask(nodes, 0, "GET", "/overview");
    assert_eq!((status, unknown.as_str()), (200, "n3"), "{overview:#}");
    assert_eq!(overview["unknown_nodes"], json!(["n3"]));
    assert_eq!(overview["object_totals"]["connections"], 2);
    let (_, unknown, shown) = ask(nodes, 0, "GET", "/nodes");
    assert_eq!(unknown, "n3");
    assert_eq!(shown[1]["running"], true);
    assert_eq!(shown[1]["os_pid"], nodes.pids()[1].to_string());
    assert_eq!(shown[2]["name"], "n3");
    assert_eq!(shown[2]["running"], false);
    assert!(shown[2]["mem_used"].is_null(), "{shown}");
    let (_, unknown, queue) = ask(nodes, 0, "GET", &path);
    assert_eq!(unknown, "n3");
    assert_eq!(queue, json!({"state": "unknown", "node": "n3"}));
    let horizon = format!("/staunch/v1/horizon/queues/%2F/{LOCAL}");
    assert_eq!(ask(nodes, 0, "GET", &horizon).0, 503);
    let (_, unknown, horizons) = ask(nodes, 0, "GET", "/staunch/v1/horizon");
    assert_eq!(unknown, "n3");
    assert_eq!(horizons["unknown_nodes"], json!(["n3"]));
    // Others lead its queues before long.
    let is_known = |queues: &Value| {
        let rows = queues.as_array().unwrap().iter();
        rows.filter(|row| row["name"] != LOCAL).all(|row| {
            row["messages"] == MESSAGES && row["state"] == "running" && row["node"] != "n3"
        })
    };
    assert!(wait(PATIENCE, || is_known(
        &ask(nodes, 1, "GET", "/queues").2
    )));

    nodes.node(2).resume().unwrap();
    let is_whole = |nodes: &mut ClusterProcess| {
        (0..3).all(|at| ask(nodes, at, "GET", "/overview").2["unknown_nodes"] == json!([]))
    };
    assert!(wait(PATIENCE, || is_whole(nodes)), "n3 answers again");
    agree(nodes, &path, |queue| *queue == well);
}

/// A node is killed that leads some of the queues; clients of the others go on.
#[test]
fn a_failover_is_told_from_the_last_word_to_the_first_confirm() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = scene(directory.path());
    let nodes = &mut scene.nodes;
    let queues = get(nodes, 0, "/queues?columns=name,node");
    let queues = queues.as_array().unwrap().iter();
    let led = queues.filter(|row| row["node"] == "n3" && row["name"] != LOCAL);
    let led = led.count();
    assert!(led > 0);
    nodes.node(2).kill();
    let (first, channel) = &mut scene.clients[0];
    for queue in QUEUES {
        let properties = PropertyList::default();
        let published = first.publish(*channel, "", queue, &properties, b"body");
        published.unwrap();
    }
    let refused = first.wait_for_confirms(*channel, PATIENCE).unwrap();
    assert!(refused.is_empty());
    let mut told = Value::Null;
    let is_over = wait(PATIENCE, || {
        told = ask(nodes, 1, "GET", "/staunch/v1/failovers").2;
        told["failovers"][0]["is_over"] == true
    });
    assert!(is_over, "{told:#}");
    assert_eq!(told["unknown_nodes"], json!(["n3"]));
    let failover = &told["failovers"][0];
    let fields = ["node", "cause", "queues", "led"].map(|key| failover[key].clone());
    assert_eq!(
        fields,
        [json!("n3"), json!("broken"), json!(led), json!(led)]
    );
    let times = [
        "disconnected_ms",
        "suspected_ms",
        "first_led_ms",
        "all_led_ms",
        "confirmed_ms",
    ];
    let times = times.map(|key| failover[key].as_f64().unwrap());
    // Its last word and the end of the connection may be heard at the same moment.
    assert!(times[0] >= 0.0 && times[..4].is_sorted(), "{failover:#}");
    assert!(times[3] > 0.0, "{failover:#}");
    assert!(times[4] >= times[2], "{failover:#}");
    assert_eq!(failover["seen"].as_array().unwrap().len(), 2);
    let explained = failover["explained"].as_str().unwrap();
    assert!(explained.contains(" ms "), "{explained}");
    check_events(nodes, led);
    check_metrics(nodes, led);
    nodes.node(2).start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE));
    let told = get(nodes, 2, "/staunch/v1/failovers");
    let back = &told["failovers"][0]["back_ms"];
    assert!(back.as_f64() > failover["all_led_ms"].as_f64(), "{told:#}");
}

/// Both survivors tell that it was lost, and of the queues that they have come to lead.
fn check_events(nodes: &mut ClusterProcess, led: usize) {
    let mut events = Value::Null;
    let mut named = |nodes: &mut ClusterProcess, name: &str| {
        let path = format!("/staunch/v1/events?name={name}");
        events = ask(nodes, 0, "GET", &path).2["events"].clone();
        events.as_array().unwrap().clone()
    };
    let suspected = Value::Array(named(nodes, "node.suspected"));
    let of_n3 = suspected.as_array().unwrap().iter();
    let by: BTreeSet<_> = of_n3
        .filter(|event| event["fields"]["of"] == "n3" && event["fields"]["cause"] == "broken")
        .map(|event| event["node"].as_str().unwrap())
        .collect();
    assert_eq!(by, BTreeSet::from(["n1", "n2"]));
    let moved = |event: &Value| {
        let is_moved = event["fields"]["before"] == "n3";
        event["fields"]["count"].as_u64().filter(|_| is_moved)
    };
    let all_told = wait(PATIENCE, || {
        let counts = named(nodes, "queue.led");
        counts.iter().filter_map(moved).sum::<u64>() == led as u64
    });
    assert!(all_told, "{events:#}");
}

/// Each survivor tells of the queues that it keeps.
fn check_metrics(nodes: &mut ClusterProcess, led: usize) {
    let overview = ask(nodes, 0, "GET", "/overview").2;
    let listeners = overview["listeners"].as_array().unwrap();
    let is_it = |it: &&Value| it["node"] == "n1" && it["protocol"] == "http/prometheus";
    let Some(listener) = listeners.iter().find(is_it) else {
        panic!("{listeners:#?}");
    };
    let (address, port) = (listener["ip_address"].as_str().unwrap(), &listener["port"]);
    let url = format!("http://{address}:{port}/metrics");
    let text = ureq::get(&url).call().unwrap().body_mut().read_to_string();
    let text = text.unwrap();
    let queues = format!("staunch_failover_last_queues{{node=\"n3\"}} {led}\n");
    assert!(text.contains(&queues), "{text}");
    for phase in ["suspected", "led", "confirmed"] {
        let sample = format!("staunch_failover_last_seconds{{node=\"n3\",phase=\"{phase}\"}} ");
        assert!(text.contains(&sample), "{phase}: {text}");
    }
}
