//! The queues of all virtual hosts, by name and by id.
//!
//! Entries lie in one vector; two tables of 4-byte places find them. That is about 120 bytes
//! a queue beside its name and arguments. The default binding is not stored: routing through the
//! default exchange is [`Queues::by_name`]. A queue that holds the delayed messages of an exchange
//! has no name there: nobody can ask for it but by its id.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use staunch_types::{ConnectionId, QueueId};

use super::nodes::Loads;
use super::{Placement, QueueEntry};
use crate::exchange::Seeded;
use crate::settings::QueueSettings;

#[derive(Debug)]
pub(super) struct Queues {
    entries: Vec<Option<QueueEntry>>,
    free: Vec<u32>,
    names: HashTable<u32>,
    ids: HashTable<u32>,
    /// Exclusive queues.
    owned: BTreeSet<(ConnectionId, QueueId)>,
    loads: Loads,
    /// Queues whose messages are in partitions.
    split_count: usize,
    hasher: Seeded,
}

impl Queues {
    pub(super) fn new(hasher: Seeded) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            names: HashTable::new(),
            ids: HashTable::new(),
            owned: BTreeSet::new(),
            loads: Loads::default(),
            split_count: 0,
            hasher,
        }
    }

    pub(super) fn by_name(&self, vhost: &[u8], name: &[u8]) -> Option<&QueueEntry> {
        let same = |&place: &u32| {
            let entry = entry_at(&self.entries, place);
            *entry.name == *name && *entry.vhost == *vhost
        };
        let place = self.names.find(name_hash(self.hasher, vhost, name), same)?;
        Some(entry_at(&self.entries, *place))
    }

    pub(super) fn by_id(&self, id: QueueId) -> Option<&QueueEntry> {
        let same = |&place: &u32| entry_at(&self.entries, place).id == id;
        let place = self.ids.find(self.hasher.hash_one(id), same)?;
        Some(entry_at(&self.entries, *place))
    }

    /// Adds a queue whose name and id are new.
    pub(super) fn insert(&mut self, entry: QueueEntry) {
        let name_hash_new = name_hash(self.hasher, &entry.vhost, &entry.name);
        let id_hash_new = self.hasher.hash_one(entry.id);
        if let Some(owner) = entry.owner {
            self.owned.insert((owner, entry.id));
        }
        self.loads.add(&entry.placement);
        self.split_count += usize::from(entry.is_split());
        let place = if let Some(place) = self.free.pop() {
            self.entries[place as usize] = Some(entry);
            place
        } else {
            self.entries.push(Some(entry));
            u32::try_from(self.entries.len() - 1).expect("the number of queues is bounded")
        };
        let (entries, hasher) = (&self.entries, self.hasher);
        if !entry_at(entries, place).holds_delayed {
            self.names.insert_unique(name_hash_new, place, |&place| {
                let entry = entry_at(entries, place);
                name_hash(hasher, &entry.vhost, &entry.name)
            });
        }
        self.ids.insert_unique(id_hash_new, place, |&place| {
            hasher.hash_one(entry_at(entries, place).id)
        });
    }

    /// Gives a queue that is there other settings.
    pub(super) fn configure(&mut self, id: QueueId, settings: Arc<QueueSettings>) {
        let entries = &mut self.entries;
        let same = |&place: &u32| entry_at(entries, place).id == id;
        let place = self.ids.find(self.hasher.hash_one(id), same);
        let place = *place.expect("the caller found it") as usize;
        let entry = entries[place].as_mut();
        entry.expect("the tables hold no ghosts").settings = settings;
    }

    /// Has a queue that is there kept by other nodes.
    pub(super) fn place(&mut self, id: QueueId, placement: Placement) {
        let entries = &mut self.entries;
        let same = |&place: &u32| entry_at(entries, place).id == id;
        let place = self.ids.find(self.hasher.hash_one(id), same);
        let place = *place.expect("the caller found it") as usize;
        let entry = entries[place].as_mut();
        let entry = entry.expect("the tables hold no ghosts");
        self.loads.remove(&entry.placement);
        self.loads.add(&placement);
        entry.placement = placement;
    }

    /// Removes a queue and gives it back.
    pub(super) fn remove(&mut self, id: QueueId) -> Option<QueueEntry> {
        let entries = &self.entries;
        let same = |&place: &u32| entry_at(entries, place).id == id;
        let found = self.ids.find_entry(self.hasher.hash_one(id), same);
        let (place, _) = found.ok()?.remove();
        let entry = self.entries[place as usize]
            .take()
            .expect("the tables hold no ghosts");
        if !entry.holds_delayed {
            let hash = name_hash(self.hasher, &entry.vhost, &entry.name);
            let found = self.names.find_entry(hash, |&other| other == place);
            found.expect("both tables hold every named queue").remove();
        }
        self.free.push(place);
        if let Some(owner) = entry.owner {
            self.owned.remove(&(owner, id));
        }
        self.loads.remove(&entry.placement);
        self.split_count -= usize::from(entry.is_split());
        Some(entry)
    }

    /// How many have their messages in partitions.
    pub(super) fn split_count(&self) -> usize {
        self.split_count
    }

    /// What every node keeps of them.
    pub(super) fn loads(&self) -> &Loads {
        &self.loads
    }

    /// Every queue, by id.
    pub(super) fn sorted(&self) -> Vec<&QueueEntry> {
        let mut all: Vec<_> = self.entries.iter().flatten().collect();
        all.sort_unstable_by_key(|entry| entry.id);
        all
    }

    /// Exclusive queues of a connection, by id.
    pub(super) fn owned_by(&self, owner: ConnectionId) -> impl Iterator<Item = QueueId> {
        let all = (owner, QueueId(0))..=(owner, QueueId(u64::MAX));
        self.owned.range(all).map(|(_, id)| *id)
    }

    /// How many can be found by name.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Memory of the tables and entries, without names and arguments.
    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<QueueEntry>>()
            + self.free.capacity() * size_of::<u32>()
            + self.names.allocation_size()
            + self.ids.allocation_size()
    }

    pub(super) fn check_invariants(&self) {
        let entries = || self.entries.iter().flatten();
        let named_count = entries().filter(|entry| !entry.holds_delayed).count();
        assert_eq!(entries().count(), self.ids.len());
        assert_eq!(named_count, self.names.len());
        let split_count = entries().filter(|entry| entry.is_split()).count();
        assert_eq!(split_count, self.split_count);
        let mut loads = Loads::default();
        for entry in entries() {
            loads.add(&entry.placement);
        }
        assert_eq!(loads, self.loads, "what nodes keep is counted");
        for entry in self.entries.iter().flatten() {
            assert!(std::ptr::eq(
                entry,
                self.by_id(entry.id).expect("found by id")
            ));
            let by_name = self.by_name(&entry.vhost, &entry.name);
            let is_found = by_name.is_some_and(|found| std::ptr::eq(found, entry));
            assert_ne!(is_found, entry.holds_delayed, "only holders have no name");
            assert!(
                entry.owner.is_none() || entry.options.exclusive,
                "only exclusive ones are owned"
            );
        }
    }
}

fn entry_at(entries: &[Option<QueueEntry>], place: u32) -> &QueueEntry {
    entries[place as usize]
        .as_ref()
        .expect("the tables hold no ghosts")
}

fn name_hash(hasher: Seeded, vhost: &[u8], name: &[u8]) -> u64 {
    hasher.hash_one((vhost, name))
}
