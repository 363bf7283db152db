//! Times and sizes as people write and read them.

/// Seconds in the units that are read and shown, the longest first.
const UNITS: [(&str, f64); 4] = [("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
/// Longer times are all the same to people, in days.
const DAYS_MAX: f64 = 999.0;

/// Bytes in the units that are read, the longest names first.
const SIZES: [(&str, f64); 8] = [
    ("KiB", 1_024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("B", 1.0),
];

/// Reads `90`, `90s`, `30m`, `2h`, `1d`.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(unit)?, *factor),
        None => (text, 1.0),
    };
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// Reads `1024`, `2KiB`, `1.5 MB`.
pub(crate) fn bytes(text: &str) -> Option<f64> {
    let unit = SIZES.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(unit)?, *factor),
        None => (text, 1.0),
    };
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// Two units at most: `2d 3h`, `12m 5s`, `0.5s`.
pub(crate) fn shown(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    if seconds / UNITS[0].1 > DAYS_MAX {
        return format!("over {DAYS_MAX}d");
    }
    let mut rest = seconds.round();
    let mut parts = Vec::new();
    for (unit, factor) in UNITS {
        let count = (rest / factor).floor();
        rest -= count * factor;
        if count > 0.0 || !parts.is_empty() {
            parts.push(format!("{count:.0}{unit}"));
        }
    }
    parts.truncate(2);
    parts.retain(|part| !part.starts_with('0'));
    parts.join(" ")
}

/// In binary units: `3.4 GiB`.
pub(crate) fn shown_bytes(bytes: f64) -> String {
    let units = SIZES[..4].iter().rev();
    let mut fitting = units.filter(|(_, factor)| bytes >= *factor);
    match fitting.next() {
        Some((unit, factor)) => format!("{:.1} {unit}", bytes / factor),
        None => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, expected) in [
            ("90", Some(90.0)),
            ("30m", Some(1_800.0)),
            ("1.5h", Some(5_400.0)),
            ("2d", Some(172_800.0)),
            ("soon", None),
            ("-1s", None),
            ("infs", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for (text, expected) in [
            ("512", Some(512.0)),
            ("2KiB", Some(2_048.0)),
            ("1.5 MB", Some(1_500_000.0)),
            ("7B", Some(7.0)),
            ("much", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_two_units() {
        for (seconds, expected) in [
            (0.54, "0.5s"),
            (65.0, "1m 5s"),
            (3_600.0, "1h"),
            (93_784.0, "1d 2h"),
            (1e12, "over 999d"),
        ] {
            assert_eq!(shown(seconds), expected);
        }
        assert_eq!(shown_bytes(512.0), "512 B");
        assert_eq!(shown_bytes(3.4 * 1_073_741_824.0), "3.4 GiB");
    }
}
