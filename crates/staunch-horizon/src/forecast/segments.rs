//! Rates that change at a few points of time.

/// A stretch of time during which a rate stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) seconds: f64,
    pub(super) rate: f64,
}

/// The part of a forecast between two times; without an end, up to its tail.
pub(super) fn cut(segments: &[Segment], tail: f64, from: f64, to: Option<f64>) -> Vec<Segment> {
    let mut parts = Vec::new();
    let mut passed = 0.0_f64;
    for segment in segments {
        let end = passed + segment.seconds;
        let (lower, upper) = (passed.max(from), to.map_or(end, |to| end.min(to)));
        if lower < upper {
            parts.push(Segment {
                seconds: upper - lower,
                rate: segment.rate,
            });
        }
        passed = end;
    }
    if let Some(to) = to {
        let lower = passed.max(from);
        if lower < to {
            parts.push(Segment {
                seconds: to - lower,
                rate: tail,
            });
        }
    }
    parts
}

/// Two forecasts as one, cut where either has a border.
pub(super) fn merged(
    (ours, our_tail): (&[Segment], f64),
    (theirs, their_tail): (&[Segment], f64),
    join: impl Fn(f64, f64) -> f64,
) -> Vec<Segment> {
    let mut parts = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.iter().copied(), theirs.iter().copied());
    let (mut our, mut their) = (ours.next(), theirs.next());
    while our.is_some() || their.is_some() {
        let lasts = |segment: Option<Segment>| segment.map_or(f64::INFINITY, |part| part.seconds);
        let rate = |segment: Option<Segment>, tail| segment.map_or(tail, |part| part.rate);
        let seconds = lasts(our).min(lasts(their));
        parts.push(Segment {
            seconds,
            rate: join(rate(our, our_tail), rate(their, their_tail)),
        });
        our = rest(our, seconds).or_else(|| ours.next());
        their = rest(their, seconds).or_else(|| theirs.next());
    }
    parts
}

/// What is left of a segment, if anything is.
fn rest(segment: Option<Segment>, seconds: f64) -> Option<Segment> {
    segment
        .map(|part| Segment {
            seconds: part.seconds - seconds,
            ..part
        })
        .filter(|part| part.seconds > 0.0)
}
