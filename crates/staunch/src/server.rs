//! `staunch server`: its flags come from the table of settings.

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use staunch_server::{
    config::{self, ConfigErrors, Loaded, SETTINGS},
    fatal::EXIT_CONFIG,
};

/// Id of the one flag that is no setting.
const CONFIG_FILE: &str = "config";

/// A configuration file and settings given as flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerFlags {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl ServerFlags {
    /// The configuration in force with these flags.
    pub(crate) fn load(self) -> Result<Loaded, ConfigErrors> {
        config::load(self.flags, self.file.as_deref())
    }
}

/// Runs a node until it is told to stop.
pub(crate) fn run(flags: ServerFlags) -> anyhow::Result<ExitCode> {
    let loaded = match flags.load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    for warning in &loaded.warnings {
        eprintln!("staunch: {warning}");
    }
    staunch_server::run(loaded.config)
}

impl Args for ServerFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG_FILE)
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file [default: staunch.toml, /etc/staunch/staunch.toml]");
        let settings = SETTINGS.iter().map(|setting| {
            let docs: Vec<_> = setting.docs.iter().map(|line| line.trim()).collect();
            let help = format!(
                "{} [env: {}] [default: {}]",
                docs.join(" "),
                setting.variable(),
                setting.default
            );
            // Flags are built once a process, and clap wants their names to live as long.
            let arg = Arg::new(setting.key)
                .long(&*setting.flag().leak())
                .value_name(setting.value_name)
                .action(if setting.is_list {
                    ArgAction::Append
                } else {
                    ArgAction::Set
                })
                .help(help);
            if setting.is_switch {
                arg.num_args(0..=1).default_missing_value("true")
            } else {
                arg
            }
        });
        command.arg(file).args(settings)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key| matches.get_many::<String>(key);
        let flag = |key| Some((key, given(key)?.cloned().collect::<Vec<_>>().join(",")));
        let flags = SETTINGS
            .iter()
            .filter_map(|setting| flag(setting.key))
            .collect();
        Ok(Self {
            file: matches.get_one(CONFIG_FILE).cloned(),
            flags,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
