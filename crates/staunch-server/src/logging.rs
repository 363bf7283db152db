//! Log lines on standard error, as text or as JSON.
//!
//! In both formats one event is one line whatever its fields contain. In text this needs care:
//! a client chooses its connection name, and a name with a line break in it could forge a line.
//! So every byte of a text line passes through one escaper, [`OneLine`], just before it is
//! written; only the escapes that colour it on a terminal are added after.

mod recorder;

use std::io::{self, IsTerminal as _, Write};

use staunch_http::EventLog;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{MakeWriter, time::FormatTime},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

use self::recorder::{Notable, Recorder};
use crate::config::{Config, LogFormat};

/// Starts logging as `config` says, for the rest of the process. What is of use to operators is put
/// into `events` too, whatever is logged.
///
/// # Errors
/// When logging has been started already.
pub fn start(config: &Config, events: EventLog) -> Result<(), TryInitError> {
    // The configuration has checked the directives; the default stands in for what slipped by.
    let filter = EnvFilter::try_new(config.log_level.as_str()).unwrap_or_default();
    let layer = match resolved(config.log_format, io::stderr().is_terminal()) {
        Format::Text => tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_timer(UtcTime)
            .with_writer(OneLineStderr)
            .boxed(),
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_timer(UtcTime)
            .with_writer(io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(Recorder(events).with_filter(Notable))
        .try_init()
}

/// A format after `auto` has been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

fn resolved(format: LogFormat, is_terminal: bool) -> Format {
    match (format, is_terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => Format::Text,
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Format::Json,
    }
}

/// UTC with milliseconds: `2026-07-05T09:08:07.654Z`.
struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        w.write_str(&rfc3339(since_epoch.as_secs(), since_epoch.subsec_millis()))
    }
}

/// The instant `seconds` and `milliseconds` after 1970 in RFC 3339.
#[must_use]
pub fn rfc3339(seconds: u64, milliseconds: u32) -> String {
    // Counting years from the first of March puts the leap day at the end of the year, and eras
    // of 400 years all have the same length (Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Standard error behind the escaper.
struct OneLineStderr;

impl<'a> MakeWriter<'a> for OneLineStderr {
    type Writer = OneLine<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(io::stderr())
    }
}

/// Writes each buffer as one line. The formatter hands over an event at a time.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.0.write_all(escaped(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `event` with every control character but the final line break escaped.
fn escaped(event: &str) -> String {
    let (line, end) = event
        .strip_suffix('\n')
        .map_or((event, ""), |line| (line, "\n"));
    let mut out = String::with_capacity(event.len());
    for c in line.chars() {
        // The two separators are not control characters, but some viewers break lines at them.
        if c.is_control() || c == '\u{2028}' || c == '\u{2029}' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push_str(end);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_forge_a_line() {
        let mut out = OneLine(Vec::new());
        let forged = "INFO connected name=x\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{2028}y\n";
        out.write_all(forged.as_bytes()).unwrap();
        let text = String::from_utf8(out.0).unwrap();
        assert_eq!(
            text,
            "INFO connected name=x\\n2026-01-01 ERROR all is lost\\r\\u{1b}[2J\\u{2028}y\n"
        );
    }

    #[test]
    fn auto_asks_the_terminal() {
        for (format, is_terminal, expected) in [
            (LogFormat::Auto, true, Format::Text),
            (LogFormat::Auto, false, Format::Json),
            (LogFormat::Text, false, Format::Text),
            (LogFormat::Json, true, Format::Json),
        ] {
            assert_eq!(resolved(format, is_terminal), expected);
        }
    }

    #[test]
    fn times_are_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(seconds, 7), expected);
        }
    }
}
