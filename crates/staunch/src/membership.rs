//! Nodes that leave, replicas that move: what `staunch cluster`, `node` and `queue` change.

use std::{process::ExitCode, thread, time::Duration};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::{
        failure::{About as _, OrElse as _},
        output,
        target::{Target, path},
    },
    cluster::exit,
    nouns::{
        queues::{self, Named},
        replicas as kept,
    },
};

/// Between two requests to move a few replicas.
const REBALANCE_PAUSE: Duration = Duration::from_secs(1);

/// Where to look when there is no such node.
pub(crate) const MEMBERS_HINT: &str =
    "staunch cluster status shows the nodes; one that stands alone is none of a cluster";

#[derive(Args)]
pub(crate) struct Removal {
    /// The node.
    name: String,
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
    /// The one of its nodes that is to lead it from now on, while it is well.
    #[arg(long, group = "change")]
    lead: Option<String>,
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

pub(crate) fn safe_to_stop(target: &Target, node: &str) -> anyhow::Result<ExitCode> {
    let answer = target.get(&path(&["staunch", "v1", "nodes", node, "safe-to-stop"]));
    let answer = answer
        .about(|| format!("node '{node}'"))
        .or_see(MEMBERS_HINT)?;
    let check: Check = serde_json::from_value(answer)?;
    output::text(&check.text(node))?;
    Ok(exit(check.safe))
}

pub(crate) fn remove(target: &Target, removal: &Removal) -> anyhow::Result<ExitCode> {
    let node = &removal.name;
    let path = path(&["staunch", "v1", "nodes", node]);
    let answer = target.delete(&format!("{path}?force={}", removal.force));
    let answer = answer
        .about(|| format!("node '{node}'"))
        .or_see(MEMBERS_HINT)?;
    let removed: Removed = serde_json::from_slice(&answer)?;
    for queue in removed.lost_queues {
        output::text(&format!("lost: {queue}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rebalance(target: &Target) -> anyhow::Result<ExitCode> {
    let mut moved_count = 0;
    loop {
        let answer = target.post("staunch/v1/cluster/rebalance", b"{}")?;
        let moved: Moved = serde_json::from_slice(&answer)?;
        if moved.moved == 0 {
            break;
        }
        moved_count += moved.moved;
        thread::sleep(REBALANCE_PAUSE);
    }
    output::text(&format!("{moved_count} replicas are to move\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Does nothing if no change is asked for.
pub(crate) fn change_replicas(target: &Target, replicas: &Replicas) -> anyhow::Result<()> {
    let Replicas {
        add,
        remove,
        lead,
        from,
        to,
        named,
    } = replicas;
    let change = match (add, remove, lead, from) {
        (Some(node), _, _, _) => json!({"action": "add", "node": node}),
        (_, Some(node), _, _) => json!({"action": "remove", "node": node}),
        (_, _, Some(node), _) => json!({"action": "lead", "node": node}),
        (_, _, _, Some(node)) => json!({"action": "move", "node": node, "to": to}),
        (None, None, None, None) => return Ok(()),
    };
    let change = serde_json::to_vec(&change)?;
    let answer = target.post(&kept::path_of(target, &named.name), &change);
    answer
        .about(|| format!("replicated {}", queues::named(target, &named.name)))
        .or_see(MEMBERS_HINT)?;
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
