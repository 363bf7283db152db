//! Runs a program on both brokers, one operation at a time, and compares what both have shown
//! after each.
//!
//! Much of what follows from an operation comes later: deliveries, confirms, dead letters. So
//! both are asked again until they agree; only if they do not within a bound is that a
//! difference. What agrees too early is no harm where it is cumulative. Where an operation reads
//! state, agreement is asked for twice in a row before it.

use std::time::{Duration, Instant};

use crate::program::{Operation, PASSING_MILLIS, Step, has_passing_times};
use crate::side::{Choice, Side};

/// How long the brokers may disagree.
pub const PATIENCE: Duration = Duration::from_millis(2_500);

/// The same when it is known already that they do.
pub const PATIENCE_AGAIN: Duration = Duration::from_millis(600);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What is added to a time to live until it has passed on both sides.
const MARGIN: Duration = Duration::from_millis(60);

/// How often both must agree in a row when things happen behind their backs.
const AGREEMENTS: u32 = 3;

/// What became of a program.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Same,
    Different(Difference),
    /// A broker could not be reached, or a program could not be started afresh.
    Broken(String),
}

/// The first difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The operation after which it was seen; none: at the end.
    pub after: Option<Step>,
    /// Where it was seen, and what each side showed there.
    pub place: String,
    pub reference: String,
    pub staunch: String,
}

impl Difference {
    /// The same for differences that are alike: without numbers and names.
    pub fn signature(&self) -> String {
        let after = self.after.as_ref().map_or("end".to_owned(), |step| {
            let text = format!("{:?}", step.what);
            let end = text.find([' ', '(']).unwrap_or(text.len());
            text[..end].to_owned()
        });
        let (reference, staunch) = differing(&self.reference, &self.staunch);
        let kind = self.place.split_once(' ').map_or("", |(_, kind)| kind);
        let kind = kind.split(' ').next().unwrap_or_default();
        let kind = if self.place.starts_with('c') {
            kind
        } else {
            &self.place
        };
        let parts = [kind, &reference, &staunch].map(blurred);
        let is_dead = |text: &str| text.contains("x-death: ");
        let both_died = is_dead(&self.reference) && is_dead(&self.staunch);
        let kind = if both_died { " | dead letters" } else { "" };
        format!("after {after}, {}{kind}", parts.join(" | "))
    }
}

/// What stands in the one text and not in the other: words that both begin or end with are left
/// out, except the first.
fn differing(a: &str, b: &str) -> (String, String) {
    let mut a: Vec<&str> = a.split(' ').collect();
    let mut b: Vec<&str> = b.split(' ').collect();
    while a.len() > 1 && b.len() > 1 && a.last() == b.last() {
        a.pop();
        b.pop();
    }
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let first = if same > 1 { &a[..1] } else { &[] };
    let text = |words: &[&str]| [first, &words[same.min(words.len())..]].concat().join(" ");
    (text(&a), text(&b))
}

fn blurred(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .filter(|c| *c != '-')
        .collect();
    let mut out = text.replace("##", "#");
    while out.contains("##") {
        out = out.replace("##", "#");
    }
    out.chars().take(160).collect()
}

/// Runs a program; `sides` are the reference and Staunch, both clean.
pub fn run(program: &[Step], sides: &mut [Side; 2], patience: Duration) -> Outcome {
    let outcome = run_steps(program, sides, patience);
    for side in sides.iter_mut() {
        if let Err(error) = side.clean() {
            return Outcome::Broken(error);
        }
    }
    outcome
}

fn run_steps(program: &[Step], sides: &mut [Side; 2], patience: Duration) -> Outcome {
    let agreements = agreements_for(program);
    let has_passing_times = has_passing_times(program);
    for (number, step) in program.iter().enumerate() {
        let choice = choose(step, sides);
        for side in sides.iter_mut() {
            if let Err(error) = side.begin(number, step, choice.as_ref()) {
                return Outcome::Broken(error);
            }
        }
        for side in sides.iter_mut() {
            side.finish(step);
        }
        if has_passing_times && makes_ready(&step.what) {
            // Else one side might still see what on the other has just gone.
            std::thread::sleep(Duration::from_millis(PASSING_MILLIS) + MARGIN);
        }
        if let Some(difference) = settle(sides, (agreements, patience), Some(step)) {
            return Outcome::Different(difference);
        }
        if sides.iter().any(|side| side.is_broken_off) {
            // In which order the channels of a connection that breaks off give back what they
            // hold, and to whom it goes, is a race.
            return Outcome::Same;
        }
    }
    for side in sides.iter_mut() {
        side.leave();
    }
    if let Some(difference) = settle(sides, (AGREEMENTS, patience), None) {
        return Outcome::Different(difference);
    }
    for side in sides.iter_mut() {
        side.drain();
    }
    settle(sides, (1, patience), None).map_or(Outcome::Same, Outcome::Different)
}

