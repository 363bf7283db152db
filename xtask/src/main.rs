//! Automation: `cargo xtask COMMAND`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

mod chaos;
mod codegen;
mod tidy;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  codegen [--check]   write (or compare) crates/staunch-amqp-codec/src/methods.rs
  tidy                check the rules that no lint can";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root()?;
    match words[..] {
        ["codegen"] => codegen::write(&root),
        ["codegen", "--check"] => codegen::check(&root),
        ["tidy"] => tidy::run(&root),
        ["chaos", ref words @ ..] => chaos::run(&root, words),
        _ => {
            eprintln!("{USAGE}\n{}", chaos::USAGE);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The directory of the workspace manifest, whatever the current directory is.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask
        .parent()
        .context("xtask lies in the workspace")?
        .to_path_buf())
}
