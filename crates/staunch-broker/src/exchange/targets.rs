//! Where one binding key leads.

use std::collections::BTreeMap;

use staunch_types::{Name, QueueId};

/// One end of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Queue(QueueId),
    Exchange(Name),
}

/// What has been found for a message.
pub(crate) struct Matches<'a> {
    pub(crate) queues: &'a mut Vec<QueueId>,
    pub(crate) exchanges: Vec<Name>,
    /// Whether exchange and routing key alone led here.
    pub(crate) is_cacheable: bool,
    /// State of the sequence that random choices are drawn from.
    pub(crate) draws: &'a mut u64,
}

impl Matches<'_> {
    pub(crate) fn push(&mut self, target: &Target) {
        match target {
            Target::Queue(id) => self.queues.push(*id),
            Target::Exchange(name) => self.exchanges.push(name.clone()),
        }
    }

    /// Grows with every match.
    pub(crate) fn len(&self) -> usize {
        self.queues.len() + self.exchanges.len()
    }
}

/// A set of targets. A target counts its bindings: two that differ only in arguments lead to the
/// same place. Most keys have one target, so one needs no allocation.
#[derive(Debug, Default)]
pub(crate) enum Targets {
    #[default]
    None,
    One(Target, u32),
    Many(BTreeMap<Target, u32>),
}

impl Targets {
    pub(crate) fn add(&mut self, target: Target) {
        match self {
            Self::None => *self = Self::One(target, 1),
            Self::One(there, count) if *there == target => *count += 1,
            Self::One(there, count) => {
                let both = BTreeMap::from([(there.clone(), *count), (target, 1)]);
                *self = Self::Many(both);
            }
            Self::Many(all) => *all.entry(target).or_default() += 1,
        }
    }

    pub(crate) fn remove(&mut self, target: &Target) {
        match self {
            Self::None => unreachable!("only what was added is removed"),
            Self::One(there, count) => {
                assert!(there == target, "only what was added is removed");
                *count -= 1;
                if *count == 0 {
                    *self = Self::None;
                }
            }
            Self::Many(all) => {
                let count = all.get_mut(target).expect("only what was added is removed");
                *count -= 1;
                if *count == 0 {
                    all.remove(target);
                }
                if all.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn collect(&self, matches: &mut Matches<'_>) {
        match self {
            Self::None => {}
            Self::One(target, _) => matches.push(target),
            Self::Many(all) => all.keys().for_each(|target| matches.push(target)),
        }
    }
}
