//! A network of its own for the nodes of a cluster, whose cables can be cut.
//!
//! Each node runs in a network namespace with one leg on a bridge. A cut is the bridge's port set to
//! *disabled*: what is sent is dropped in both directions, nobody is told, and no connection is
//! reset, as when a switch or a machine dies.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// State of a bridge's port: 0 is disabled, 3 is forwarding (RFC 4188, dot1dStpPortState, less 1).
const DISABLED: &str = "0";
const FORWARDING: &str = "3";

/// Namespaces on a bridge.
#[derive(Debug)]
pub(super) struct Network {
    /// A word that names of this network begin with.
    prefix: String,
    /// The first three numbers of its addresses.
    subnet: String,
    node_count: usize,
}

impl Network {
    /// Makes the network. What undoes it is written into `undo`, a script for the guard.
    pub(super) fn create(node_count: usize, undo: &Path) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let network = Self {
            prefix: format!("sc{}", pid % 100_000),
            subnet: format!("10.{}.{}", 200 + pid / 256 % 50, pid % 256),
            node_count,
        };
        let delete = |at| format!("ip netns del {}\n", network.namespace(at));
        let namespaces: String = (0..node_count).map(delete).collect();
        std::fs::write(
            undo,
            format!("{namespaces}ip link del {}\n", network.bridge()),
        )?;
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        let outside = format!("{}.254/24", network.subnet);
        ip(&["addr", "add", &outside, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for at in 0..node_count {
            network.connect(at)?;
        }
        Ok(network)
    }

    fn connect(&self, at: usize) -> anyhow::Result<()> {
        let (namespace, port, bridge) = (self.namespace(at), self.port(at), self.bridge());
        ip(&["netns", "add", &namespace])?;
        let peer = ["peer", "name", "eth0", "netns", &namespace];
        ip(&[&["link", "add", &port, "type", "veth"][..], &peer].concat())?;
        ip(&["link", "set", &port, "master", &bridge, "up"])?;
        let inside = ["-n", &namespace];
        let address = format!("{}/24", self.host(at));
        ip(&[&inside[..], &["addr", "add", &address, "dev", "eth0"]].concat())?;
        ip(&[&inside[..], &["link", "set", "eth0", "up"]].concat())?;
        ip(&[&inside[..], &["link", "set", "lo", "up"]].concat())
    }

    /// Address of a node.
    pub(super) fn host(&self, at: usize) -> String {
        format!("{}.{}", self.subnet, at + 1)
    }

    pub(super) fn hosts(&self) -> Vec<String> {
        (0..self.node_count).map(|at| self.host(at)).collect()
    }

    /// What runs a program inside a node's namespace.
    pub(super) fn launcher(&self, at: usize) -> Vec<String> {
        let namespace = self.namespace(at);
        ["ip", "netns", "exec", &namespace]
            .map(str::to_owned)
            .to_vec()
    }

    /// Drops from now on whatever a node sends or is sent.
    pub(super) fn cut(&self, at: usize) -> anyhow::Result<()> {
        self.set_port(at, DISABLED)
    }

    pub(super) fn mend(&self, at: usize) -> anyhow::Result<()> {
        self.set_port(at, FORWARDING)
    }

    fn set_port(&self, at: usize, state: &str) -> anyhow::Result<()> {
        run(
            "bridge",
            &["link", "set", "dev", &self.port(at), "state", state],
        )
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn port(&self, at: usize) -> String {
        format!("{}p{at}", self.prefix)
    }

    fn namespace(&self, at: usize) -> String {
        format!("{}n{at}", self.prefix)
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {} (a cut needs root)",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
