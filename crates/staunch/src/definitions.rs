//! `staunch definitions`: moves definitions between files and nodes, over the HTTP interface.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Largest answer that is read, in bytes: definitions of millions of queues.
const ANSWER_SIZE_BYTES_MAX: u64 = 1 << 30;
/// Time for a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

#[derive(Args)]
pub(crate) struct DefinitionsArgs {
    #[command(subcommand)]
    command: DefinitionsCommand,
}

#[derive(Subcommand)]
enum DefinitionsCommand {
    /// Applies a definitions file to a running node; nothing is ever deleted.
    Import(Transfer),
    /// Writes the definitions of a running node to a file.
    Export(Transfer),
}

#[derive(Args)]
struct Transfer {
    /// The file; `-` is standard input or output.
    file: PathBuf,
    /// Where the node's HTTP interface is, and who asks.
    #[arg(long, default_value = "http://guest:guest@localhost:15672")]
    url: String,
    /// Only what belongs to this virtual host.
    #[arg(long)]
    vhost: Option<String>,
}

/// Where requests go.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Scheme, host and port, without what follows.
    base: String,
    /// The value of the `Authorization` header.
    authorization: String,
}

pub(crate) fn run(args: &DefinitionsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DefinitionsCommand::Import(transfer) => import(transfer)?,
        DefinitionsCommand::Export(transfer) => export(transfer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(transfer: &Transfer) -> anyhow::Result<()> {
    let file = read(&transfer.file)?;
    let target = Target::parse(&transfer.url)?;
    let request = agent().post(target.path(transfer.vhost.as_deref()));
    let request = request
        .header("Authorization", &target.authorization)
        .header("Content-Type", "application/json");
    let response = request.send(&file).context("send the definitions")?;
    body(response).map(drop)
}

fn export(transfer: &Transfer) -> anyhow::Result<()> {
    let target = Target::parse(&transfer.url)?;
    let request = agent().get(target.path(transfer.vhost.as_deref()));
    let request = request.header("Authorization", &target.authorization);
    let definitions = body(request.call().context("ask for the definitions")?)?;
    if transfer.file == Path::new("-") {
        return Ok(io::stdout().lock().write_all(&definitions)?);
    }
    fs::write(&transfer.file, definitions)
        .with_context(|| format!("write {}", transfer.file.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .build();
    config.into()
}

/// The body of a good answer; a bad one is an error with the node's reason.
fn body(mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Vec<u8>> {
    let status = response.status();
    let limited = response
        .body_mut()
        .with_config()
        .limit(ANSWER_SIZE_BYTES_MAX);
    let body = limited.read_to_vec().context("read the answer")?;
    if !status.is_success() {
        bail!(
            "the node answers {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(body)
}

impl Target {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .with_context(|| format!("{url:?} does not begin with http://"))?;
        let rest = rest.split('/').next().unwrap_or(rest);
        let (user, host) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let credentials = [&plain(user)[..], b":", &plain(password)].concat();
        Ok(Self {
            base: format!("http://{host}"),
            authorization: format!("Basic {}", STANDARD.encode(credentials)),
        })
    }

    fn path(&self, vhost: Option<&str>) -> String {
        let base = &self.base;
        match vhost {
            None => format!("{base}/api/definitions"),
            Some(vhost) => {
                let vhost = utf8_percent_encode(vhost, NON_ALPHANUMERIC);
                format!("{base}/api/definitions/{vhost}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("http://a%40b:c%3Ad@host:1/x").expect("a URL");
        assert_eq!(target.base, "http://host:1");
        let credentials = STANDARD.encode("a@b:c:d");
        assert_eq!(target.authorization, format!("Basic {credentials}"));
        assert_eq!(target.path(Some("/")), "http://host:1/api/definitions/%2F");
        let guest = Target::parse("http://localhost:15672").expect("a URL");
        assert_eq!(guest.authorization, "Basic Z3Vlc3Q6Z3Vlc3Q=");
        assert!(Target::parse("https://host").is_err());
    }
}
