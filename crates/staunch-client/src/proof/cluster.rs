//! Server processes that form a cluster.

use std::{
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::node::{NodeError, NodeProcess};
use crate::options::ConnectOptions;

/// Time for a question to a node over HTTP.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Nodes `n1`, `n2`… of one cluster. Dropping it kills them.
#[derive(Debug)]
pub struct ClusterProcess {
    nodes: Vec<NodeProcess>,
    view: View,
    program: PathBuf,
    directory: PathBuf,
}

/// The nodes of a cluster as they can be asked over HTTP.
#[derive(Clone, Debug)]
pub struct View {
    addresses: Vec<String>,
}

/// Where the nodes of a cluster run.
#[derive(Clone, Debug)]
pub struct Site {
    /// Address of each node.
    pub hosts: Vec<String>,
    /// Program and arguments that run each node's program; empty for none.
    pub launchers: Vec<Vec<String>>,
    /// Further arguments of every node.
    pub arguments: Vec<String>,
    /// The last one is a witness.
    pub has_witness: bool,
}

impl Site {
    /// `count` nodes on the loopback.
    #[must_use]
    pub fn loopback(count: usize) -> Self {
        Self {
            hosts: vec!["127.0.0.1".to_owned(); count],
            launchers: vec![Vec::new(); count],
            arguments: Vec::new(),
            has_witness: false,
        }
    }
}

impl ClusterProcess {
    /// Nodes that are not running yet, with data and logs below `directory`.
    ///
    /// # Errors
    /// When there are no free ports.
    pub fn new(program: &Path, directory: &Path, site: &Site) -> Result<Self, NodeError> {
        let node = |(i, (host, launcher)): (usize, (&String, &Vec<String>))| {
            let data_dir = directory.join(format!("n{}", i + 1));
            let log_file = directory.join(format!("n{}.log", i + 1));
            let launcher: Vec<_> = launcher.iter().map(OsStr::new).collect();
            let node = NodeProcess::new(program, &data_dir, &log_file)?;
            Ok(node.with_host(host).with_launcher(&launcher))
        };
        let places = site.hosts.iter().zip(&site.launchers).enumerate();
        let nodes: Vec<_> = places.map(node).collect::<Result<_, NodeError>>()?;
        let seed =
            |(i, node): (usize, &NodeProcess)| format!("{}={}", name(i), node.peer_address());
        let seeds: Vec<_> = nodes.iter().enumerate().map(seed).collect();
        let seeds = seeds.join(",");
        let further: Vec<_> = site.arguments.iter().map(String::as_str).collect();
        let with_seeds = |(i, node): (usize, NodeProcess)| {
            let node = node.with_arguments(&["--node-name", &name(i), "--seed", &seeds]);
            let is_witness = site.has_witness && i + 1 == site.hosts.len();
            let node = node.with_arguments(if is_witness { &["--witness"] } else { &[] });
            node.with_arguments(&further)
        };
        let view = View {
            addresses: nodes.iter().map(NodeProcess::http_address).collect(),
        };
        let nodes = nodes.into_iter().enumerate().map(with_seeds).collect();
        Ok(Self {
            nodes,
            view,
            program: program.to_owned(),
            directory: directory.to_owned(),
        })
    }

    /// One more node, on the loopback, that knows the node at `known` and is to join; it is not
    /// running yet. Its place.
    ///
    /// # Errors
    /// When there are no free ports.
    pub fn add(&mut self, known: usize) -> Result<usize, NodeError> {
        let at = self.nodes.len();
        let log_file = self.directory.join(format!("{}.log", name(at)));
        let node = NodeProcess::new(&self.program, &self.data_dir(at), &log_file)?;
        let seeds = format!(
            "{}={},{}={}",
            name(at),
            node.peer_address(),
            name(known),
            self.nodes[known].peer_address()
        );
        self.view.addresses.push(node.http_address());
        let node = node.with_arguments(&["--node-name", &name(at), "--seed", &seeds]);
        self.nodes.push(node);
        Ok(at)
    }

    /// Where the nodes serve HTTP.
    pub fn http_addresses(&self) -> &[String] {
        &self.view.addresses
    }

    /// Where a node's data is.
    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.directory.join(name(at))
    }

    /// Starts all of them and waits until each is ready.
    ///
    /// # Errors
    /// When one cannot be started or is not ready in time.
    pub fn start(&mut self) -> Result<(), NodeError> {
        for node in &mut self.nodes {
            node.spawn()?;
        }
        self.nodes.iter_mut().try_for_each(NodeProcess::wait_ready)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node, by its place.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn node(&mut self, at: usize) -> &mut NodeProcess {
        &mut self.nodes[at]
    }

    /// Processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(NodeProcess::pid).collect()
    }

    /// How to connect to each node.
    pub fn connect_options(&self) -> Vec<ConnectOptions> {
        self.nodes
            .iter()
            .map(NodeProcess::connect_options)
            .collect()
    }

    /// What the nodes say.
    pub fn view(&self) -> &View {
        &self.view
    }
}

