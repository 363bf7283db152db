//! RabbitMQ's tools, by the names that they are called with: `rabbitmqctl`, `rabbitmq-diagnostics` and
//! `rabbitmqadmin` (the script of RabbitMQ 3).
//!
//! What scripts use most prints what RabbitMQ prints and ends with its exit codes; anything else
//! says that it is not here. They ask the node of `STAUNCH_CLI_NODE`, of the current context, or the
//! one on this machine, over HTTP: there is no cookie, so they log in as others do.

use std::{env, path::Path, process::ExitCode};

mod admin;
mod call;
mod ctl;
mod diagnostics;
mod lists;

/// Exit codes of RabbitMQ's tools (sysexits).
pub(crate) mod exit {
    /// The command line makes no sense.
    pub(crate) const USAGE: u8 = 64;
    /// What is named is not there, or not right.
    pub(crate) const DATA: u8 = 65;
    /// There is no such user.
    pub(crate) const NO_USER: u8 = 67;
    /// No node answers, or a check fails.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// It is refused.
    pub(crate) const SOFTWARE: u8 = 70;
}

/// Runs the tool that the binary is called as; none if that is itself.
pub(crate) fn run() -> Option<ExitCode> {
    let mut arguments = env::args();
    let name = arguments.next()?;
    let name = Path::new(&name).file_name()?.to_str()?.to_owned();
    let arguments: Vec<String> = arguments.collect();
    match name.as_str() {
        "rabbitmqctl" => Some(ctl::run(arguments)),
        "rabbitmq-diagnostics" => Some(diagnostics::run(arguments)),
        "rabbitmqadmin" => Some(admin::run(arguments)),
        _ => None,
    }
}
