//! `cargo xtask tidy`: the rules that no lint can check.
//!
//! * Crates import only what [`EDGES`] allows (`docs/architecture.md`).
//! * Only [`TOKIO_CRATES`] depend on tokio, only [`FS_CRATES`] and tests use `std::fs`.
//! * A file above [`FILE_LINES_MAX`] lines says why in its header: "Long because …".
//! * No leftovers: [`LEFTOVERS`].
//! * The web page's own files keep these two rules, and its lock files name no host.
//!
//! Dev-dependencies are free: a test may drive any crate from above.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use toml::{Table, Value};

/// Every crate and the crates of this workspace it may import.
const EDGES: &[(&str, &[&str])] = &[
    ("staunch-types", &[]),
    ("staunch-amqp-codec", &["staunch-types"]),
    (
        "staunch-amqp-connection",
        &["staunch-types", "staunch-amqp-codec"],
    ),
    ("staunch-broker", &["staunch-types"]),
    ("staunch-log", &["staunch-types"]),
    ("staunch-raft", &["staunch-types"]),
    ("staunch-horizon", &["staunch-types"]),
    (
        "staunch-replica",
        &[
            "staunch-types",
            "staunch-broker",
            "staunch-log",
            "staunch-raft",
        ],
    ),
    (
        "staunch-node",
        &[
            "staunch-types",
            "staunch-broker",
            "staunch-horizon",
            "staunch-log",
            "staunch-raft",
            "staunch-replica",
        ],
    ),
    (
        "staunch-stats",
        &[
            "staunch-types",
            "staunch-broker",
            "staunch-horizon",
            "staunch-node",
        ],
    ),
    ("staunch-definitions", &["staunch-types", "staunch-broker"]),
    (
        "staunch-http",
        &[
            "staunch-types",
            "staunch-broker",
            "staunch-definitions",
            "staunch-horizon",
            "staunch-node",
            "staunch-stats",
        ],
    ),
    ("staunch-web", &[]),
    ("staunch-client", &["staunch-types", "staunch-amqp-codec"]),
    ("staunch-peer", &["staunch-types"]),
    (
        "staunch-server",
        &[
            "staunch-types",
            "staunch-amqp-codec",
            "staunch-amqp-connection",
            "staunch-broker",
            "staunch-definitions",
            "staunch-http",
            "staunch-log",
            "staunch-node",
            "staunch-peer",
            "staunch-stats",
            "staunch-web",
            "staunch-client",
        ],
    ),
    (
        "staunch-sim",
        &[
            "staunch-types",
            "staunch-amqp-codec",
            "staunch-amqp-connection",
            "staunch-broker",
            "staunch-node",
            "staunch-log",
            "staunch-raft",
        ],
    ),
    (
        "staunch",
        &[
            "staunch-types",
            "staunch-amqp-codec",
            "staunch-definitions",
            "staunch-server",
            "staunch-client",
            "staunch-peer",
        ],
    ),
    ("xtask", &["staunch-client"]),
];

/// The crates that may depend on tokio.
const TOKIO_CRATES: &[&str] = &["staunch-server", "staunch-http", "staunch-peer"];

/// The crates that may touch files outside their tests.
const FS_CRATES: &[&str] = &[
    "staunch-log",
    "staunch-server",
    "staunch-peer",
    "staunch",
    "staunch-client",
    "staunch-web",
    "xtask",
];

/// Lines a file may have before its header must say why.
const FILE_LINES_MAX: usize = 800;

/// How a long file explains itself.
const LONG_FILE_REASON: &str = "Long because";

/// What must not be left in a source file; split so that this list is not found itself.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
];

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    /// Relative to the workspace.
    path: String,
    /// From 1; `None` when the file as a whole is meant.
    line: Option<usize>,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// Checks the workspace at `root` and prints what it finds.
pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let mut violations = Vec::new();
    for directory in package_directories(root)? {
        check_package(root, &directory, &mut violations)?;
    }
    check_page(root, &mut violations)?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} violations", violations.len());
    Ok(ExitCode::FAILURE)
}

fn package_directories(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut directories = vec![root.join("xtask")];
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            directories.push(path);
        }
    }
    directories.sort();
    Ok(directories)
}

