//! A server process that can be killed and started again.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::options::ConnectOptions;

/// What the server prints when it takes connections.
const READY: &str = "Server startup complete";

/// Why a node did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The operating system refused.
    #[error("cannot run {program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// What it said.
        source: io::Error,
    },
    /// The process ended before it was ready.
    #[error("the node ended before it was ready; the end of its log:\n{log}")]
    Ended {
        /// The last lines of its log.
        log: String,
    },
    /// The process was not ready in time.
    #[error("the node was not ready within {waited:?}; the end of its log:\n{log}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
}

/// Ports for nodes are looked for among these, below those that systems give to outgoing
/// connections: while a node is down, nobody may come to sit on its port by accident.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A node of Staunch as a process of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct NodeProcess {
    program: PathBuf,
    data_dir: PathBuf,
    log_file: PathBuf,
    host: String,
    ports: Ports,
    /// A program that runs the program, with its arguments.
    launcher: Vec<OsString>,
    /// Further arguments.
    arguments: Vec<String>,
    /// Further environment variables.
    environment: Vec<(String, String)>,
    child: Option<Child>,
    /// Hears that the process is ready; it is closed when the process ends.
    ready: Option<mpsc::Receiver<()>>,
    ready_timeout: Duration,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    http: u16,
    peer: u16,
}

impl NodeProcess {
    /// A node that is not running yet, on free ports.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(program: &Path, data_dir: &Path, log_file: &Path) -> Result<Self, NodeError> {
        let mut free = free_ports();
        let mut port = || {
            free.next().ok_or_else(|| NodeError::Io {
                program: program.display().to_string(),
                source: io::ErrorKind::AddrNotAvailable.into(),
            })
        };
        Ok(Self {
            program: program.to_owned(),
            data_dir: data_dir.to_owned(),
            log_file: log_file.to_owned(),
            host: "127.0.0.1".to_owned(),
            ports: Ports {
                amqp: port()?,
                http: port()?,
                peer: port()?,
            },
            launcher: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
            ready: None,
            ready_timeout: Duration::from_mins(2),
        })
    }

    /// Adds arguments after `server`.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Runs the program by another, which gets it and its arguments behind its own.
    #[must_use]
    pub fn with_launcher(mut self, launcher: &[&OsStr]) -> Self {
        self.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Listens on this address instead of the loopback's.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How to connect to it.
    #[must_use]
    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            host: self.host.clone(),
            port: self.ports.amqp,
            timeout: Duration::from_secs(10),
            ..ConnectOptions::default()
        }
    }

    /// Where its HTTP interface is, HOST:PORT.
    pub fn http_address(&self) -> String {
        format!("{}:{}", self.host, self.ports.http)
    }

    /// Where other nodes connect, HOST:PORT.
    pub fn peer_address(&self) -> String {
        format!("{}:{}", self.host, self.ports.peer)
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process and waits until it is ready; gives how long that took.
    ///
    /// # Errors
    /// When it cannot be started, or is not ready in time.
    pub fn start(&mut self) -> Result<Duration, NodeError> {
        let started = Instant::now();
        self.spawn()?;
        self.wait_ready()?;
        Ok(started.elapsed())
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> Result<(), NodeError> {
        let failed = |source| NodeError::Io {
            program: self.program.display().to_string(),
            source,
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .map_err(failed)?;
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let (sender, receiver) = mpsc::sync_channel(1);
        self.ready = Some(receiver);
        std::thread::spawn(move || {
            let lines = stdout
                .into_iter()
                .flat_map(|stdout| BufReader::new(stdout).lines());
            for line in lines.map_while(Result::ok) {
                // Nobody waits any more if the node was given up.
                if line.contains(READY) && sender.try_send(()).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = match self.launcher.split_first() {
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let at = |port: u16| format!("{}:{port}", self.host);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--amqp", &at(self.ports.amqp)])
            .args(["--http", &at(self.ports.http)])
            .args(["--metrics", &at(0)])
            .args(["--peer", &at(self.ports.peer)])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Waits until the process that was started is ready.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time; it is killed then.
    pub fn wait_ready(&mut self) -> Result<(), NodeError> {
        let Some(ready) = self.ready.take() else {
            return Ok(());
        };
        let Err(error) = ready.recv_timeout(self.ready_timeout) else {
            return Ok(());
        };
        self.kill();
        let log = self.log_end();
        Err(match error {
            mpsc::RecvTimeoutError::Timeout => NodeError::NotReady {
                waited: self.ready_timeout,
                log,
            },
            mpsc::RecvTimeoutError::Disconnected => NodeError::Ended { log },
        })
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Stops every thread of the process where it is, as a machine that stands still, and waits until
    /// all stand.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let child = self.child.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let stopped_or_gone =
            WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(child)), stopped_or_gone)?;
        Ok(())
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks the process to stop and waits until it has.
    ///
    /// # Errors
    /// When the process is gone, or ends otherwise than well.
    pub fn stop(&mut self) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        let ended = self
            .child
            .take()
            .map(|mut child| child.wait())
            .transpose()?;
        match ended {
            Some(status) if !status.success() => Err(io::Error::other(status.to_string())),
            Some(_) | None => Ok(()),
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log_file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Ports of the loopback that nobody listens on, each given out once by this process; other
/// processes begin to look elsewhere.
pub fn free_ports() -> impl Iterator<Item = u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = std::process::id().wrapping_mul(97) % u32::from(count);
    let first = u16::try_from(first).unwrap_or(0);
    let candidates = (0..count).map(move |_| {
        let number = TAKEN.fetch_add(1, Ordering::Relaxed) % count;
        PORTS.start + (first + number) % count
    });
    candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
