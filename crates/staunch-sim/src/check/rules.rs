//! Which policy was in force when, as far as an operator can know.

use crate::{
    history::{Fact, History, Rules, Stamp},
    register::{Operation, Register},
};

/// What is known of the policy for ruled queues: a fact each, which policies write.
#[derive(Debug, Default)]
pub struct RuleBook {
    makes_dead_letters: Register,
    has_ttl: Register,
    is_lossy: Register,
}

impl RuleBook {
    /// Reads the history once.
    pub fn read(history: &History) -> Self {
        let mut book = Self::default();
        let mut open: Option<Operation> = None;
        for (stamp, fact) in history.iter() {
            match fact {
                Fact::Ruling { rules, operation } => {
                    let values = [
                        rules.makes_dead_letters(),
                        *rules == Rules::TimeToLive,
                        *rules == Rules::LossyLength,
                    ];
                    for (register, value) in book.registers().into_iter().zip(values) {
                        register.begin(*operation, value, stamp);
                    }
                    open = Some(*operation);
                }
                Fact::Ruled { operation } => {
                    for register in book.registers() {
                        register.finish(*operation, true, stamp);
                    }
                    open = None;
                }
                Fact::Crash => {
                    if let Some(operation) = open.take() {
                        for register in book.registers() {
                            register.abandon(operation, stamp);
                        }
                    }
                }
                _ => {}
            }
        }
        book
    }

    fn registers(&mut self) -> [&mut Register; 3] {
        [
            &mut self.makes_dead_letters,
            &mut self.has_ttl,
            &mut self.is_lossy,
        ]
    }

    /// Whether dead letters were certainly made from then on.
    pub fn makes_dead_letters_from(&self, from: Stamp) -> bool {
        !self.makes_dead_letters.read(from, None).absent
    }

    /// Whether a message that came in that interval may have left without a dead letter: by a
    /// limit, or when its time was up, which stays with it when the policy goes.
    pub fn may_have_dropped(&self, from: Stamp, to: Option<Stamp>) -> bool {
        let is_mortal = self.has_ttl.read(from, to).present;
        let is_gone = is_mortal && !self.makes_dead_letters_from(from);
        is_gone || self.is_lossy.read(from, None).present
    }

    /// How long a message lives, in milliseconds, that came in that interval; none if that is not
    /// certain.
    pub fn ttl_millis(&self, from: Stamp, to: Stamp) -> Option<u64> {
        let is_certain = !self.has_ttl.read(from, Some(to)).absent;
        is_certain.then_some(u64::from(Rules::TTL_MILLIS))
    }
}
