//! A session: commands and what they print, in a Markdown file.
//!
//! In blocks of `console`, a line that begins with `$ ` is typed to `sh`, whose output follows, what
//! went to standard error behind the rest; `[exit N]` stands at the end unless N is 0. `[..]` stands
//! for any text within a line. Addresses of the node, its name and the directory are replaced by
//! `[HTTP]`, `[AMQP]`, `[NODE]` and `[DIR]`; what comes after the address of a client is a port.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use staunch_client::proof::node::NodeProcess;

const FENCE: &str = "```";
const BLOCK: &str = "```console";
const PROMPT: &str = "$ ";
const ANYTHING: &str = "[..]";
/// Writes sessions down instead of checking them.
const UPDATE: &str = "UPDATE_SESSIONS";
/// Names under which the binary is another tool.
const NAMES: [&str; 3] = ["rabbitmqctl", "rabbitmq-diagnostics", "rabbitmqadmin"];

/// Plays the session of that name beside a node of its own.
#[track_caller]
pub(crate) fn play(name: &str) {
    // What has a rate after the first round and what has not would be up to the machine.
    play_with(name, &["--collect-statistics-interval", "1h"]);
}

/// The same with a node that has other settings.
#[track_caller]
pub(crate) fn play_with(name: &str, flags: &[&str]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/sessions/{name}.md"));
    let text = fs::read_to_string(&file).unwrap();
    let stage = Stage::new(flags);
    let played = stage.play(&text);
    if env::var_os(UPDATE).is_some() {
        fs::write(&file, played).unwrap();
        return;
    }
    let expected = text.lines().map(str::to_owned).collect::<Vec<_>>();
    let found = played.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(expected, found, "{}\n{played}", file.display());
}

/// A node and a directory.
struct Stage {
    directory: tempfile::TempDir,
    node: NodeProcess,
}

impl Stage {
    fn new(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_staunch"));
        let data = directory.path().join("data");
        let log = directory.path().join("log");
        let node = NodeProcess::new(program, &data, &log).unwrap();
        let node = node.with_arguments(&["--node-name", "n1@test"]);
        let mut node = node.with_arguments(flags);
        node.start().unwrap();
        let tools = directory.path().join("bin");
        fs::create_dir(&tools).unwrap();
        symlink(program, tools.join("staunch")).unwrap();
        for name in NAMES {
            symlink(program, tools.join(name)).unwrap();
        }
        fs::create_dir(directory.path().join("home")).unwrap();
        Self { directory, node }
    }

    /// The session with what really comes out; where that fits what was expected, as it was.
    fn play(&self, text: &str) -> String {
        let mut played = String::new();
        let mut lines = text.lines().peekable();
        let mut in_block = false;
        while let Some(line) = lines.next() {
            played.push_str(line);
            played.push('\n');
            if line.starts_with(FENCE) {
                in_block = line == BLOCK;
            }
            let Some(command) = line.strip_prefix(PROMPT).filter(|_| in_block) else {
                continue;
            };
            let mut expected = Vec::new();
            while let Some(line) =
                lines.next_if(|line| !line.starts_with(PROMPT) && !line.starts_with(FENCE))
            {
                expected.push(line);
            }
            played.push_str(&merged(&expected, &self.run(command)));
        }
        played
    }

    fn run(&self, command: &str) -> String {
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            env::var("PATH").unwrap()
        );
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env(
                "STAUNCH_CLI_NODE",
                format!("http://{}", self.node.http_address()),
            )
            .output()
            .unwrap();
        let mut said = String::from_utf8(output.stdout).unwrap();
        said.push_str(&String::from_utf8(output.stderr).unwrap());
        if !said.is_empty() && !said.ends_with('\n') {
            said.push('\n');
        }
        match output.status.code() {
            Some(0) => {}
            Some(code) => said.extend([format!("[exit {code}]\n")]),
            None => said.push_str("[killed]\n"),
        }
        self.masked(&said)
    }

    fn masked(&self, text: &str) -> String {
        let amqp = self.node.connect_options();
        let amqp = format!("{}:{}", amqp.host, amqp.port);
        let text = text.replace(&self.node.http_address(), "[HTTP]");
        let text = text.replace(&amqp, "[AMQP]");
        text.replace(&self.directory.path().display().to_string(), "[DIR]")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What came out, with the lines that were expected where they fit.
fn merged(expected: &[&str], found: &str) -> String {
    let found: Vec<_> = found.lines().collect();
    let mut merged = String::new();
    for (at, line) in found.iter().enumerate() {
        let wanted = expected.get(at).filter(|_| expected.len() == found.len());
        let wanted = wanted.filter(|wanted| fits(wanted, line));
        merged.push_str(wanted.unwrap_or(line));
        merged.push('\n');
    }
    merged
}

/// Whether a line is what was expected.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        match rest.find(part) {
            // The last part stands at the end.
            _ if part.is_empty() => {}
            Some(at) => {
                rest = &rest[at + part.len()..];
                is_open = false;
            }
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[test]
fn anything_fits_within_a_line() {
    assert!(fits("a[..]c", "abc") && fits("a[..]", "a") && fits("abc", "abc"));
    assert!(!fits("a[..]c", "abd") && !fits("ab", "abc") && !fits("a[..]c", "abcd"));
}
