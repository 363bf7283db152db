//! What the simulator saw without looking at the history: it only has to be counted.

use crate::{
    check::{Kind, Violation, flag},
    history::{Fact, History},
};

/// Flags `Stuck`, `DefinitionWrong`, `Consensus` and `ProtocolBroken`.
pub fn check(history: &History, out: &mut Vec<Violation>) {
    for (_, fact) in history.iter() {
        match fact {
            Fact::Stuck { what } => flag(out, Kind::Stuck, format_args!("{what}")),
            Fact::DefinitionWrong { what } => {
                flag(out, Kind::DefinitionWrong, format_args!("{what}"));
            }
            Fact::ConsensusBroken { what } => flag(out, Kind::Consensus, format_args!("{what}")),
            Fact::ProtocolBroken { what } => {
                flag(out, Kind::ProtocolBroken, format_args!("{what}"));
            }
            _ => {}
        }
    }
}
