//! A node in a process of its own, on free ports.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for anything that a test expects.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    child: Child,
    pub(crate) amqp: SocketAddr,
    pub(crate) amqps: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    pub(crate) fn start(directory: &Path, flags: &[&str]) -> Self {
        Self::try_start(directory, flags).expect("the node gets ready")
    }

    /// None if it ends before it is ready.
    pub(crate) fn try_start(directory: &Path, flags: &[&str]) -> Option<Self> {
        let [amqp, amqps, http, metrics] = free_addresses();
        let mut child = Command::new(env!("CARGO_BIN_EXE_staunch"))
            .arg("server")
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(["--amqp", &amqp.to_string()])
            .args(["--amqps", &amqps.to_string()])
            .args(["--http", &http.to_string()])
            .args(["--metrics", &metrics.to_string()])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready =
            |line: std::io::Result<String>| line.unwrap().contains("Server startup complete");
        let node = Self {
            child,
            amqp,
            amqps,
            http,
            metrics,
        };
        lines.any(is_ready).then_some(node)
    }

    /// Stops it as an operator would, and waits until it has.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Connects, and never waits longer than [`PATIENCE`] for anything.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What the node has logged so far.
pub(crate) fn log(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap()
}

/// Looks until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
