//! Patterns of permissions and policies: PCRE, searched for anywhere in a name, as RabbitMQ's
//! `re:run` does.
//!
//! The engine backtracks only where a pattern needs it (look-around, back references), and then
//! within a limit: a pattern that would take longer does not match. `.*` is by far the most
//! common pattern and costs a comparison.

use fancy_regex::{Regex, RegexBuilder};

/// Longest pattern in bytes.
pub const PATTERN_SIZE_BYTES_MAX: usize = 4_096;

/// Steps that one search may take where it has to backtrack; a name has at most 255 bytes.
const BACKTRACK_STEPS_MAX: usize = 20_000;

/// Most memory that one compiled pattern may take.
const COMPILED_SIZE_BYTES_MAX: usize = 1 << 20;

/// Spellings of the pattern that every name matches.
const EVERYTHING: [&str; 5] = ["", ".*", "^.*", ".*$", "^.*$"];

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Longer than [`PATTERN_SIZE_BYTES_MAX`].
    #[error("it has {size_bytes} bytes, more than {PATTERN_SIZE_BYTES_MAX}")]
    TooLong {
        /// Its size.
        size_bytes: usize,
    },
    /// It cannot be compiled.
    #[error("{0}")]
    Syntax(String),
}

/// A compiled pattern. Equal if the texts are.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Everything,
    Regex(Regex),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`].
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let matcher = if EVERYTHING.contains(&text) {
            Matcher::Everything
        } else {
            Matcher::Regex(compile(text)?)
        };
        let text = text.to_owned();
        Ok(Self { text, matcher })
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every name matches, without a search.
    pub fn is_everything(&self) -> bool {
        matches!(self.matcher, Matcher::Everything)
    }

    /// Whether the pattern is found in `name`. What is not UTF-8 in a name is replaced before.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Regex(regex) => regex
                .is_match(&String::from_utf8_lossy(name))
                .unwrap_or(false),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

fn compile(text: &str) -> Result<Regex, InvalidPattern> {
    if text.len() > PATTERN_SIZE_BYTES_MAX {
        let size_bytes = text.len();
        return Err(InvalidPattern::TooLong { size_bytes });
    }
    RegexBuilder::new(&with_literal_braces(text))
        .backtrack_limit(BACKTRACK_STEPS_MAX)
        .delegate_size_limit(COMPILED_SIZE_BYTES_MAX)
        .build()
        .map_err(|error| InvalidPattern::Syntax(error.to_string()))
}

/// Escapes braces that PCRE takes literally, since they do not enclose a repetition count.
fn with_literal_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let size = match first {
            '\\' => escape_size(rest),
            '{' if !in_class && repetition_size(rest).is_none() => {
                out.push('\\');
                1
            }
            '[' => {
                in_class = true;
                1
            }
            ']' => {
                in_class = false;
                1
            }
            other => other.len_utf8(),
        };
        let (taken, left) = rest.split_at(size);
        out.push_str(taken);
        rest = left;
    }
    out
}

/// Size of an escape sequence, with the braces that belong to it (`\p{L}`, `\x{e4}`).
fn escape_size(text: &str) -> usize {
    let escaped = text.chars().nth(1);
    let size = 1 + escaped.map_or(0, char::len_utf8);
    let takes_braces = escaped.is_some_and(|escaped| "pPxkgoN".contains(escaped));
    if takes_braces && text[size..].starts_with('{') {
        text.find('}').map_or(size, |end| end + 1)
    } else {
        size
    }
}

/// Size of `{n}`, `{n,}` or `{n,m}` at the start of `text`.
fn repetition_size(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('{')?.split_once('}')?.0;
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(inside.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::new(pattern).unwrap();
        for name in matching {
            assert!(compiled.matches(name.as_bytes()), "{pattern} in {name}");
        }
        for name in others {
            assert!(!compiled.matches(name.as_bytes()), "{pattern} in {name}");
        }
    }

    #[test]
    fn patterns_are_searched_for_anywhere() {
        check("", &["", "anything"], &[]);
        check(".*", &["", "anything"], &[]);
        check("^$", &[""], &["a"]);
        check("foo", &["foo", "a.foo.b"], &["fo"]);
        check("^foo", &["foobar"], &["a.foo"]);
        check("^(a|b)-[0-9]{2,3}$", &["a-12", "b-123"], &["c-12", "a-1"]);
    }

    #[test]
    fn what_pcre_has_beyond_regular_languages() {
        check("^(?!amq\\.).*", &["a"], &["amq.direct"]);
        check("^(?<word>a+)-\\k<word>$", &["aa-aa"], &["aa-a"]);
        check("^a++b", &["aab"], &["aa"]);
        check("(?i)ABC", &["xabcx"], &["ab"]);
    }

    #[test]
    fn braces_that_count_nothing_are_literal() {
        check(
            "^{client_id}\\.a{2}$",
            &["{client_id}.aa"],
            &["{client_id}.a"],
        );
        check("^[{}]+$", &["{}"], &["a"]);
        check("^\\p{Lu}\\{x}$", &["A{x}"], &["a{x}"]);
        check("a{,2}", &["a{,2}"], &["aa"]);
    }

    #[test]
    fn a_search_that_takes_too_long_finds_nothing() {
        let pattern = Pattern::new("^(?=(a+)+$)b").unwrap();
        assert!(!pattern.matches(&[b'a'; 200]));
        let pattern = Pattern::new("^(a|aa)+\\1!$").unwrap();
        assert!(!pattern.matches(&[b'a'; 255]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(matches!(Pattern::new("("), Err(InvalidPattern::Syntax(_))));
        assert!(matches!(
            Pattern::new(&"a".repeat(PATTERN_SIZE_BYTES_MAX + 1)),
            Err(InvalidPattern::TooLong { .. })
        ));
        assert!(Pattern::new("(\\w{1000}){1000}").is_err());
    }

    #[test]
    fn names_that_are_not_utf_8_can_be_asked() {
        assert!(Pattern::new("^a").unwrap().matches(b"a\xff"));
    }
}
