//! Patterns of permissions and policies: PCRE, searched for anywhere in a name, as RabbitMQ's
//! `re:run` does. Classes such as `\\w` and `\\d` are ASCII's, as there.
//!
//! The engine backtracks only where a pattern needs it (look-around, back references), and then
//! within a limit: a pattern that would take longer does not match. What a pattern costs when it
//! is compiled is estimated before, since the engine bounds only the pattern as a whole and not
//! the parts that look-around consists of. `.*` is by far the most common pattern and costs a
//! comparison.

use fancy_regex::{Regex, RegexBuilder};

/// Longest pattern in bytes.
pub const PATTERN_SIZE_BYTES_MAX: usize = 4_096;

/// Steps that one search may take where it has to backtrack: some for each byte of a name, of
/// which there are 255 at most. A policy is searched for in every name of its virtual host at once,
/// so this bounds how long a bad one holds up everything else.
const BACKTRACK_STEPS_MAX: usize = 1_500;

/// Most memory that one compiled pattern may take.
const COMPILED_SIZE_BYTES_MAX: usize = 1 << 20;

/// Highest [`weight`] of a pattern. One that weighs as much takes some milliseconds to compile
/// and some megabytes.
const WEIGHT_MAX: u64 = 20_000;

/// Weight of `.` and of a negated class.
const WEIGHT_OF_MOST: u64 = 10;

/// Weight of a class of Unicode's.
const WEIGHT_OF_UNICODE: u64 = 500;

/// Weight of a group with an extension, such as look-around.
const WEIGHT_OF_EXTENSION: u64 = 100;

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
    /// Its repetitions and classes together would take too much time and memory.
    #[error("its repetitions, classes and groups weigh {weight}, more than {WEIGHT_MAX}")]
    TooHeavy {
        /// What they weigh.
        weight: u64,
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
    let text = translated(text);
    let weight = weight(&text);
    if weight > WEIGHT_MAX {
        return Err(InvalidPattern::TooHeavy { weight });
    }
    RegexBuilder::new(&text)
        .backtrack_limit(BACKTRACK_STEPS_MAX)
        .delegate_size_limit(COMPILED_SIZE_BYTES_MAX)
        .build()
        .map_err(|error| InvalidPattern::Syntax(error.to_string()))
}

/// The pattern as the engine takes it: braces that PCRE takes literally, since they do not
/// enclose a repetition count, are escaped, and classes by letter are spelled out.
fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let size = token_size(rest);
        let (token, left) = rest.split_at(size);
        rest = left;
        match (first, ascii_class(token)) {
            ('\\', Some((class, is_negated))) => match (in_class, is_negated) {
                (true, false) => out.push_str(class),
                (_, true) => out.extend(["[^", class, "]"]),
                (false, false) => out.extend(["[", class, "]"]),
            },
            ('{', _) if !in_class && repetition(token).is_none() => out.extend(["\\", token]),
            _ => out.push_str(token),
        }
        in_class = match first {
            '[' => true,
            ']' => false,
            _ => in_class,
        };
    }
    out
}

/// What `\w`, `\d`, `\s` and their opposites stand for in PCRE without its Unicode mode.
fn ascii_class(token: &str) -> Option<(&'static str, bool)> {
    Some(match token {
        "\\w" => ("0-9A-Z_a-z", false),
        "\\W" => ("0-9A-Z_a-z", true),
        "\\d" => ("0-9", false),
        "\\D" => ("0-9", true),
        "\\s" => ("\\t-\\r ", false),
        "\\S" => ("\\t-\\r ", true),
        _ => return None,
    })
}

