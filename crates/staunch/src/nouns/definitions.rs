//! `staunch definitions`: moves definitions between files and nodes.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::cli::{options::Options, target::path};

#[derive(Args)]
pub(crate) struct DefinitionsArgs {
    #[command(flatten)]
    options: Options,
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
}

pub(crate) fn run(args: &DefinitionsArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let path = match &target.resolved.vhost {
        None => "definitions".to_owned(),
        Some(vhost) => path(&["definitions", vhost]),
    };
    match &args.command {
        DefinitionsCommand::Import(transfer) => {
            let file = read(&transfer.file)?;
            target.post(&path, &file).context("send the definitions")?;
        }
        DefinitionsCommand::Export(transfer) => {
            let definitions = target.get_bytes(&path);
            let definitions = definitions.context("ask for the definitions")?;
            write(&transfer.file, &definitions)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, definitions: &[u8]) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return Ok(io::stdout().lock().write_all(definitions)?);
    }
    fs::write(file, definitions).with_context(|| format!("write {}", file.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
