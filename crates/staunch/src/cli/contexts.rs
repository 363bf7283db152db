//! Contexts: nodes by name, in a file of the user's.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::cli::failure::{Exit, Failure};

/// Whose eyes the file is for: it may hold passwords.
const FILE_MODE: u32 = 0o600;

/// The file `contexts.toml`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context in force where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A node and who asks it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its HTTP interface.
    pub(crate) node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amqp: Option<String>,
}

impl Contexts {
    /// What the file says; nothing if there is none.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(wrong(&path, &error)),
        };
        // What does not parse may be a password: only the reason is told.
        toml::from_str(&text).map_err(|error| wrong(&path, &error.message()))
    }

    /// Replaces the file by this.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| {
            Failure::usage("there is no place for contexts").with_hint("set HOME")
        })?;
        let text = toml::to_string(self).map_err(|error| wrong(&path, &error))?;
        let written = || {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            let fresh = path.with_extension("toml.new");
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            let mut file = options.mode(FILE_MODE).open(&fresh)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            fs::rename(&fresh, &path)
        };
        written().map_err(|error| wrong(&path, &error))
    }

    pub(crate) fn named(&self, name: &str) -> Result<Context, Failure> {
        let found = self.contexts.get(name).cloned();
        found.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no context '{name}'"))
                .with_hint("staunch context ls")
        })
    }
}

/// `$XDG_CONFIG_HOME/staunch/contexts.toml`, or the same below `~/.config`.
fn path() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let home = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(home.join("staunch").join("contexts.toml"))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}
