//! The one binary: server, demo, bench, configuration, certificates, and the commands that speak
//! with a running node.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

mod bench;
mod certs;
mod cli;
mod cluster;
mod config;
mod demo;
mod manual;
mod membership;
mod messages;
mod nouns;
mod password;
mod rabbit;
mod server;

use messages::{consume, dead_letters, publish};
use nouns::{
    bindings, channels, connections, consumers, contexts, definitions, doctor, events, exchanges,
    failovers, horizon, limits, nodes, permissions, plan, policies, queues, route, status, top,
    users, vhosts,
};

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
    /// Makes the certificates with which the nodes of a cluster know each other.
    Certs(certs::CertsArgs),
    /// Hashes a password for definitions and the HTTP interface.
    HashPassword(password::HashArgs),
    /// Shows a node at a glance. Ends with 1 if an alarm is on.
    #[command(visible_alias = "overview")]
    Status(status::StatusArgs),
    /// Shows the nodes of a running cluster.
    Cluster(cluster::ClusterArgs),
    /// Nodes: how they are, taking leaders from them, removing them.
    Node(nodes::NodeArgs),
    /// Queues: what they hold and who keeps them.
    Queue(queues::QueueArgs),
    /// Exchanges.
    Exchange(exchanges::ExchangeArgs),
    /// Bindings: which messages go from exchanges to queues.
    Binding(bindings::BindingArgs),
    /// Virtual hosts.
    Vhost(vhosts::VhostArgs),
    /// Users.
    User(users::UserArgs),
    /// What users may do.
    Permission(permissions::PermissionArgs),
    /// Policies: settings for queues and exchanges by name.
    Policy(policies::PolicyArgs),
    /// Limits of virtual hosts and users.
    Limit(limits::LimitArgs),
    /// Connections of clients.
    Connection(connections::ConnectionArgs),
    /// Channels of clients.
    Channel(channels::ChannelArgs),
    /// Who consumes.
    Consumer(consumers::ConsumerArgs),
    /// Moves definitions between files and a running node.
    Definitions(definitions::DefinitionsArgs),
    /// Publishes messages, and waits for their confirms.
    Publish(publish::PublishArgs),
    /// Takes messages out of a queue.
    Consume(consume::ConsumeArgs),
    /// Dead letters: where and why messages died, and back with them.
    Dlq(dead_letters::DlqArgs),
    /// Explains where a message would go, and why not elsewhere. Ends with 4 if nowhere.
    Route(route::RouteArgs),
    /// How long queues hold out, with the limit that is reached first.
    Horizon(horizon::HorizonArgs),
    /// What a load needs: disk, memory, network.
    Plan(plan::PlanArgs),
    /// What has happened in the cluster, and what happens.
    Events(events::EventArgs),
    /// Which nodes were lost, how others took over, and what took so long.
    Failovers(failovers::FailoverArgs),
    /// The fullest or busiest queues, again and again.
    Top(top::TopArgs),
    /// Finds what is wrong, or will be. Ends with 10 if there is something.
    Doctor(doctor::DoctorArgs),
    /// Nodes by name, for `--context`.
    Context(contexts::ContextArgs),
    /// Prints what a shell needs to complete commands.
    Completions(manual::CompletionsArgs),
    /// Writes manual pages.
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    if let Some(code) = rabbit::run() {
        return code;
    }
    let result = match Cli::parse().command {
        Command::Server(flags) => server::run(flags),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Certs(args) => certs::run(args),
        Command::HashPassword(args) => password::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Node(args) => nodes::run(&args),
        Command::Queue(args) => queues::run(&args),
        Command::Exchange(args) => exchanges::run(&args),
        Command::Binding(args) => bindings::run(&args),
        Command::Vhost(args) => vhosts::run(&args),
        Command::User(args) => users::run(&args),
        Command::Permission(args) => permissions::run(&args),
        Command::Policy(args) => policies::run(&args),
        Command::Limit(args) => limits::run(&args),
        Command::Connection(args) => connections::run(&args),
        Command::Channel(args) => channels::run(&args),
        Command::Consumer(args) => consumers::run(&args),
        Command::Definitions(args) => definitions::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Dlq(args) => dead_letters::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Horizon(args) => horizon::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Failovers(args) => failovers::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => manual::completions(&args, &mut Cli::command()),
        Command::Man(args) => manual::pages(&args, Cli::command()),
        Command::Context(args) => contexts::run(&args),
    };
    result.unwrap_or_else(|error| cli::failure::report(&error))
}

#[test]
fn options_do_not_collide() {
    Cli::command().debug_assert();
}
