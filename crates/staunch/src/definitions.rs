//! `staunch definitions`: moves definitions between files and nodes, over the HTTP interface.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::target::{DEFAULT_URL, Target, segment};

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
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
    /// Only what belongs to this virtual host.
    #[arg(long)]
    vhost: Option<String>,
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
    let sent = target.post(&path(transfer.vhost.as_deref()), &file);
    sent.map(drop).context("send the definitions")
}

fn export(transfer: &Transfer) -> anyhow::Result<()> {
    let target = Target::parse(&transfer.url)?;
    let definitions = target.get(&path(transfer.vhost.as_deref()));
    let definitions = definitions.context("ask for the definitions")?;
    if transfer.file == Path::new("-") {
        return Ok(io::stdout().lock().write_all(&definitions)?);
    }
    fs::write(&transfer.file, definitions)
        .with_context(|| format!("write {}", transfer.file.display()))
}

fn path(vhost: Option<&str>) -> String {
    match vhost {
        None => "definitions".to_owned(),
        Some(vhost) => format!("definitions/{}", segment(vhost)),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
