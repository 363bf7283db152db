//! `staunch config`: shows and checks the configuration without starting a node.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use staunch_server::{
    config::{self, Origins},
    fatal::EXIT_CONFIG,
};

use crate::server::ServerFlags;

#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Checks a file, or what the server would read; exit code 78 if something is wrong.
    Validate {
        /// The file.
        file: Option<PathBuf>,
    },
    /// Prints every setting in force.
    Show {
        /// Says where each value comes from.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Prints the default file with its documentation.
    Default,
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let loaded = match &args.command {
        ConfigCommand::Validate { file } => config::load(Vec::new(), file.as_deref()),
        ConfigCommand::Show { flags, .. } => flags.clone().load(),
        ConfigCommand::Default => {
            write!(out, "{}", config::default_file())?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    for warning in &loaded.warnings {
        eprintln!("staunch: {warning}");
    }
    match &args.command {
        ConfigCommand::Show { origin, .. } => {
            let origins = if *origin {
                Origins::Shown
            } else {
                Origins::Hidden
            };
            write!(out, "{}", config::shown(&loaded, origins))?;
        }
        ConfigCommand::Validate { .. } | ConfigCommand::Default => {
            let source = loaded
                .file
                .map_or("defaults".into(), |path| path.display().to_string());
            writeln!(out, "configuration is valid ({source})")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
