//! The cluster that is tormented, ours or the reference's.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::{
    ConnectOptions,
    proof::{
        cluster::{self, ClusterProcess, Site},
        node::free_ports,
    },
};

use super::{broker::Kind, network::Network};

/// Time for a node to start and to be like the others again.
const WHOLE_PATIENCE: Duration = Duration::from_mins(2);
/// Entries that a replica may lack and be called whole while the load goes on.
const BEHIND_MAX: u64 = 500;

/// What happens to the node that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// `kill -9`: its connections are reset at once.
    Kill,
    /// SIGSTOP: its connections are silent.
    Pause,
    /// Its cable is cut: whatever is sent is dropped.
    Cut,
    /// SIGTERM: it hands over before it goes.
    Stop,
}

impl How {
    pub(super) fn named(name: &str) -> anyhow::Result<Self> {
        match name {
            "kill" => Ok(Self::Kill),
            "pause" => Ok(Self::Pause),
            "cut" => Ok(Self::Cut),
            "stop" => Ok(Self::Stop),
            _ => bail!("a node can suffer kill, pause, cut or stop, not {name}"),
        }
    }
}

/// A cluster whose nodes can be struck.
#[derive(Debug)]
pub(super) enum Flock {
    Staunch(ClusterProcess, Option<Network>),
    RabbitMq(RabbitMqs),
}

impl Flock {
    pub(super) fn new(
        kind: Kind,
        root: &Path,
        binary: &Path,
        directory: &Path,
        count: usize,
        how: How,
    ) -> anyhow::Result<Self> {
        if kind == Kind::RabbitMq {
            ensure!(how != How::Cut, "--how cut is for our own broker");
            return Ok(Self::RabbitMq(RabbitMqs::new(root, directory, count)));
        }
        let network = match how {
            How::Cut => Some(Network::create(count, &directory.join("undo"))?),
            How::Kill | How::Pause | How::Stop => None,
        };
        let mut site = Site::loopback(count);
        site.arguments = vec!["--log-level".to_owned(), "info".to_owned()];
        if let Some(network) = &network {
            site.hosts = network.hosts();
            site.launchers = (0..count).map(|at| network.launcher(at)).collect();
            let open = ["--insecure-peers", "--loopback-users", "none"];
            site.arguments.extend(open.map(str::to_owned));
        }
        let nodes = ClusterProcess::new(binary, directory, &site)?;
        Ok(Self::Staunch(nodes, network))
    }

    /// Starts all nodes and waits until they are a cluster.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Staunch(nodes, _) => {
                nodes.start()?;
                ensure!(
                    nodes.view().wait_whole(WHOLE_PATIENCE),
                    "the nodes do not meet"
                );
                Ok(())
            }
            Self::RabbitMq(nodes) => nodes.start(),
        }
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Staunch(nodes, _) => nodes.pids(),
            Self::RabbitMq(nodes) => nodes.pids(),
        }
    }

    pub(super) fn connect_options(&self) -> Vec<ConnectOptions> {
        match self {
            Self::Staunch(nodes, _) => nodes.connect_options(),
            Self::RabbitMq(nodes) => nodes.connect_options(),
        }
    }

    /// The place of the node that leads a queue, as one of those says that are not in `without`.
    pub(super) fn leader(&self, queue: &str, without: &[usize]) -> Option<usize> {
        match self {
            Self::Staunch(nodes, _) => nodes.view().leader(queue, without),
            Self::RabbitMq(nodes) => nodes.leader(queue, without),
        }
    }

    pub(super) fn strike(&mut self, at: usize, how: How) -> anyhow::Result<()> {
        match (self, how) {
            (Self::Staunch(nodes, _), How::Kill) => nodes.node(at).kill(),
            (Self::Staunch(nodes, _), How::Stop) => nodes.node(at).stop()?,
            (Self::Staunch(nodes, _), How::Pause) => nodes.node(at).pause()?,
            (Self::Staunch(_, Some(network)), How::Cut) => network.cut(at)?,
            (Self::Staunch(_, None) | Self::RabbitMq(_), How::Cut) => bail!("no cable to cut"),
            (Self::RabbitMq(nodes), How::Kill) => nodes.signal(at, "KILL")?,
            (Self::RabbitMq(_), How::Stop) => bail!("--how stop is for our own broker"),
            (Self::RabbitMq(nodes), How::Pause) => nodes.signal(at, "STOP")?,
        }
        Ok(())
    }

    /// Undoes a strike.
    pub(super) fn heal(&mut self, at: usize, how: How) -> anyhow::Result<()> {
        match (self, how) {
            (Self::Staunch(nodes, _), How::Kill | How::Stop) => drop(nodes.node(at).start()?),
            (Self::Staunch(nodes, _), How::Pause) => nodes.node(at).resume()?,
            (Self::Staunch(_, Some(network)), How::Cut) => network.mend(at)?,
            (Self::Staunch(_, None) | Self::RabbitMq(_), How::Cut) => bail!("no cable to mend"),
            (Self::RabbitMq(nodes), How::Kill | How::Stop) => nodes.start_node(at)?,
            (Self::RabbitMq(nodes), How::Pause) => nodes.signal(at, "CONT")?,
        }
        Ok(())
    }

    /// Waits until all nodes see each other and all replicas of the queues are up to date.
    pub(super) fn wait_whole(&self, queues: &[String]) -> anyhow::Result<()> {
        let is_whole = match self {
            Self::Staunch(nodes, _) => {
                let caught_up = |queue| {
                    nodes
                        .view()
                        .wait_caught_up(queue, BEHIND_MAX, WHOLE_PATIENCE)
                };
                nodes.view().wait_whole(WHOLE_PATIENCE)
                    && queues.iter().all(|queue| caught_up(queue))
            }
            Self::RabbitMq(nodes) => cluster::wait(WHOLE_PATIENCE, || {
                queues.iter().all(|queue| nodes.is_whole(queue))
            }),
        };
        ensure!(is_whole, "not whole again within {WHOLE_PATIENCE:?}");
        Ok(())
    }
}

