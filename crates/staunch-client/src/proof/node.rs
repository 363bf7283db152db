//! A server process that can be killed and started again.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

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

/// A node of Staunch as a process of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct NodeProcess {
    program: PathBuf,
    data_dir: PathBuf,
    log_file: PathBuf,
    port: u16,
    /// A program that runs the program.
    launcher: Option<PathBuf>,
    /// Further arguments.
    arguments: Vec<String>,
    /// Further environment variables.
    environment: Vec<(String, String)>,
    child: Option<Child>,
    ready_timeout: Duration,
}

impl NodeProcess {
    /// A node that is not running yet, on a free port.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(program: &Path, data_dir: &Path, log_file: &Path) -> Result<Self, NodeError> {
        let failed = |source| NodeError::Io {
            program: program.display().to_string(),
            source,
        };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self {
            program: program.to_owned(),
            data_dir: data_dir.to_owned(),
            log_file: log_file.to_owned(),
            port,
            launcher: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
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

    /// Runs the program by another, which gets it and its arguments as its own.
    #[must_use]
    pub fn with_launcher(mut self, launcher: &Path) -> Self {
        self.launcher = Some(launcher.to_owned());
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
            port: self.port,
            timeout: Duration::from_secs(10),
            ..ConnectOptions::default()
        }
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
        let failed = |source| NodeError::Io {
            program: self.program.display().to_string(),
            source,
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .map_err(failed)?;
        let started = Instant::now();
        let mut command = match &self.launcher {
            Some(launcher) => Command::new(launcher),
            None => Command::new(&self.program),
        };
        let program = self.launcher.as_ref().map(|_| &self.program);
        let mut child = command
            .args(program)
            .arg("server")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--amqp", &format!("127.0.0.1:{}", self.port)])
            .args([
                "--http",
                "127.0.0.1:0",
                "--metrics",
                "127.0.0.1:0",
                "--peer",
                "127.0.0.1:0",
            ])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let (sender, receiver) = mpsc::sync_channel(1);
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
        match receiver.recv_timeout(self.ready_timeout) {
            Ok(()) => Ok(started.elapsed()),
            Err(error) => {
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
        }
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log_file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
