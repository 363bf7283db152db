//! Nodes as processes of their own that join, lose their disk, leave and are restarted under load.
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
const PATIENCE: Duration = Duration::from_mins(1);

fn three(directory: &Path) -> ClusterProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_staunch"));
    let mut nodes = ClusterProcess::new(program, directory, &Site::loopback(3)).unwrap();
    nodes.start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "the nodes meet");
    nodes
}

fn load(nodes: &ClusterProcess) -> Workload {
    let spec = WorkloadSpec {
        rate_per_producer: Some(200),
        queue_type: Some("quorum".to_owned()),
        ..WorkloadSpec::default()
    };
    let workload = Workload::start_on(&nodes.connect_options(), &spec).unwrap();
    assert!(wait(PATIENCE, || workload.progress().confirmed > 100));
    workload
}

fn staunch(nodes: &mut ClusterProcess, asked: usize, arguments: &[&str]) -> Output {
    let url = format!("http://{}", nodes.node(asked).http_address());
    Command::new(env!("CARGO_BIN_EXE_staunch"))
        .args(arguments)
        .args(["--url", &url])
        .output()
        .unwrap()
}

#[track_caller]
fn staunch_done(nodes: &mut ClusterProcess, asked: usize, arguments: &[&str]) {
    let output = staunch(nodes, asked, arguments);
    assert!(output.status.success(), "{output:?}");
}

/// Id of a node that is up and one of the cluster's, as another says.
fn id_of(nodes: &ClusterProcess, asked: usize, node: &str) -> Option<u64> {
    let status = nodes.view().status(asked).ok()?;
    let all = status["nodes"].as_array()?;
    let found = all.iter().find(|it| it["name"] == node)?;
    let is_member = found["state"] == "member" && found["up"] == true;
    found["id"].as_u64().filter(|_| is_member)
}

/// Names of the nodes that vote for a queue, in order, as its leader says.
fn voters(nodes: &ClusterProcess, queue: &str, without: &[usize]) -> Vec<String> {
    let leader = nodes.view().leader(queue, without);
    let replicas = leader.and_then(|leader| nodes.view().replicas(leader, queue).ok());
    let replicas = replicas.unwrap_or_default();
    let all = replicas["replicas"].as_array().cloned().unwrap_or_default();
    let voters = all.iter().filter(|it| it["voter"] == true);
    let mut voters: Vec<String> = voters
        .filter_map(|it| it["node"].as_str().map(str::to_owned))
        .collect();
    voters.sort_unstable();
    voters
}

#[test]
fn nodes_join_lose_their_disk_and_leave_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let mut workload = load(&nodes);
    let queue = Workload::queue_name(0);
    // One more, which knows only one of the others.
    let new = nodes.add(1).unwrap();
    nodes.node(new).start().unwrap();
    assert!(
        wait(PATIENCE, || id_of(&nodes, 0, "n4") == Some(4)),
        "n4 joins"
    );
    let change = ["queue", "replicas", &queue, "--move", "n1", "--to", "n4"];
    staunch_done(&mut nodes, 1, &change);
    let is_moved = |nodes: &ClusterProcess| voters(nodes, &queue, &[]) == ["n2", "n3", "n4"];
    assert!(wait(PATIENCE, || is_moved(&nodes)), "n4 has the queue");
    // One comes back without its data.
    workload.leave(1);
    assert!(workload.wait_home(PATIENCE));
    nodes.node(1).kill();
    std::fs::remove_dir_all(nodes.data_dir(1)).unwrap();
    nodes.node(1).start().unwrap();
    assert!(
        wait(PATIENCE, || id_of(&nodes, 0, "n2") == Some(5)),
        "n2 is another"
    );
    assert!(
        wait(PATIENCE, || is_moved(&nodes)),
        "it has the queue again"
    );
    assert!(nodes.view().wait_caught_up(&queue, 100, PATIENCE));
    // One leaves for good: its clients go elsewhere before.
    workload.leave(2);
    assert!(workload.wait_home(PATIENCE));
    // Not before the others are a majority without it, also of those who keep the catalog.
    let is_let_go = |nodes: &mut ClusterProcess| {
        let output = staunch(nodes, 0, &["node", "remove", "n3"]);
        output.status.success()
    };
    assert!(wait(PATIENCE, || is_let_go(&mut nodes)), "n3 may leave");
    let has_left = |nodes: &ClusterProcess| {
        let status = nodes.view().status(0).unwrap_or_default();
        let all = status["nodes"].as_array().cloned().unwrap_or_default();
        !all.is_empty() && all.iter().all(|it: &Value| it["name"] != "n3")
    };
    assert!(wait(PATIENCE, || has_left(&nodes)), "n3 leaves");
    let knows = |nodes: &mut ClusterProcess| nodes.node(2).log_end().contains("was removed");
    assert!(wait(PATIENCE, || knows(&mut nodes)), "n3 knows it");
    nodes.node(2).stop().unwrap();
    let is_kept = |nodes: &ClusterProcess| voters(nodes, &queue, &[2]) == ["n1", "n2", "n4"];
    assert!(
        wait(PATIENCE, || is_kept(&nodes)),
        "others keep what it had"
    );
    assert!(
        nodes.node(2).start().is_err(),
        "its data is of no use any more"
    );
    let verdict = workload.settle(PATIENCE, drop);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.refused, 0);
    assert_eq!(workload.refusals(), [""; 0]);
}

#[test]
fn nodes_are_restarted_one_after_the_other_without_a_refused_publish() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let mut workload = load(&nodes);
    for at in 0..3 {
        let name = format!("n{}", at + 1);
        let others = (at + 1) % 3;
        let is_safe = |nodes: &mut ClusterProcess| {
            let output = staunch(nodes, others, &["node", "safe-to-stop", &name]);
            output.status.success()
        };
        assert!(wait(PATIENCE, || is_safe(&mut nodes)), "{name} may stop");
        workload.leave(at);
        assert!(workload.wait_home(PATIENCE));
        nodes.node(at).stop().unwrap();
        // Two are left: neither may stop now.
        let next = format!("n{}", others + 1);
        let is_unsafe = |nodes: &mut ClusterProcess| {
            let output = staunch(nodes, others, &["node", "safe-to-stop", &next]);
            output.status.code() == Some(1)
        };
        assert!(wait(PATIENCE, || is_unsafe(&mut nodes)), "{next} is needed");
        nodes.node(at).start().unwrap();
        assert!(nodes.view().wait_whole(PATIENCE), "{name} is back");
    }
    let verdict = workload.settle(PATIENCE, drop);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.refused, 0);
    assert_eq!(workload.interruptions(), 0);
    assert_eq!(workload.refusals(), [""; 0]);
}
