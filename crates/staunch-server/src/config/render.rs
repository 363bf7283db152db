//! The configuration as text: the commented default file, and what is in force.

use super::{
    load::Loaded,
    settings::{SETTINGS, Setting},
};

/// Whether `config show` says where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// It does.
    Shown,
    /// It does not.
    Hidden,
}

/// `staunch.toml` with every setting commented out at its default.
#[must_use]
pub fn default_file() -> String {
    let mut lines = vec![
        "# Configuration of a Staunch node. Every setting is shown with its default.".to_owned(),
        "# A flag (--data-dir) wins over the environment (STAUNCH_DATA_DIR), that over this file."
            .to_owned(),
    ];
    for setting in SETTINGS {
        lines.push(String::new());
        lines.extend(setting.docs.iter().map(|line| format!("# {}", line.trim())));
        lines.push(format!(
            "# {} = {}",
            setting.key,
            toml_value(setting, setting.default)
        ));
    }
    lines.join("\n") + "\n"
}

/// Every setting in force as TOML, with its origin as a comment if asked for. Secrets are masked.
#[must_use]
pub fn shown(loaded: &Loaded, origins: Origins) -> String {
    let line = |setting: &Setting| {
        let (text, origin) = loaded.text(setting.key);
        let line = format!(
            "{} = {}",
            setting.key,
            toml_value(setting, &(setting.show)(text))
        );
        (line, origin.to_string())
    };
    let lines: Vec<_> = SETTINGS.iter().map(line).collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0);
    let rendered = |(line, origin): (String, String)| match origins {
        Origins::Shown => format!("{line:width$}  # {origin}\n"),
        Origins::Hidden => format!("{line}\n"),
    };
    lines.into_iter().map(rendered).collect()
}

fn toml_value(setting: &Setting, text: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if setting.is_list {
        let items = text.split(',').filter(|item| !item.is_empty());
        return format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "));
    }
    if setting.is_bare {
        text.to_owned()
    } else {
        quoted(text)
    }
}