/// Whether messages can become ready that then have their time to live before them.
fn makes_ready(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Publish { .. }
            | Operation::Ack { .. }
            | Operation::Nack { .. }
            | Operation::Reject { .. }
            | Operation::Recover { .. }
            | Operation::Purge(_)
            | Operation::Commit
            | Operation::CloseChannel
            | Operation::CloseConnection
    )
}

/// Where messages move from queue to queue, or queues are replicated, one look is not enough.
fn agreements_for(program: &[Step]) -> u32 {
    let moves = program.iter().any(|step| match &step.what {
        Operation::DeclareQueue { arguments, .. } => !arguments.is_empty(),
        _ => false,
    });
    if moves { AGREEMENTS } else { 1 }
}

/// What a settlement settles: the same message on both sides.
fn choose(step: &Step, sides: &[Side; 2]) -> Option<Choice> {
    let (which, wants_multiple) = match step.what {
        Operation::Ack { which, multiple }
        | Operation::Nack {
            which, multiple, ..
        } => (which, multiple),
        Operation::Reject { which, .. } => (which, false),
        _ => return None,
    };
    let sorted = sides[0].outstanding(step.channel);
    if sorted.is_empty() || sorted != sides[1].outstanding(step.channel) {
        return None;
    }
    // Deliveries of several consumers may come in another order on each side.
    let is_same_order = sides[0].in_order(step.channel) == sides[1].in_order(step.channel);
    Some(Choice {
        place: which % sorted.len(),
        multiple: wants_multiple && is_same_order,
    })
}

/// Waits until both sides show the same, `agreements` times in a row.
fn settle(
    sides: &mut [Side; 2],
    (agreements, patience): (u32, Duration),
    after: Option<&Step>,
) -> Option<Difference> {
    let end = Instant::now() + patience;
    let mut agreed = 0;
    loop {
        for side in sides.iter_mut() {
            side.observe();
        }
        match compare(sides, after) {
            None => {
                agreed += 1;
                if agreed >= agreements {
                    return None;
                }
            }
            Some(difference) if Instant::now() > end => return Some(difference),
            Some(_) => agreed = 0,
        }
        std::thread::sleep(PAUSE);
    }
}

fn compare(sides: &[Side; 2], after: Option<&Step>) -> Option<Difference> {
    let is_broken_off = sides.iter().any(|side| side.is_broken_off);
    let different = |place: &str, reference: String, staunch: String| {
        Some(Difference {
            after: after.cloned(),
            place: place.to_owned(),
            reference,
            staunch,
        })
    };
    let [reference, staunch] = sides;
    let places: std::collections::BTreeSet<&String> = reference
        .streams
        .keys()
        .chain(staunch.streams.keys())
        .filter(|place| !is_broken_off || place.starts_with("connection "))
        .collect();
    for place in places {
        let nothing = Vec::new();
        let a = reference.streams.get(place).unwrap_or(&nothing);
        let b = staunch.streams.get(place).unwrap_or(&nothing);
        if a != b {
            let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let text = |all: &[String]| all.get(at).cloned().unwrap_or("nothing".to_owned());
            return different(place, text(a), text(b));
        }
    }
    if is_broken_off {
        return None;
    }
    if reference.counts != staunch.counts {
        let text = |side: &Side| format!("{:?}", side.counts);
        return different("counts", text(reference), text(staunch));
    }
    let ((a, a_complete), (b, b_complete)) = (reference.confirms(), staunch.confirms());
    if a != b || !a_complete || !b_complete {
        return different("confirms", a.join("; "), b.join("; "));
    }
    None
}
