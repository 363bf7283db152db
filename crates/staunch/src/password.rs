//! `staunch hash-password`: a password as definitions and the HTTP interface want it.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use staunch_server::config::access::PasswordHashing;

#[derive(Args)]
pub(crate) struct HashArgs {
    /// How to hash it; RabbitMQ cannot read argon2id.
    #[arg(long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    /// The password; without it, one line of standard input, which no process list shows.
    password: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    Sha256,
    Sha512,
    Argon2id,
}

pub(crate) fn run(args: &HashArgs) -> anyhow::Result<ExitCode> {
    let password = match &args.password {
        Some(password) => password.clone(),
        None => line()?,
    };
    anyhow::ensure!(!password.is_empty(), "an empty password lets nobody in");
    let algorithm = match args.algorithm {
        Algorithm::Sha256 => PasswordHashing::Sha256,
        Algorithm::Sha512 => PasswordHashing::Sha512,
        Algorithm::Argon2id => PasswordHashing::Argon2id,
    };
    let hash = staunch_server::hash_password(algorithm, password.as_bytes());
    writeln!(io::stdout().lock(), "{hash}")?;
    Ok(ExitCode::SUCCESS)
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