/// A cluster of RabbitMQ by the scripts of `tests-external`.
#[derive(Debug)]
pub(super) struct RabbitMqs {
    scripts: PathBuf,
    directory: PathBuf,
    /// AMQP and HTTP.
    ports: Vec<(u16, u16)>,
}

impl RabbitMqs {
    fn new(root: &Path, directory: &Path, count: usize) -> Self {
        let mut free = free_ports();
        let mut port = || free.next().unwrap_or_default();
        Self {
            scripts: root.join("tests-external/rabbitmq"),
            directory: directory.to_owned(),
            ports: (0..count).map(|_| (port(), port())).collect(),
        }
    }

    fn start(&self) -> anyhow::Result<()> {
        let ports = self
            .ports
            .iter()
            .map(|(amqp, http)| format!("{amqp}/{http}"));
        let mut command = Command::new(self.scripts.join("cluster"));
        command.arg("start").arg(&self.directory).args(ports);
        run(&mut command)
    }

    fn start_node(&self, at: usize) -> anyhow::Result<()> {
        let mut command = Command::new(self.scripts.join("cluster"));
        command
            .arg("restart")
            .arg(&self.directory)
            .arg((at + 1).to_string());
        run(&mut command)
    }

    fn signal(&self, at: usize, signal: &str) -> anyhow::Result<()> {
        let pid = self
            .pid(at, "broker.pid")
            .context("the node is not running")?;
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .status()?;
        ensure!(status.success(), "kill -{signal} {pid}: {status}");
        Ok(())
    }

    fn pid(&self, at: usize, file: &str) -> Option<u32> {
        let path = self.directory.join(format!("r{}", at + 1)).join(file);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn pids(&self) -> Vec<u32> {
        let files = ["broker.pid", "wrapper.pid", "epmd.pid"];
        let of_node = |at| files.into_iter().filter_map(move |file| self.pid(at, file));
        (0..self.ports.len()).flat_map(of_node).collect()
    }

    fn connect_options(&self) -> Vec<ConnectOptions> {
        let options = |(amqp, _): &(u16, u16)| ConnectOptions {
            port: *amqp,
            timeout: Duration::from_secs(10),
            ..ConnectOptions::default()
        };
        self.ports.iter().map(options).collect()
    }

    fn leader(&self, queue: &str, without: &[usize]) -> Option<usize> {
        let asked = (0..self.ports.len()).filter(|at| !without.contains(at));
        let mut answers = asked.filter_map(|at| {
            let answer = self.ask(at, queue)?;
            let leader = answer["leader"].as_str()?.to_owned();
            let is_named = |(amqp, _): &(u16, u16)| leader.contains(&format!("-{amqp}@"));
            self.ports.iter().position(is_named)
        });
        answers.find(|leader| !without.contains(leader))
    }

    /// All members are online, as one of them says.
    fn is_whole(&self, queue: &str) -> bool {
        (0..self.ports.len()).all(|at| {
            let answer = self.ask(at, queue);
            let online = answer
                .as_ref()
                .and_then(|answer| answer["online"].as_array());
            online.is_some_and(|online| online.len() == self.ports.len())
        })
    }

    fn ask(&self, at: usize, queue: &str) -> Option<serde_json::Value> {
        let (_, http) = self.ports[at];
        let path = format!("/api/queues/%2F/{queue}");
        cluster::get(&format!("127.0.0.1:{http}"), &path).ok()
    }
}

impl Drop for RabbitMqs {
    fn drop(&mut self) {
        let mut command = Command::new(self.scripts.join("cluster"));
        command.arg("stop").arg(&self.directory);
        // The guard kills what is left.
        drop(run(&mut command));
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command
        .status()
        .context("run tests-external/rabbitmq/cluster")?;
    ensure!(status.success(), "rabbitmq: {status}");
    Ok(())
}
