//! The broker that is tormented.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::{ConnectOptions, proof::node::NodeProcess};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours.
    Staunch,
    /// The reference, to prove the harness with.
    RabbitMq,
}

impl Kind {
    pub(super) fn named(name: &str) -> anyhow::Result<Self> {
        match name {
            "staunch" => Ok(Self::Staunch),
            "rabbitmq" => Ok(Self::RabbitMq),
            _ => bail!("no broker {name}"),
        }
    }
}

/// A broker that can be killed and started again on the same data.
#[derive(Debug)]
pub(super) enum Broker {
    Staunch(NodeProcess),
    RabbitMq(RabbitMq),
}

impl Broker {
    pub(super) fn new(
        kind: Kind,
        root: &Path,
        binary: &Path,
        data_dir: &Path,
        log_file: &Path,
        launcher: Option<&Path>,
    ) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Staunch => {
                let node = NodeProcess::new(binary, data_dir, log_file)?
                    .with_arguments(&["--log-level", "warn"]);
                Self::Staunch(match launcher {
                    Some(launcher) => node.with_launcher(&[launcher.as_os_str()]),
                    None => node,
                })
            }
            Kind::RabbitMq => Self::RabbitMq(RabbitMq {
                start: root.join("tests-external/rabbitmq/start"),
                data_dir: data_dir.to_owned(),
                launcher: launcher.map(Path::to_owned),
                port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
                running: Vec::new(),
            }),
        })
    }

    pub(super) fn connect_options(&self) -> ConnectOptions {
        match self {
            Self::Staunch(node) => node.connect_options(),
            Self::RabbitMq(node) => ConnectOptions {
                port: node.port,
                timeout: Duration::from_secs(10),
                ..ConnectOptions::default()
            },
        }
    }

    /// Starts it and waits until it is ready; gives its processes.
    pub(super) fn start(&mut self) -> anyhow::Result<Vec<u32>> {
        match self {
            Self::Staunch(node) => {
                node.start()?;
                Ok(node.pid().into_iter().collect())
            }
            Self::RabbitMq(node) => node.start(),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        match self {
            Self::Staunch(node) => node.kill(),
            Self::RabbitMq(node) => node.kill(),
        }
    }
}

/// A node of RabbitMQ by the scripts of `tests-external`.
#[derive(Debug)]
pub(super) struct RabbitMq {
    start: PathBuf,
    data_dir: PathBuf,
    launcher: Option<PathBuf>,
    port: u16,
    /// Its processes. They are read once: a file system without power cannot be asked.
    running: Vec<u32>,
}

impl RabbitMq {
    fn start(&mut self) -> anyhow::Result<Vec<u32>> {
        let mut command = match &self.launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                command.arg(&self.start);
                command
            }
            None => Command::new(&self.start),
        };
        let status = command
            .arg(&self.data_dir)
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run tests-external/rabbitmq/start")?;
        ensure!(status.success(), "rabbitmq did not start: {status}");
        self.running = self.pids();
        Ok(self.running.clone())
    }

    /// The node, its wrapper and its port mapper; it has written their ids down.
    fn pids(&self) -> Vec<u32> {
        let read = |name| {
            let text = std::fs::read_to_string(self.data_dir.join(name)).ok()?;
            text.trim().parse().ok()
        };
        ["broker.pid", "wrapper.pid", "epmd.pid"]
            .into_iter()
            .filter_map(read)
            .collect()
    }

    fn kill(&mut self) {
        let running = std::mem::take(&mut self.running);
        for &pid in &running {
            let descendants = descendants(pid);
            for pid in descendants.into_iter().chain([pid]) {
                // It may be gone already.
                drop(Command::new("kill").args(["-9", &pid.to_string()]).output());
            }
        }
        for pid in running {
            for _ in 0..200 {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                if state.map_or(true, |stat| stat.contains(") Z ")) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
    }
}

fn descendants(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children: Vec<u32> = children
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect();
    children
        .into_iter()
        .flat_map(|child| descendants(child).into_iter().chain([child]))
        .collect()
}