fn check_package(
    root: &Path,
    directory: &Path,
    violations: &mut Vec<Violation>,
) -> anyhow::Result<()> {
    let manifest_path = directory.join("Cargo.toml");
    let text = read(&manifest_path)?;
    let manifest: Table = text
        .parse()
        .with_context(|| format!("cannot parse {}", manifest_path.display()))?;
    let folder = directory.file_name().unwrap_or_default().to_string_lossy();
    violations.extend(check_manifest(
        &relative(root, &manifest_path),
        &folder,
        &manifest,
    ));
    for path in source_files(directory, &["rs"])? {
        violations.extend(check_source(&relative(root, &path), &folder, &read(&path)?));
    }
    Ok(())
}

/// The web page: its own files are as others', and its lock files name no host.
fn check_page(root: &Path, violations: &mut Vec<Violation>) -> anyhow::Result<()> {
    for folder in ["web/src", "web/test", "tests-external/page"] {
        for path in source_files(&root.join(folder), &["js", "css"])? {
            let path_shown = relative(root, &path);
            violations.extend(check_source(&path_shown, "staunch-web", &read(&path)?));
        }
    }
    for lock in [
        "web/package-lock.json",
        "tests-external/page/package-lock.json",
    ] {
        let text = read(&root.join(lock))?;
        let named = text.lines().position(|line| line.contains("\"resolved\""));
        violations.extend(named.map(|index| Violation {
            path: lock.to_owned(),
            line: Some(index + 1),
            what: "a lock file names where packages are".to_owned(),
        }));
    }
    Ok(())
}

/// All files below `directory` with one of these extensions, in order.
fn source_files(directory: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                let foreign = ["target", "node_modules"];
                if path
                    .file_name()
                    .is_some_and(|name| foreign.iter().all(|it| name != *it))
                {
                    pending.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|it| extensions.iter().any(|wanted| it == *wanted))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_manifest(path: &str, folder: &str, manifest: &Table) -> Vec<Violation> {
    let violation = |what: String| Violation {
        path: path.to_owned(),
        line: None,
        what,
    };
    let mut violations = Vec::new();
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name != folder {
        violations.push(violation(format!(
            "crate `{name}` lies in folder `{folder}`"
        )));
    }
    let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == folder) else {
        violations.push(violation(format!(
            "`{folder}` is missing from EDGES in xtask tidy"
        )));
        return violations;
    };
    for dependency in dependencies(manifest) {
        let ours = EDGES
            .iter()
            .any(|(crate_name, _)| *crate_name == dependency)
            || dependency.starts_with("staunch");
        if ours && !allowed.contains(&dependency.as_str()) {
            violations.push(violation(format!(
                "`{folder}` must not import `{dependency}`"
            )));
        }
        let is_tokio = dependency == "tokio" || dependency.starts_with("tokio-");
        if is_tokio && !TOKIO_CRATES.contains(&folder) {
            violations.push(violation(format!(
                "`{folder}` must not import `{dependency}`"
            )));
        }
    }
    violations
}

/// The packages that a manifest imports outside tests, whatever it calls them.
fn dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(|targets| targets.values().filter_map(Value::as_table));
    let mut names = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for section in ["dependencies", "build-dependencies"] {
            let Some(section) = table.get(section).and_then(Value::as_table) else {
                continue;
            };
            for (key, value) in section {
                let renamed = value.get("package").and_then(Value::as_str);
                names.push(renamed.unwrap_or(key).to_owned());
            }
        }
    }
    names
}

fn check_source(path: &str, folder: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut in_tests = is_test_file(path);
    let mut after_test_attribute = false;
    for (index, line) in text.lines().enumerate() {
        let mut report = |what: String| {
            violations.push(Violation {
                path: path.to_owned(),
                line: Some(index + 1),
                what,
            });
        };
        for leftover in LEFTOVERS {
            if line.contains(leftover) {
                report(format!("leftover `{leftover}`"));
            }
        }
        // By convention the tests are the last module of a file.
        let begins_module = line.trim_start().starts_with("mod ") && !line.ends_with(';');
        in_tests |= after_test_attribute && begins_module;
        after_test_attribute = line.trim_start().starts_with("#[cfg(test)]");
        if !in_tests && !FS_CRATES.contains(&folder) && uses_std_fs(line) {
            report(format!("`std::fs` in `{folder}`"));
        }
    }
    let line_count = text.lines().count();
    if line_count > FILE_LINES_MAX && !header_gives_reason(text) {
        violations.push(Violation {
            path: path.to_owned(),
            line: None,
            what: format!("{line_count} lines, and no \"{LONG_FILE_REASON}\" in the header"),
        });
    }
    violations
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/examples/")
}

