//! Brings the sources together: flags over environment over file over defaults.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    error::{ConfigError, ConfigErrors, Origin},
    file,
    nearest::nearest,
    settings::{Config, SETTINGS, Setting},
};

/// Files that are read when none is named, the first that exists.
const DEFAULT_FILES: [&str; 2] = ["staunch.toml", "/etc/staunch/staunch.toml"];

/// A variable that names the configuration file.
const FILE_VARIABLE: &str = "STAUNCH_CONFIG";

/// Where settings come from, before they are read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file and its contents.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those that do not start with `STAUNCH_` are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags as (key, text); the values of a flag given several times joined by commas.
    pub flags: Vec<(&'static str, String)>,
}

/// A setting that some source gives.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) key: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Odd things that are no errors.
    pub warnings: Vec<String>,
    /// Text and origin by key.
    texts: BTreeMap<&'static str, (String, Origin)>,
}

impl Loaded {
    /// The text and origin of a setting.
    ///
    /// # Panics
    /// If there is no such setting.
    pub fn text(&self, key: &str) -> (&str, &Origin) {
        let (text, origin) = self.texts.get(key).expect("every setting has a text");
        (text, origin)
    }
}

/// Reads the configuration of this process: `flags`, its environment, and the file named by
/// `file`, by `STAUNCH_CONFIG`, or `staunch.toml` here or in `/etc/staunch`.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load(
    flags: Vec<(&'static str, String)>,
    file: Option<&Path>,
) -> Result<Loaded, ConfigErrors> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect();
    let named = file
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(FILE_VARIABLE).map(Into::into));
    let existing = || {
        DEFAULT_FILES
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    };
    let file = named
        .or_else(existing)
        .map(|path| read_file(&path))
        .transpose()?;
    resolve(&Sources {
        file,
        environment,
        flags,
    })
}

/// Brings `sources` together.
///
/// # Errors
/// Everything that is wrong in any of them; a wrong value that another source overrides too.
pub fn resolve(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut given = from_flags(&sources.flags);
    given.extend(from_environment(
        &sources.environment,
        &mut errors,
        &mut warnings,
    ));
    if let Some((path, text)) = &sources.file {
        let (settings, file_errors) = file::read(path, text);
        given.extend(settings);
        errors.extend(file_errors);
    }
    errors.extend(given.iter().filter_map(|given| wrong_value(sources, given)));
    if !errors.is_empty() {
        return Err(ConfigErrors(in_order(errors)));
    }
    // The sources stand in the order of their precedence, so the first that gives a key wins.
    let mut texts = BTreeMap::new();
    for Given { key, text, origin } in given {
        texts.entry(key).or_insert((text, origin));
    }
    for setting in SETTINGS {
        texts
            .entry(setting.key)
            .or_insert((setting.default.to_owned(), Origin::Default));
    }
    let config = Config::from_texts(|key| texts[key].0.as_str());
    let error = |(key, message): (&'static str, String)| {
        let origin = texts[key].1.clone();
        error_at(sources, origin, format!("{key}: {message}"))
    };
    let errors: Vec<_> = config.contradictions().into_iter().map(error).collect();
    if !errors.is_empty() {
        return Err(ConfigErrors(in_order(errors)));
    }
    let file = sources.file.as_ref().map(|(path, _)| path.clone());
    Ok(Loaded {
        config,
        file,
        warnings,
        texts,
    })
}

fn read_file(path: &Path) -> Result<(PathBuf, String), ConfigErrors> {
    let unreadable = |error: std::io::Error| {
        let origin = Origin::File {
            path: path.to_owned(),
            line: 1,
            column: 1,
        };
        let message = format!("cannot be read: {error}");
        ConfigErrors(vec![ConfigError {
            origin,
            message,
            line_text: None,
            hint: None,
        }])
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok((path.to_owned(), text))
}

fn from_flags(flags: &[(&'static str, String)]) -> Vec<Given> {
    let given = |(key, text): &(&'static str, String)| {
        let flag = format!("--{}", key.replace('_', "-"));
        Given {
            key,
            text: text.clone(),
            origin: Origin::Flag { flag },
        }
    };
    flags.iter().map(given).collect()
}

/// A variable that is nearly a setting is an error; any other only a warning, because an
/// orchestrator may set `STAUNCH_SERVICE_HOST` and the like for a service of that name.
fn from_environment(
    environment: &[(String, String)],
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<String>,
) -> Vec<Given> {
    let mut given = Vec::new();
    let mut sorted: Vec<_> = environment.iter().collect();
    sorted.sort();
    for (variable, text) in sorted {
        let Some(name) = variable.strip_prefix("STAUNCH_") else {
            continue;
        };
        let key = name.to_ascii_lowercase();
        let origin = Origin::Environment {
            variable: variable.clone(),
        };
        if let Some(setting) = Setting::named(&key) {
            given.push(Given {
                key: setting.key,
                text: text.clone(),
                origin,
            });
            continue;
        }
        if variable == FILE_VARIABLE || is_reserved(name) {
            continue;
        }
        if let Some(meant) = nearest(&key, SETTINGS.iter().map(|setting| setting.key)) {
            let meant = Setting::named(meant)
                .map(Setting::variable)
                .unwrap_or_default();
            let hint = Some(format!("did you mean {meant}?"));
            let message = "unknown variable".to_owned();
            errors.push(ConfigError {
                origin,
                message,
                line_text: None,
                hint,
            });
        } else {
            warnings.push(format!("environment variable {variable} is no setting"));
        }
    }
    given
}

/// Variables that Kubernetes sets for a service called `staunch`, those of our own tests, and those
/// of the commands that speak with a node.
fn is_reserved(name: &str) -> bool {
    let reserved = ["SERVICE_", "PORT_", "TEST_", "CLI_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    reserved || name == "PORT"
}

fn wrong_value(sources: &Sources, given: &Given) -> Option<ConfigError> {
    let setting = Setting::named(given.key).expect("given settings come from the table");
    let message = (setting.check)(&given.text).err()?;
    Some(error_at(
        sources,
        given.origin.clone(),
        format!("{}: {message}", given.key),
    ))
}

fn error_at(sources: &Sources, origin: Origin, message: String) -> ConfigError {
    let text = sources.file.as_ref().map(|(_, text)| text);
    let line_text = text.and_then(|text| file::line_text(&origin, text));
    ConfigError {
        origin,
        message,
        line_text,
        hint: None,
    }
}

/// Flags, environment, then the file from top to bottom.
fn in_order(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by_key(|error| match error.origin {
        Origin::Flag { .. } => (0, 0, 0),
        Origin::Environment { .. } => (1, 0, 0),
        Origin::File { line, column, .. } => (2, line, column),
        Origin::Default => (3, 0, 0),
    });
    errors
}
