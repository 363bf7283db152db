//! Nodes that leave, replicas that move: what `staunch cluster`, `node` and `queue` change.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cluster::{Named, NamedNode, exit, without_user},
    target::{DEFAULT_URL, Target, segment},
};

/// Between two requests to move a few replicas.
const REBALANCE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Rebalance {
    /// Where any node's HTTP interface is, and who asks.
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
}

#[derive(Args)]
pub(crate) struct Removal {
    #[command(flatten)]
    node: NamedNode,
    /// The node is gone for good: what it alone has kept is lost, and it never comes back.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(crate) struct Replicas {
    #[command(flatten)]
    pub(crate) named: Named,
    /// A node that is to keep the queue as well.
    #[arg(long, group = "change")]
    add: Option<String>,
    /// A node that is to keep it no longer.
    #[arg(long, group = "change")]
    remove: Option<String>,
    /// A node whose replica another is to have.
    #[arg(long = "move", group = "change", requires = "to")]
    from: Option<String>,
    /// That other.
    #[arg(long, requires = "from")]
    to: Option<String>,
}

#[derive(Deserialize)]
struct Check {
    safe: bool,
    catalog: bool,
    queues: u64,
    named_queues: Vec<NamedQueue>,
}

#[derive(Deserialize)]
struct NamedQueue {
    vhost: String,
    name: String,
}

#[derive(Deserialize)]
struct Removed {
    lost_queues: Vec<String>,
}

#[derive(Deserialize)]
struct Moved {
    moved: u64,
}

pub(crate) fn safe_to_stop(named: &NamedNode) -> anyhow::Result<ExitCode> {
    let path = format!("staunch/v1/nodes/{}/safe-to-stop", segment(&named.name));
    let answer = Target::parse(&named.url)?.get(&path);
    let answer = answer.with_context(|| format!("ask the node at {}", without_user(&named.url)))?;
    let check: Check = serde_json::from_slice(&answer).context("the answer is no check")?;
    io::stdout()
        .lock()
        .write_all(check.text(&named.name).as_bytes())?;
    Ok(exit(check.safe))
}

pub(crate) fn remove(removal: &Removal) -> anyhow::Result<ExitCode> {
    let named = &removal.node;
    let path = format!(
        "staunch/v1/nodes/{}?force={}",
        segment(&named.name),
        removal.force
    );
    let answer = Target::parse(&named.url)?.delete(&path);
    let answer = answer.with_context(|| format!("remove node {}", named.name))?;
    let removed: Removed = serde_json::from_slice(&answer).context("the answer is no removal")?;
    let mut out = io::stdout().lock();
    for queue in removed.lost_queues {
        writeln!(out, "lost: {queue}")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rebalance(rebalance: &Rebalance) -> anyhow::Result<ExitCode> {
    let target = Target::parse(&rebalance.url)?;
    let mut moved_count = 0;
    loop {
        let answer = target.post("staunch/v1/cluster/rebalance", b"{}");
        let answer =
            answer.with_context(|| format!("ask the node at {}", without_user(&rebalance.url)))?;
        let moved: Moved = serde_json::from_slice(&answer).context("the answer is no count")?;
        if moved.moved == 0 {
            break;
        }
        moved_count += moved.moved;
        thread::sleep(REBALANCE_PAUSE);
    }
    writeln!(io::stdout().lock(), "{moved_count} replicas are to move")?;
    Ok(ExitCode::SUCCESS)
}

/// Does nothing if no change is asked for.
pub(crate) fn change_replicas(replicas: &Replicas) -> anyhow::Result<()> {
    let Replicas {
        add,
        remove,
        from,
        to,
        ..
    } = replicas;
    let change = match (add, remove, from) {
        (Some(node), _, _) => json!({"action": "add", "node": node}),
        (_, Some(node), _) => json!({"action": "remove", "node": node}),
        (_, _, Some(node)) => json!({"action": "move", "node": node, "to": to}),
        (None, None, None) => return Ok(()),
    };
    let change = serde_json::to_vec(&change)?;
    let asked = &replicas.named.asked;
    let answer = Target::parse(&asked.url)?.post(&replicas.named.path(), &change);
    answer.with_context(|| format!("ask the node at {}", without_user(&asked.url)))?;
    Ok(())
}

impl Check {
    fn text(&self, node: &str) -> String {
        if self.safe {
            return format!("{node} can be stopped\n");
        }
        let mut text = String::new();
        if self.catalog {
            text.push_str("without it there is no majority of nodes: nothing could be declared\n");
        }
        if self.queues > 0 {
            text.extend([format!("{} queues would have no majority\n", self.queues)]);
        }
        let named = self.named_queues.iter();
        text.extend(named.map(|queue| format!("no majority: {} in {}\n", queue.name, queue.vhost)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_would_stand_still() {
        let check = r#"{"safe": false, "catalog": true, "queues": 2,
            "named_queues": [{"vhost": "/", "name": "q"}]}"#;
        let check: Check = serde_json::from_str(check).expect("it is a check");
        let expected = "\
without it there is no majority of nodes: nothing could be declared
2 queues would have no majority
no majority: q in /
";
        assert_eq!(check.text("n1"), expected);
    }
}
