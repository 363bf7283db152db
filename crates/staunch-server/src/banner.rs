//! What a node says when it starts: who it is, and that it is ready.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    sync::Once,
};

use tracing::info;

use crate::config::{ByteSize, Config};

/// Tools wait for a line with these words on standard output.
pub const READY: &str = "Server startup complete";

/// Where the listeners listen in fact, which differs from the configuration when that asked for a
/// free port.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// AMQP.
    pub amqp: Vec<SocketAddr>,
    /// AMQP over TLS.
    pub amqps: Vec<SocketAddr>,
    /// The HTTP API.
    pub http: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: Vec<SocketAddr>,
}

/// Says who this node is: aligned lines on a terminal, one structured log line otherwise.
pub fn announce(config: &Config, bound: &Bound) {
    let facts = facts(config, bound);
    if io::stderr().is_terminal() {
        let lines = aligned(&facts);
        // A banner that nobody can read is no reason to stop.
        drop(io::stderr().write_all(lines.as_bytes()));
        return;
    }
    let fact = |name: &str| {
        facts
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, value)| value)
    };
    info!(
        version = fact("version"),
        node = fact("node"),
        data_dir = fact("data dir"),
        amqp = fact("amqp"),
        amqps = fact("amqps"),
        http = fact("http"),
        memory_limit = fact("memory limit"),
        pid = std::process::id(),
        "starting"
    );
}

/// Prints the line that tools wait for, the first time it is called.
///
/// Call it when every listener accepts and recovery is complete.
pub fn ready() {
    static PRINTED: Once = Once::new();
    PRINTED.call_once(|| {
        let mut out = io::stdout().lock();
        // Whoever closed standard output does not wait for the line.
        drop(writeln!(out, "{READY}"));
        drop(out.flush());
    });
}

fn facts(config: &Config, bound: &Bound) -> Vec<(&'static str, String)> {
    let data_dir = std::path::absolute(&config.data_dir).unwrap_or(config.data_dir.clone());
    let urls = |scheme: &str, addresses: &[SocketAddr]| {
        let url = |address| format!("{scheme}://{address}");
        addresses.iter().map(url).collect::<Vec<_>>().join(", ")
    };
    let mut facts = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("node", config.node_name.to_string()),
        ("data dir", data_dir.display().to_string()),
        ("amqp", urls("amqp", &bound.amqp)),
        ("amqps", urls("amqps", &bound.amqps)),
        ("http", urls("http", &bound.http)),
        ("metrics", urls("http", &bound.metrics)),
        (
            "memory limit",
            ByteSize(config.memory_limit.size_bytes()).to_string(),
        ),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn aligned(facts: &[(&'static str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let line =
        |(name, value): &(&str, String)| format!("  {:width$}  {value}\n", format!("{name}:"));
    format!(
        "\nStaunch\n\n{}\n",
        facts.iter().map(line).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned() {
        let facts = [
            ("node", "n1".to_owned()),
            ("memory limit", "1.0 GiB".to_owned()),
        ];
        assert_eq!(
            aligned(&facts),
            "\nStaunch\n\n  node:          n1\n  memory limit:  1.0 GiB\n\n"
        );
    }
}
