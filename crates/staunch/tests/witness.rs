//! Two nodes that keep messages and a witness, as processes of their own.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use staunch_client::{
    Connection,
    proof::{
        cluster::{ClusterProcess, Site, wait},
        workload::{Workload, WorkloadSpec},
    },
};

/// Longest wait for anything that a test expects.
const PATIENCE: Duration = Duration::from_mins(1);
const WITNESS: usize = 2;
/// Bodies are so large that a disk with a few of them shows it.
const BODY_SIZE_BYTES: usize = 4096;

fn staunch(nodes: &mut ClusterProcess, asked: usize, arguments: &[&str]) -> Output {
    let url = format!("http://{}", nodes.node(asked).http_address());
    Command::new(env!("CARGO_BIN_EXE_staunch"))
        .args(arguments)
        .args(["--url", &url])
        .output()
        .unwrap()
}

fn table(nodes: &mut ClusterProcess, asked: usize, arguments: &[&str]) -> String {
    String::from_utf8(staunch(nodes, asked, arguments).stdout).unwrap()
}

/// Occurrences of `text` in the files of a node.
fn occurrences(nodes: &ClusterProcess, at: usize, text: &[u8]) -> usize {
    let mut directories = vec![nodes.data_dir(at)];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(content) = fs::read(&path) {
                count += content
                    .windows(text.len())
                    .filter(|part| *part == text)
                    .count();
            }
        }
    }
    count
}

#[test]
fn the_primary_is_killed_under_load_and_the_other_takes_over_beside_a_witness() {
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_staunch"));
    let site = Site {
        arguments: ["--primary-node", "n1"].map(str::to_owned).to_vec(),
        has_witness: true,
        ..Site::loopback(3)
    };
    let mut nodes = ClusterProcess::new(program, directory.path(), &site).unwrap();
    nodes.start().unwrap();
    assert!(nodes.view().wait_whole(PATIENCE), "the nodes meet");
    let status = table(&mut nodes, 0, &["cluster", "status"]);
    let is_witness = |line: &&str| line.starts_with("n3 ") && line.ends_with("witness");
    assert_eq!(status.lines().filter(is_witness).count(), 1, "{status}");
    // It serves no clients.
    let options = nodes.connect_options();
    let refused = Connection::open(&options[WITNESS])
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("witness"), "{refused}");

    let spec = WorkloadSpec {
        rate_per_producer: Some(200),
        body_size_bytes: BODY_SIZE_BYTES,
        queue_type: Some("quorum".to_owned()),
        ..WorkloadSpec::default()
    };
    let mut workload = Workload::start_on(&options[..WITNESS], &spec).unwrap();
    assert!(wait(PATIENCE, || workload.progress().confirmed > 100));
    let queue = Workload::queue_name(0);
    let leads = |nodes: &ClusterProcess, at| nodes.view().leader(&queue, &[]) == Some(at);
    assert!(wait(PATIENCE, || leads(&nodes, 0)), "n1 leads");
    let replicas = table(&mut nodes, 0, &["queue", "replicas", &queue]);
    assert!(replicas.contains("n3    witness"), "{replicas}");

    workload.leave(0);
    assert!(workload.wait_home(PATIENCE));
    nodes.node(0).kill();
    workload.probe();
    let all_confirmed = || workload.probed().iter().all(Option::is_some);
    assert!(wait(PATIENCE, all_confirmed), "n2 takes over");
    let status: Value = nodes.view().status(1).unwrap();
    assert!(
        status["groups"]["single_copy"].as_u64() > Some(0),
        "{status}"
    );
    assert!(table(&mut nodes, 1, &["cluster", "status"]).contains("one whole copy"));
    let safe = staunch(&mut nodes, 1, &["node", "safe-to-stop", "n2"]);
    assert_eq!(safe.status.code(), Some(1));

    nodes.node(0).start().unwrap();
    assert!(nodes.view().wait_caught_up(&queue, 100, PATIENCE));
    assert!(wait(PATIENCE, || leads(&nodes, 0)), "n1 gets it back");
    let is_whole = |nodes: &ClusterProcess| {
        let status = nodes.view().status(0).unwrap_or_default();
        status["groups"]["single_copy"] == 0
    };
    assert!(wait(PATIENCE, || is_whole(&nodes)), "two copies again");
    let name = queue.as_bytes();
    let (kept, witnessed) = (
        occurrences(&nodes, 0, name),
        occurrences(&nodes, WITNESS, name),
    );
    assert!(kept > 200, "messages name their queue: {kept}");
    assert!(
        witnessed < kept / 10,
        "the witness has none: {witnessed} of {kept}"
    );
    let verdict = workload.settle(PATIENCE, drop);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.refused, 0);
    assert_eq!(workload.interruptions(), 0);
    assert_eq!(workload.refusals(), [""; 0]);
}
