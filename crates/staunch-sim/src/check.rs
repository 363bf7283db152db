//! The history checker: a pure function from a history to what is wrong with it.
//!
//! Message ids are unique, so no search over linearizations is needed: each checker is one pass
//! over an index of the history, O(n log n) in all. Each lives in a file of its own under the
//! promise it checks. A checker must never flag a legal history: where the truth is unknown (an
//! unanswered publish, a settlement that died with its connection, a binding that came while a
//! message was under way), it keeps the obligation open instead of guessing.

pub mod confirm;
pub mod double_enqueue;
pub mod due;
pub mod hidden;
pub mod index;
pub mod lost;
pub mod order;
pub mod overdue;
pub mod phantom;
pub mod redelivery;
pub mod resurrected;
pub mod rules;
pub mod stuck;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod tx;

use std::fmt;

use crate::{
    check::index::Index,
    history::{Fact, History},
};

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Confirmed, not removed by anyone, absent after the drain (C4).
    Lost,
    /// Delivered though nobody published it, or from a queue it was never routed to.
    Phantom,
    /// Delivered with other bytes than were published (C20).
    Corrupt,
    /// `redelivered=0` on a message sent before (C8).
    DupUnflagged,
    /// Delivered after its settlement or removal was certain (C9, C4).
    Resurrected,
    /// A queue was called empty, or emptier, while messages were ready in it.
    Hidden,
    /// One message at two places of a queue, or two at one (C10).
    DoubleEnqueue,
    /// Fresh deliveries out of publish order (C11, C12).
    Reordered,
    /// Delivered before its delay was over (D2).
    Early,
    /// Delivered after its time was up (D2).
    Overdue,
    /// An unknown or repeated confirm, or one before the sync, or without its return (C1, C3).
    ConfirmWrong,
    /// A definition came back or went missing (C5).
    DefinitionWrong,
    /// Members of a group disagree (C16).
    Consensus,
    /// The protocol itself was broken.
    ProtocolBroken,
    /// It did not go on though nothing stood in its way.
    Stuck,
    /// Two runs of one seed differ.
    Nondeterminism,
    /// A node panicked.
    Panic,
}

/// One broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which kind.
    pub kind: Kind,
    /// The facts of it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Everything that is wrong with `history`.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let index = Index::build(history);
    confirm::check(history, &index, &mut violations);
    phantom::check(history, &index, &mut violations);
    redelivery::check(history, &index, &mut violations);
    double_enqueue::check(history, &index, &mut violations);
    order::check(history, &index, &mut violations);
    turns::check(history, &index, &mut violations);
    due::check(history, &index, &mut violations);
    overdue::check(history, &index, &mut violations);
    resurrected::check(history, &index, &mut violations);
    hidden::check(history, &index, &mut violations);
    tx::check(history, &index, &mut violations);
    lost::check(history, &index, &mut violations);
    stuck::check(history, &mut violations);
    if history
        .iter()
        .any(|(_, fact)| matches!(fact, Fact::Damaged))
    {
        violations.retain(|violation| holds_on_damaged_disk(violation.kind));
    }
    violations
}

/// Whether a promise holds although the disk was damaged.
fn holds_on_damaged_disk(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Corrupt | Kind::ProtocolBroken | Kind::Stuck | Kind::Nondeterminism
    )
}

/// Adds a violation.
fn flag(out: &mut Vec<Violation>, kind: Kind, text: fmt::Arguments<'_>) {
    out.push(Violation {
        kind,
        text: text.to_string(),
    });
}