fn uses_std_fs(line: &str) -> bool {
    let line = line.trim_start();
    let is_comment = line.starts_with("//");
    let is_grouped = line.starts_with("use std::{")
        && line
            .split(['{', ',', '}'])
            .any(|part| part.trim().starts_with("fs"));
    !is_comment && (line.contains(concat!("std::", "fs")) || is_grouped)
}

fn header_gives_reason(text: &str) -> bool {
    text.lines()
        .take_while(|line| line.starts_with("//!"))
        .any(|l| l.contains(LONG_FILE_REASON))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `path` as it is shown: from the workspace on, with forward slashes.
fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(folder: &str, text: &str) -> Vec<String> {
        let table = text.parse().unwrap();
        check_manifest("Cargo.toml", folder, &table)
            .into_iter()
            .map(|v| v.what)
            .collect()
    }

    fn source(path: &str, folder: &str, text: &str) -> Vec<String> {
        check_source(path, folder, text)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn edges_outside_the_table_are_found() {
        let text = "[package]\nname = 'staunch-broker'\n[dependencies]\nbytes = '1'\n\
                    staunch-types.workspace = true\nstaunch-log.workspace = true\n\
                    renamed = { package = 'staunch-node', path = '..' }\n\
                    [target.'cfg(unix)'.dependencies]\ntokio = '1'\n\
                    [dev-dependencies]\nstaunch-server.workspace = true\n";
        let mut found = manifest("staunch-broker", text);
        found.sort();
        assert_eq!(
            found,
            [
                "`staunch-broker` must not import `staunch-log`",
                "`staunch-broker` must not import `staunch-node`",
                "`staunch-broker` must not import `tokio`",
            ]
        );
        assert_eq!(
            manifest("staunch-new", "[package]\nname = 'staunch-new'\n"),
            ["`staunch-new` is missing from EDGES in xtask tidy"]
        );
    }

    #[test]
    fn files_are_allowed_in_tests_only() {
        let text = "use std::fs;\n// std::fs\nuse std::{fmt, fs};\n\
                    #[cfg(test)]\nmod tests {\nuse std::fs;\n}\n";
        let path = "crates/staunch-broker/src/lib.rs";
        assert_eq!(
            source(path, "staunch-broker", text),
            [
                "crates/staunch-broker/src/lib.rs:1: `std::fs` in `staunch-broker`",
                "crates/staunch-broker/src/lib.rs:3: `std::fs` in `staunch-broker`",
            ]
        );
        assert!(source("crates/staunch-broker/tests/a.rs", "staunch-broker", text).is_empty());
        assert!(source("crates/staunch-log/src/lib.rs", "staunch-log", text).is_empty());
    }

    #[test]
    fn leftovers_and_long_files_are_found() {
        for leftover in LEFTOVERS {
            assert_eq!(
                source("a.rs", "xtask", &format!("fn f() {{ {leftover}) }}")).len(),
                1
            );
        }
        let long = "fn f() {}\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(
            source("a.rs", "xtask", &long),
            ["a.rs: 801 lines, and no \"Long because\" in the header"]
        );
        assert!(
            source(
                "a.rs",
                "xtask",
                &format!("//! A.\n//! Long because.\n{long}")
            )
            .is_empty()
        );
    }

    #[test]
    fn every_edge_points_to_a_known_crate_below() {
        for (position, (name, allowed)) in EDGES.iter().enumerate() {
            for target in *allowed {
                let at = EDGES.iter().position(|(name, _)| name == target);
                assert!(at.is_some_and(|at| at < position), "{name} -> {target}");
            }
        }
    }
}
