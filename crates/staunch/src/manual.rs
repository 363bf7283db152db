//! `staunch completions` and `staunch man`: what shells and `man` know of the commands.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// What the program is called.
const NAME: &str = "staunch";

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManArgs {
    /// The directory that the pages go to, such as `/usr/local/share/man/man1`.
    directory: PathBuf,
}

pub(crate) fn completions(
    args: &CompletionsArgs,
    command: &mut Command,
) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, NAME, &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(ExitCode::SUCCESS)
}

/// A page for the program and one for each command, `staunch-queue-ls.1`.
pub(crate) fn pages(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.directory)
        .with_context(|| format!("create {}", args.directory.display()))?;
    clap_mangen::generate_to(command, &args.directory)
        .with_context(|| format!("write to {}", args.directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
