//! Differences that are known, with their reasons: `known.txt`.
//!
//! One a line: a pattern, ` -- `, the reason. A pattern is compared with a difference's signature;
//! `…` in it stands for anything.

use std::path::Path;

/// The list.
pub struct Known(Vec<(String, String)>);

impl Known {
    /// Reads the list.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines.filter_map(|line| line.split_once(" -- "));
        Self(
            entries
                .map(|(pattern, reason)| (pattern.trim().to_owned(), reason.to_owned()))
                .collect(),
        )
    }

    /// The pattern that a signature matches.
    pub fn find(&self, signature: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(pattern, _)| matches(pattern, signature));
        found.map(|(pattern, _)| pattern.as_str())
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        is_open = part.is_empty();
    }
    rest.is_empty() || is_open
}
