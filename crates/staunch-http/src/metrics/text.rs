//! Prometheus' text format, written as it goes.

use std::fmt::{Arguments, Display, Write as _};

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    /// The family that samples belong to.
    name: String,
}

impl Text {
    /// Begins a family: its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        self.line(format_args!("# TYPE {name} {kind}\n# HELP {name} {help}"));
    }

    /// A number of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(&self.name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.out.push(if place == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            self.escaped(text);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    /// A family of one number without labels.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, line: Arguments<'_>) {
        writeln!(self.out, "{line}").expect("a text takes everything");
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", "counter", "how many");
        text.sample(&[("queue", "a\"b\\c\nd"), ("vhost", "/")], 5);
        text.sample(&[], 1.5);
        assert_eq!(
            text.finish(),
            "# TYPE a_total counter\n# HELP a_total how many\n\
             a_total{queue=\"a\\\"b\\\\c\\nd\",vhost=\"/\"} 5\na_total 1.5\n"
        );
    }
}
