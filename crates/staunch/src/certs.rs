//! `staunch certs`: the cluster's own certificate authority.

use std::{
    io::{self, BufRead as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use staunch_peer::{
    Authority,
    authority::{NodeRequest, check_identity_absent, check_name, write_identity},
    join,
    token::Token,
};
use staunch_server::cluster::IDENTITY_DIRECTORY;
use staunch_types::Name;

#[derive(Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Subcommand)]
enum CertsCommand {
    /// Makes the authority of a new cluster. Its directory belongs on one machine, and in a safe
    /// copy.
    Init {
        /// Where to make it.
        directory: PathBuf,
        /// Name of the cluster, for people who look at certificates.
        #[arg(long, default_value = "staunch")]
        cluster: String,
    },
    /// Issues a certificate for a node.
    Node {
        /// The authority's directory.
        directory: PathBuf,
        /// Name of the node, as in the list of seeds.
        #[arg(long)]
        name: String,
        /// Host names and IP addresses of the node; only other tools look at them.
        #[arg(long, value_name = "HOST", num_args = 1..)]
        address: Vec<String>,
        /// Time until the certificate ends.
        #[arg(long, default_value = "730d", value_parser = duration)]
        valid: Duration,
        /// Where to write ca.crt, node.crt and node.key [default: nodes/NAME in DIRECTORY].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Prints a token with which one node can join, once.
    Token {
        /// The authority's directory.
        directory: PathBuf,
        /// Time until the token is of no use any more.
        #[arg(long, default_value = "1h", value_parser = duration)]
        valid: Duration,
        /// The node that it is for [default: any].
        #[arg(long)]
        name: Option<String>,
    },
    /// Gets a certificate for this node from a running one, for a token.
    Join {
        /// The token; `-` reads it from standard input, where no process list shows it.
        #[arg(long)]
        token: String,
        /// Peer port of a node that has `peer_authority`.
        #[arg(long, value_name = "ADDR")]
        peer: String,
        /// Name of this node, as in the list of seeds.
        #[arg(long)]
        name: String,
        /// Host names and IP addresses of this node; only other tools look at them.
        #[arg(long, value_name = "HOST", num_args = 1..)]
        address: Vec<String>,
        /// Data directory of this node; certificates go to `peer-tls` in it.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

pub(crate) fn run(args: CertsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CertsCommand::Init { directory, cluster } => init(&directory, &cluster)?,
        CertsCommand::Node {
            directory,
            name,
            address: addresses,
            valid,
            out,
        } => {
            let request = NodeRequest {
                name,
                addresses,
                valid,
            };
            let written = Authority::open(&directory)?.issue(&request, out.as_deref())?;
            say(&format!(
                "the certificate of {} is in {}: copy ca.crt, node.crt and node.key to {IDENTITY_DIRECTORY} \
                 in its data directory",
                request.name,
                written.display()
            ))?;
        }
        CertsCommand::Token {
            directory,
            valid,
            name,
        } => {
            let name = name.map_or(Ok(Name::default()), |name| check_name(&name))?;
            let authority = Authority::open(&directory)?;
            say(&Token::make(&authority, &name, valid, SystemTime::now())?)?;
        }
        CertsCommand::Join {
            token,
            peer,
            name,
            address,
            data_dir,
        } => {
            let directory = data_dir.join(IDENTITY_DIRECTORY);
            // The token is of no use afterwards, so nothing may be in the way.
            check_identity_absent(&directory)?;
            let token = if token == "-" { line()? } else { token };
            let joined = join::join_blocking(&token, &peer, &name, &address)?;
            write_identity(
                &directory,
                &joined.certificate,
                &joined.authority,
                &joined.key,
            )?;
            say(&format!(
                "the certificate of {name} is in {}",
                directory.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(directory: &Path, cluster: &str) -> anyhow::Result<()> {
    Authority::create(directory, cluster)?;
    say(&format!(
        "the authority of cluster {cluster} is in {}: whoever has ca.key can add nodes",
        directory.display()
    ))
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("read the token")?;
    Ok(line)
}

/// `90s`, `30m`, `12h` or `730d`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 30m, 12h or 730d");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .with_context(wrong)?;
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => anyhow::bail!(wrong()),
    };
    let number: u64 = number.parse().ok().with_context(wrong)?;
    let seconds = number.checked_mul(seconds).with_context(wrong)?;
    ensure!(seconds > 0 && seconds <= DURATION_SECONDS_MAX, wrong());
    Ok(Duration::from_secs(seconds))
}

/// A hundred years: certificates cannot say times far beyond.
const DURATION_SECONDS_MAX: u64 = 100 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("12h", Some(43_200)),
            ("730d", Some(63_072_000)),
            ("0s", None),
            ("36501d", None),
            ("99999999999999999999d", None),
            ("12", None),
            ("h", None),
            ("1w", None),
            ("-1h", None),
        ] {
            let read = duration(text).ok().map(|duration| duration.as_secs());
            assert_eq!(read, seconds, "{text}");
        }
    }
}
