//! In which order a group's entries and hard states are written.
//!
//! A torn write may keep the first records of what was handed out and lose the rest. So a hard
//! state that knows of commits is written behind the entries that it speaks of, and one that knows
//! of all before a change of members is written in front of that ([`HardState`]).

use staunch_raft::{Entry, HardState, Payload};
use staunch_types::LogIndex;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    HardState(HardState),
    Entry(Entry),
}

/// What a [`Persist`](staunch_raft::Persist) without a snapshot writes.
pub(crate) fn in_order(hard_state: Option<HardState>, append: Vec<Entry>) -> Vec<Written> {
    let up_to = |state: &HardState, index: LogIndex| HardState {
        commit: state.commit.min(index),
        ..*state
    };
    let mut records = Vec::with_capacity(append.len() + 2);
    let mut last = None;
    for entry in append {
        let before = LogIndex(entry.index.0 - 1);
        let is_change = matches!(entry.payload, Payload::Change(_));
        if let Some(state) = &hard_state
            && (last.is_none() || is_change)
        {
            let state = up_to(state, before);
            records.push(Written::HardState(state));
            last = Some(state);
        }
        records.push(Written::Entry(entry));
    }
    if let Some(state) = hard_state
        && last != Some(state)
    {
        records.push(Written::HardState(state));
    }
    records
}
