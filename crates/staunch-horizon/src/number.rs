//! Between counters and real numbers, in one place, so that no NaN and no wrapped cast gets out.

/// Milliseconds in a second.
pub(crate) const SECOND_MILLIS: f64 = 1_000.0;

/// A counter as a real number. Above 2^53 it is rounded, by less than one part in 10^15.
#[expect(
    clippy::cast_precision_loss,
    reason = "counters are compared to within a tenth of a percent"
)]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// A small count as a real number.
#[expect(clippy::cast_precision_loss, reason = "lengths of short vectors")]
pub(crate) const fn real_len(count: usize) -> f64 {
    count as f64
}

/// Rounds to a counter: negative and NaN become 0, what is too large the greatest counter.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is promised"
)]
pub(crate) const fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Rounds down to an index; negative and NaN become 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is promised"
)]
pub(crate) const fn index(value: f64) -> usize {
    value as usize
}

/// Milliseconds as seconds.
pub(crate) const fn seconds(millis: u64) -> f64 {
    real(millis) / SECOND_MILLIS
}

/// `value`, or 0 where arithmetic has left the real numbers.
pub(crate) const fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
