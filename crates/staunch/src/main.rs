//! The one binary: server, demo, bench, configuration and certificates.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod certs;
mod cluster;
mod config;
mod definitions;
mod demo;
mod membership;
mod password;
mod server;
mod target;

/// The broker allocates many small things on many threads; this allocator is quicker at it and
/// gives memory back sooner than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message broker that keeps every message it has confirmed.
#[derive(Parser)]
#[command(name = "staunch", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node.
    Server(server::ServerFlags),
    /// Kills a loaded node and shows that nothing confirmed is lost.
    Demo(demo::DemoArgs),
    /// Measures any AMQP 0-9-1 broker.
    Bench(bench::BenchArgs),
    /// Shows and checks the configuration.
    Config(config::ConfigArgs),
    /// Moves definitions between files and a running node.
    Definitions(definitions::DefinitionsArgs),
    /// Shows the nodes of a running cluster.
    Cluster(cluster::ClusterArgs),
    /// Takes leaders from a node, and lets it lead again.
    Node(cluster::NodeArgs),
    /// Shows where a queue is kept.
    Queue(cluster::QueueArgs),
    /// Makes the certificates with which the nodes of a cluster know each other.
    Certs(certs::CertsArgs),
    /// Hashes a password for definitions and the HTTP interface.
    HashPassword(password::HashArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Server(flags) => server::run(flags),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Definitions(args) => definitions::run(&args),
        Command::Node(args) => cluster::run_node(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Queue(args) => cluster::run_queue(&args),
        Command::Certs(args) => certs::run(args),
        Command::HashPassword(args) => password::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("staunch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
