//! Reads `staunch.toml` into texts with their places.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, Origin},
    load::Given,
    nearest::nearest,
    settings::{SETTINGS, Setting},
};

/// A file's contents with what is needed to point into it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

/// All settings in the file, and all that is wrong with its syntax, keys and types.
pub(super) fn read(path: &Path, text: &str) -> (Vec<Given>, Vec<ConfigError>) {
    let source = Source { path, text };
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    let at = |error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        source.error(offset, error.message().to_owned(), None)
    };
    let mut errors: Vec<_> = syntax_errors.into_iter().map(at).collect();
    let mut given = Vec::new();
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let Some(setting) = Setting::named(name) else {
            errors.push(source.unknown_key(name, key.span().start));
            continue;
        };
        match text_of(setting, value.get_ref()) {
            Ok(text) => {
                let origin = source.origin(value.span().start);
                given.push(Given {
                    key: setting.key,
                    text,
                    origin,
                });
            }
            Err(message) => errors.push(source.error(value.span().start, message, None)),
        }
    }
    (given, errors)
}

/// The value as the text that a flag would carry.
fn text_of(setting: &Setting, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        // What does not want one says so when it reads the text.
        DeValue::Boolean(value) if setting.is_bare => Ok(value.to_string()),
        DeValue::Array(items) if setting.is_list => {
            let text = |item: &DeValue<'_>| item.as_str().map(str::to_owned);
            let texts = items.iter().map(|item| text(item.get_ref()));
            let texts: Option<Vec<_>> = texts.collect();
            texts
                .map(|texts| texts.join(","))
                .ok_or(format!("{} is a list of texts", setting.key))
        }
        DeValue::Integer(_)
        | DeValue::Array(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => {
            let found = value.type_str();
            Err(format!(
                "{} is a {}, not a TOML {found}",
                setting.key, setting.value_name
            ))
        }
    }
}

impl Source<'_> {
    fn unknown_key(&self, name: &str, offset: usize) -> ConfigError {
        let meant = nearest(name, SETTINGS.iter().map(|setting| setting.key));
        let hint = meant.map(|meant| format!("did you mean {meant:?}?"));
        self.error(offset, format!("unknown key {name:?}"), hint)
    }

    fn error(&self, offset: usize, message: String, hint: Option<String>) -> ConfigError {
        let origin = self.origin(offset);
        ConfigError {
            line_text: line_text(&origin, self.text),
            origin,
            message,
            hint,
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Origin::File {
            path: self.path.to_owned(),
            line,
            column,
        }
    }
}

/// The line that an origin points to.
pub(super) fn line_text(origin: &Origin, text: &str) -> Option<String> {
    match origin {
        Origin::File { line, .. } => text.lines().nth(line - 1).map(str::to_owned),
        Origin::Default | Origin::Environment { .. } | Origin::Flag { .. } => None,
    }
}
