//! How each type of setting is written: the parser for flags, environment and file alike.

use std::{path::PathBuf, time::Duration};

/// A type that a setting may have.
pub(super) trait SettingText: Sized {
    /// What stands for the value in the help text.
    const VALUE_NAME: &'static str;
    /// Whether several values may be given; they are joined by commas.
    const IS_LIST: bool = false;
    /// Whether the value stands without quotes in the file.
    const IS_BARE: bool = false;
    /// Whether the flag may stand without a value.
    const IS_SWITCH: bool = false;

    /// Reads the text, or says what is wrong with it.
    fn parse(text: &str) -> Result<Self, String>;

    /// The text as `config show` prints it.
    fn show(text: &str) -> String {
        text.to_owned()
    }
}

impl SettingText for PathBuf {
    const VALUE_NAME: &'static str = "DIR";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl SettingText for String {
    const VALUE_NAME: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 255 {
            return Err("is longer than 255 bytes".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("contains a control character".to_owned());
        }
        Ok(text.to_owned())
    }
}

impl SettingText for bool {
    const VALUE_NAME: &'static str = "true|false";
    const IS_BARE: bool = true;
    const IS_SWITCH: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is neither true nor false"))
    }
}

/// A file that may be left out: the empty text.
impl SettingText for Option<PathBuf> {
    const VALUE_NAME: &'static str = "FILE";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

impl SettingText for u16 {
    const VALUE_NAME: &'static str = "NUMBER";
    const IS_BARE: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is not a number from 0 to {}", Self::MAX);
        text.replace('_', "").parse().map_err(wrong)
    }
}

impl SettingText for u32 {
    const VALUE_NAME: &'static str = "NUMBER";
    const IS_BARE: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is not a number from 0 to {}", Self::MAX);
        text.replace('_', "").parse().map_err(wrong)
    }
}

impl SettingText for Duration {
    const VALUE_NAME: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration such as 10s, 500ms, 2m or 1h");
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let milliseconds = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(milliseconds)
            .map(Self::from_millis)
            .ok_or_else(wrong)
    }
}

/// Splits `10s` into 10 and `s`.
pub(super) fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.replace('_', "").parse().ok()?, unit.trim()))
}
