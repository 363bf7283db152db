//! `staunch user`.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use serde_json::{Value, json};

use crate::cli::{
    failure::{About as _, Failure},
    options::Options,
    output::{self, Listing},
    target::{Target, path},
};

/// Hashes are nobody's business: JSON shows them, a table does not.
const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("TAGS", "tags"),
    ("HASHING", "hashing_algorithm"),
    ("LIMITS", "limits"),
];

#[derive(Args)]
pub(crate) struct UserArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Lists users.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show {
        /// The user.
        name: String,
    },
    /// Makes one, or changes the password and tags of one that is there. It may do nothing until
    /// `staunch permission set` says what.
    #[command(visible_alias = "set")]
    Create {
        /// The user.
        name: String,
        /// `administrator`, `monitoring`, `policymaker`, `management`; separated by commas.
        #[arg(long, value_delimiter = ',')]
        tags: Vec<String>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Changes a password, and nothing else.
    Passwd {
        /// The user.
        name: String,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Sets the tags, and nothing else.
    Tag {
        /// The user.
        name: String,
        /// Without any it is an ordinary user.
        tags: Vec<String>,
    },
    /// Deletes one; its connections are closed.
    Delete {
        /// The user.
        name: String,
    },
}

#[derive(Args)]
struct NewPassword {
    /// A file with the new password; without it, one line of standard input.
    #[arg(long = "new-password-file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// A hash of `staunch hash-password`, or of definitions, in place of the password.
    #[arg(long, value_name = "HASH", conflicts_with = "file")]
    hash: Option<String>,
    /// Without a password: only a certificate lets the user in.
    #[arg(long, conflicts_with_all = ["file", "hash"])]
    no_password: bool,
}

pub(crate) fn run(args: &UserArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        UserCommand::Ls(listing) => {
            output::list(options, listing, target.get_list("users")?, COLUMNS)?;
        }
        UserCommand::Show { name } => output::one(options, &find(&target, name)?, COLUMNS)?,
        UserCommand::Create {
            name,
            tags,
            password,
        } => {
            let mut body = password.read()?;
            body["tags"] = json!(tags);
            let put = target.put(&path(&["users", name]), &body)?;
            output::put(options, "user", name, put)?;
        }
        UserCommand::Passwd { name, password } => {
            let found = find(&target, name)?;
            let mut body = password.read()?;
            body["tags"] = found["tags"].clone();
            target.put(&path(&["users", name]), &body)?;
            output::done(options, "user", name, "has a new password")?;
        }
        UserCommand::Tag { name, tags } => {
            let found = find(&target, name)?;
            let body = json!({
                "tags": tags,
                "password_hash": found["password_hash"],
                "hashing_algorithm": found["hashing_algorithm"],
            });
            target.put(&path(&["users", name]), &body)?;
            output::done(options, "user", name, "has new tags")?;
        }
        UserCommand::Delete { name } => {
            let deleted = target.delete(&path(&["users", name]));
            deleted.about(|| named(name))?;
            output::done(options, "user", name, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find(target: &Target, name: &str) -> Result<Value, Failure> {
    target.get(&path(&["users", name])).about(|| named(name))
}

fn named(name: &str) -> String {
    format!("user '{name}'")
}

impl NewPassword {
    /// As a PUT wants it.
    fn read(&self) -> anyhow::Result<Value> {
        if let Some(hash) = &self.hash {
            return Ok(json!({"password_hash": hash}));
        }
        if self.no_password {
            return Ok(json!({"password_hash": ""}));
        }
        let password = match &self.file {
            Some(file) => fs::read_to_string(file)
                .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?,
            None => line()?,
        };
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            let failure = Failure::usage("an empty password lets nobody in");
            return Err(failure.with_hint("--no-password, if that is meant").into());
        }
        Ok(json!({"password": password}))
    }
}

/// A line of standard input, which a terminal does not show.
fn line() -> anyhow::Result<String> {
    let stdin = io::stdin();
    let before = if stdin.is_terminal() {
        write!(io::stderr(), "new password: ")?;
        silenced(&stdin)
    } else {
        None
    };
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = before {
        termios::tcsetattr(&stdin, OptionalActions::Now, &before)?;
        writeln!(io::stderr())?;
    }
    read?;
    Ok(line)
}

/// Has the terminal show nothing; gives how it was before, if that worked.
fn silenced(stdin: &io::Stdin) -> Option<Termios> {
    let before = termios::tcgetattr(stdin).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    termios::tcsetattr(stdin, OptionalActions::Now, &silent).ok()?;
    Some(before)
}