/// Roughly the states of the pattern's automaton: what is repeated counts as often.
fn weight(text: &str) -> u64 {
    let mut open_groups = Vec::new();
    // Of the group so far, and of what a repetition would repeat.
    let (mut sum, mut last) = (0_u64, 0_u64);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, left) = rest.split_at(token_size(rest));
        rest = left;
        if first == '(' {
            open_groups.push(sum);
            (sum, last) = (
                if left.starts_with('?') {
                    WEIGHT_OF_EXTENSION
                } else {
                    1
                },
                0,
            );
            continue;
        }
        if let Some(count) = repetition(token) {
            sum = sum.saturating_add(last.saturating_mul(count.saturating_sub(1)));
            last = last.saturating_mul(count);
            continue;
        }
        if first == ')' {
            last = sum;
            sum = open_groups.pop().unwrap_or(0).saturating_add(last);
            continue;
        }
        last = match first {
            '.' => WEIGHT_OF_MOST,
            '[' if left.starts_with('^') => WEIGHT_OF_MOST,
            '\\' if token.starts_with("\\p") || token.starts_with("\\P") => WEIGHT_OF_UNICODE,
            _ => 1,
        };
        sum = sum.saturating_add(last);
    }
    open_groups.into_iter().fold(sum, u64::saturating_add)
}

/// Size of what belongs together at the start of `text`, which is not empty.
fn token_size(text: &str) -> usize {
    match text.as_bytes()[0] {
        b'\\' => escape_size(text),
        b'{' => text
            .find('}')
            .map(|end| end + 1)
            .filter(|size| repetition(&text[..*size]).is_some())
            .unwrap_or(1),
        _ => text.chars().next().map_or(1, char::len_utf8),
    }
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

/// How often `{n}`, `{n,}` or `{n,m}` repeats at most; none if the token is something else.
fn repetition(token: &str) -> Option<u64> {
    let inside = token.strip_prefix('{')?.strip_suffix('}')?;
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    let is_count = !least.is_empty() && digits(least) && digits(most);
    is_count.then(|| number(if most.is_empty() { least } else { most }))
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
    fn letters_for_classes_are_of_ascii() {
        check("^\\w+$", &["a_1"], &["ä", "a-b"]);
        check("^[\\w.-]+$", &["a.b-c"], &["ä", "a b"]);
        check("^\\d\\D$", &["1a", "1ä"], &["11"]);
        check("^[^\\s]$|^\\S\\s$", &["a", "a\t"], &[" ", "  "]);
        check("^[\\Wx]+$", &["-x"], &["ax"]);
        check("^\\\\w$", &["\\w"], &["a"]);
    }

    #[test]
    fn patterns_as_people_write_them_are_light() {
        for pattern in [
            "^(?!amq\\.|federation|shovel)(?=.*orders)[\\w.-]{1,200}$",
            "^((?!temp).)*$",
            "^(eu|us)-\\w{8}-\\w{4}-\\w{4}-\\w{4}-\\w{12}$",
            "^\\p{Lu}\\p{L}{0,8}$",
        ] {
            assert!(Pattern::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_search_that_takes_too_long_finds_nothing() {
        let pattern = Pattern::new("^(?=(a+)+$)b").unwrap();
        assert!(!pattern.matches(&[b'a'; 200]));
        let pattern = Pattern::new("^(a|aa)+\\1!$").unwrap();
        assert!(!pattern.matches(&[b'a'; 255]));
    }

    #[test]
    fn the_longest_names_are_searched_to_their_end() {
        for pattern in ["^((?!temp|test).)*$", "^(?=.*a)(?!.*b)((?!temp)[a-z])++$"] {
            let pattern = Pattern::new(pattern).unwrap();
            assert!(pattern.matches(&[b'a'; 255]), "{}", pattern.as_str());
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(matches!(Pattern::new("("), Err(InvalidPattern::Syntax(_))));
        assert!(matches!(
            Pattern::new(&"a".repeat(PATTERN_SIZE_BYTES_MAX + 1)),
            Err(InvalidPattern::TooLong { .. })
        ));
        for heavy in [
            "(\\w{1000}){1000}",
            "(?:(?=.*\\p{L}{0,100}\\d)a|a)*b",
            &"(?=\\p{L}{99})a|".repeat(250),
            &"(?!.*a)".repeat(300),
            "a{99999999999999999999}",
        ] {
            let refused = Pattern::new(heavy);
            assert!(
                matches!(refused, Err(InvalidPattern::TooHeavy { .. })),
                "{heavy}"
            );
        }
    }

    #[test]
    fn names_that_are_not_utf_8_can_be_asked() {
        assert!(Pattern::new("^a").unwrap().matches(b"a\xff"));
    }
}
