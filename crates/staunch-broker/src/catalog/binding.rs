//! Bindings: what leads from an exchange to a queue or another exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use staunch_types::request::Destination;
use staunch_types::{FieldTable, Name};

/// A binding within one virtual host; all four parts together identify it (AMQP 0-9-1,
/// queue.bind; RabbitMQ, exchange.bind).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// Exchange messages come from.
    pub source: Name,
    /// Where they go.
    pub destination: Destination,
    /// Binding key.
    pub routing_key: Name,
    /// Arguments; a headers exchange matches on them.
    pub arguments: FieldTable,
}

/// The bindings of a virtual host, findable from either end. Exchanges keep their own form of
/// them for routing.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    by_source: BTreeMap<Name, BTreeSet<Arc<Binding>>>,
    by_destination: BTreeMap<Destination, BTreeSet<Arc<Binding>>>,
    count: usize,
}

impl Bindings {
    /// Adds a binding that is not there.
    pub(super) fn insert(&mut self, binding: &Binding) {
        let binding = Arc::new(Binding {
            arguments: binding.arguments.as_table_ref().to_field_table(),
            ..binding.clone()
        });
        let of_source = self.by_source.entry(binding.source.clone()).or_default();
        assert!(
            of_source.insert(Arc::clone(&binding)),
            "the caller checked that it is new"
        );
        self.by_destination
            .entry(binding.destination.clone())
            .or_default()
            .insert(binding);
        self.count += 1;
    }

    /// Removes a binding; false if it was not there.
    pub(super) fn remove(&mut self, binding: &Binding) -> bool {
        let Some(of_source) = self.by_source.get_mut(&binding.source) else {
            return false;
        };
        if !of_source.remove(binding) {
            return false;
        }
        if of_source.is_empty() {
            self.by_source.remove(&binding.source);
        }
        let of_destination = self.by_destination.get_mut(&binding.destination);
        let of_destination = of_destination.expect("both indexes hold every binding");
        assert!(
            of_destination.remove(binding),
            "both indexes hold every binding"
        );
        if of_destination.is_empty() {
            self.by_destination.remove(&binding.destination);
        }
        self.count -= 1;
        true
    }

    pub(super) fn contains(&self, binding: &Binding) -> bool {
        self.by_source
            .get(&binding.source)
            .is_some_and(|bindings| bindings.contains(binding))
    }

    /// Whether anything is bound with this exchange as its source.
    pub(super) fn has_source(&self, exchange: &[u8]) -> bool {
        self.by_source.contains_key(exchange)
    }

    pub(super) fn of_source(&self, exchange: &[u8]) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_source.get(exchange).into_iter().flatten()
    }

    pub(super) fn of_destination(
        &self,
        destination: &Destination,
    ) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_destination.get(destination).into_iter().flatten()
    }

    /// Every binding, ordered by source, destination, key and arguments.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_source.values().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(
            self.by_source.values().map(BTreeSet::len).sum::<usize>(),
            self.count
        );
        assert_eq!(
            self.by_destination
                .values()
                .map(BTreeSet::len)
                .sum::<usize>(),
            self.count
        );
        assert!(
            self.by_source.values().all(|set| !set.is_empty()),
            "no empty set stays"
        );
        assert!(
            self.by_destination.values().all(|set| !set.is_empty()),
            "no empty set stays"
        );
    }
}