impl View {
    /// What a node says about the cluster (`/api/staunch/v1/cluster`).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, at: usize) -> io::Result<Value> {
        get(&self.addresses[at], "/api/staunch/v1/cluster")
    }

    /// What a node says of the failovers that it and the others have seen, the newest first.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn failovers(&self, at: usize) -> io::Result<Vec<Value>> {
        let mut answer = get(&self.addresses[at], "/api/staunch/v1/failovers")?;
        let failovers = answer["failovers"].as_array_mut().map(std::mem::take);
        Ok(failovers.unwrap_or_default())
    }

    /// What a node says about the replicas of a queue in the virtual host `/`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn replicas(&self, at: usize, queue: &str) -> io::Result<Value> {
        let path = format!("/api/staunch/v1/queues/%2F/{queue}/replicas");
        get(&self.addresses[at], &path)
    }

    /// The place of the node that leads a queue, as some node says; nodes named in `without` are
    /// not asked, and not believed in.
    pub fn leader(&self, queue: &str, without: &[usize]) -> Option<usize> {
        let asked = (0..self.addresses.len()).filter(|at| !without.contains(at));
        let mut answers = asked.filter_map(|at| {
            let answer = self.replicas(at, queue).ok()?;
            let leader = answer["leader"].as_str()?;
            (0..self.addresses.len()).find(|at| name(*at) == leader)
        });
        answers.find(|leader| !without.contains(leader))
    }

    /// Waits until every node sees every other and no queue is without a leader; false if that
    /// takes longer than `patience`.
    pub fn wait_whole(&self, patience: Duration) -> bool {
        let is_whole = |at| self.status(at).is_ok_and(|status| is_whole(&status));
        wait(patience, || (0..self.addresses.len()).all(is_whole))
    }

    /// Waits until every replica of a queue has all that its leader has, give or take
    /// `behind_max` entries; false if that takes longer than `patience`.
    pub fn wait_caught_up(&self, queue: &str, behind_max: u64, patience: Duration) -> bool {
        wait(patience, || {
            let leader = self.leader(queue, &[]);
            let answer = leader.and_then(|leader| self.replicas(leader, queue).ok());
            answer.is_some_and(|answer| are_close(&answer, behind_max))
        })
    }
}

fn name(at: usize) -> String {
    format!("n{}", at + 1)
}

fn is_whole(status: &Value) -> bool {
    let nodes = status["nodes"].as_array();
    let is_well = |node: &Value| node["up"] == true && node["suspected"] == false;
    let are_well = nodes.is_some_and(|nodes| nodes.iter().all(is_well));
    are_well && status["catalog_leader"].is_string() && status["groups"]["leaderless"] == 0
}

fn are_close(replicas: &Value, behind_max: u64) -> bool {
    let is_close = |replica: &Value| {
        let behind = replica["behind"].as_u64();
        replica["needs_snapshot"] == false && behind.is_some_and(|behind| behind <= behind_max)
    };
    let replicas = replicas["replicas"].as_array();
    replicas.is_some_and(|replicas| !replicas.is_empty() && replicas.iter().all(is_close))
}

/// Looks until it holds; false if that takes longer than `patience`.
pub fn wait(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    true
}

/// Asks a node over HTTP as the default user.
///
/// # Errors
/// When it does not answer, or not with JSON.
pub fn get(address: &str, path: &str) -> io::Result<Value> {
    let mut addresses = address.to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut socket = TcpStream::connect_timeout(&address, QUESTION_TIMEOUT)?;
    socket.set_read_timeout(Some(QUESTION_TIMEOUT))?;
    write!(
        socket,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        let status = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{path}: {status}")));
    }
    serde_json::from_str(body).map_err(io::Error::other)
}
