//! Three nodes as processes of their own, and what operators see of them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use staunch_client::proof::{
    cluster::{ClusterProcess, Site, wait},
    workload::{Workload, WorkloadSpec},
};

/// Longest wait for anything that a test expects.
const PATIENCE: Duration = Duration::from_secs(30);

fn three(directory: &Path) -> ClusterProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_staunch"));
    let mut nodes = ClusterProcess::new(program, directory, &Site::loopback(3)).unwrap();
    nodes.start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "the nodes meet");
    nodes
}

fn staunch(nodes: &mut ClusterProcess, asked: usize, arguments: &[&str]) -> Output {
    let url = format!("http://{}", nodes.node(asked).http_address());
    Command::new(env!("CARGO_BIN_EXE_staunch"))
        .args(arguments)
        .args(["--url", &url])
        .output()
        .unwrap()
}

fn states(nodes: &mut ClusterProcess, asked: usize) -> Vec<(String, bool, bool)> {
    let output = staunch(nodes, asked, &["cluster", "status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = |node: &Value| {
        let name = node["name"].as_str().unwrap().to_owned();
        (name, node["up"] == true, node["suspected"] == true)
    };
    status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(state)
        .collect()
}

#[test]
fn nodes_meet_and_the_others_say_who_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let well = staunch(&mut nodes, 0, &["cluster", "status"]);
    assert!(well.status.success(), "{well:?}");
    let table = String::from_utf8(well.stdout).unwrap();
    assert!(table.contains("\nn1 *  1   up"), "{table}");
    let incarnation =
        |nodes: &ClusterProcess| nodes.view().status(0).unwrap()["nodes"][2]["incarnation"].clone();
    let before = incarnation(&nodes);
    nodes.node(2).kill();
    let gone = |nodes: &mut ClusterProcess| states(nodes, 0)[2] == ("n3".to_owned(), false, true);
    assert!(wait(PATIENCE, || gone(&mut nodes)), "n3 is missed");
    let output = staunch(&mut nodes, 1, &["cluster", "status"]);
    assert_eq!(output.status.code(), Some(1));
    nodes.node(2).start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "n3 is back");
    assert_ne!(incarnation(&nodes), before);
    // One that stands still is silent on a good connection; one that stops well says so.
    nodes.node(2).pause().unwrap();
    let silent = |nodes: &mut ClusterProcess| states(nodes, 0)[2] == ("n3".to_owned(), true, true);
    assert!(wait(PATIENCE, || silent(&mut nodes)), "n3 is silent");
    nodes.node(2).resume().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "n3 speaks again");
    nodes.node(2).stop().unwrap();
    assert!(wait(PATIENCE, || gone(&mut nodes)), "n3 has left");
}

/// D02 and D03 of `staunch doctor`.
#[test]
fn doctor_finds_nodes_that_are_down_and_queues_without_leader() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let made = staunch(
        &mut nodes,
        0,
        &["queue", "create", "orders", "--type", "quorum"],
    );
    assert!(made.status.success(), "{made:?}");
    let finds = |nodes: &mut ClusterProcess, finding: &str| {
        let output = staunch(nodes, 0, &["doctor", "--columns", "code,what"]);
        String::from_utf8(output.stdout).unwrap().contains(finding)
    };
    assert!(!finds(&mut nodes, "D02") && !finds(&mut nodes, "D03"));
    nodes.node(2).kill();
    assert!(wait(PATIENCE, || finds(
        &mut nodes,
        "D02   node n3 is down"
    )));
    nodes.node(1).kill();
    let leaderless = "D03   queue 'orders' has no leader";
    assert!(wait(PATIENCE, || finds(&mut nodes, leaderless)));
}

#[test]
fn who_is_asked_about_a_queue_that_is_not_there_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let output = staunch(&mut nodes, 0, &["queue", "leader", "no/such queue"]);
    assert_eq!(output.status.code(), Some(4));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("no queue 'no/such queue'"), "{errors}");
}

#[test]
fn a_leader_that_dies_takes_nothing_with_it_and_cuts_nobody_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let spec = WorkloadSpec {
        rate_per_producer: Some(200),
        queue_type: Some("quorum".to_owned()),
        ..WorkloadSpec::default()
    };
    let mut workload = Workload::start_on(&nodes.connect_options(), &spec).unwrap();
    let confirmed = |workload: &Workload| workload.progress().confirmed;
    assert!(wait(PATIENCE, || confirmed(&workload) > 100));
    let queue = Workload::queue_name(0);
    let leader = nodes.view().leader(&queue, &[]).unwrap();
    workload.leave(leader);
    assert!(workload.wait_home(PATIENCE));
    nodes.node(leader).kill();
    workload.probe();
    assert!(wait(PATIENCE, || workload
        .probed()
        .iter()
        .all(Option::is_some)));
    let next = nodes.view().leader(&queue, &[leader]);
    assert!(next.is_some_and(|next| next != leader), "{next:?}");
    nodes.node(leader).start().unwrap();
    assert!(nodes.view().wait_caught_up(&queue, 100, PATIENCE));
    let verdict = workload.settle(PATIENCE, drop);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.refused, 0);
    assert_eq!(workload.interruptions(), 0);
    assert_eq!(workload.refusals(), [""; 0]);
}
