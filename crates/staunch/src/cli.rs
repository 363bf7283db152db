//! What all commands that speak with a running node have in common: where it is and who asks, how
//! answers are shown, how errors end.

pub(crate) mod arguments;
pub(crate) mod contexts;
pub(crate) mod durations;
pub(crate) mod failure;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod table;
pub(crate) mod target;
