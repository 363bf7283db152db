//! What is on the disk, what would be after a loss of power, and which faults are due.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind, IoSlice},
};

use super::harm::Harmed;
use crate::{history::MessageId, payload, planted::Planted, random::Random};

/// What a disk writes whole or not at all.
const SECTOR_SIZE_BYTES: usize = 512;

/// Files, names and faults.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub struct State {
    /// Messages that are durable.
    pub durable: BTreeSet<MessageId>,
    /// Size of the disk.
    pub capacity_bytes: u64,
    /// Power goes after so many operations.
    pub power_off_in: Option<u32>,
    /// The next write fails.
    pub fail_write: bool,
    /// The next sync fails.
    pub fail_sync: bool,
    /// A fault made an operation fail.
    pub has_failed: bool,
    random: Random,
    planted: Option<Planted>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    /// Changes of names since the last sync of the directory, in order.
    journal: Vec<NameChange>,
    power_lost: bool,
    pub(super) harmed: Harmed,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    /// What the sectors written since the last sync hold on the disk itself.
    undo: BTreeMap<usize, Vec<u8>>,
    size_durable: usize,
    /// Messages written since the last sync.
    written: Vec<MessageId>,
}

impl State {
    pub(super) fn new(random: Random, planted: Option<Planted>) -> Self {
        Self {
            durable: BTreeSet::new(),
            capacity_bytes: u64::MAX,
            power_off_in: None,
            fail_write: false,
            fail_sync: false,
            has_failed: false,
            random,
            planted,
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            journal: Vec::new(),
            power_lost: false,
            harmed: Harmed::new(),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    pub(super) fn inode_of(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// What a file holds.
    pub(super) fn file(&self, name: &str) -> Option<&[u8]> {
        let inode = self.inodes.get(&self.inode_of(name)?)?;
        Some(&inode.data)
    }

    /// Changes what a file holds behind the back of whoever uses it.
    pub(super) fn change_file(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(inode) = self.inode_of(name) else {
            return;
        };
        self.harmed.insert(inode);
        if let Some(file) = self.inodes.get_mut(&inode) {
            change(&mut file.data);
            file.size_durable = file.size_durable.min(file.data.len());
        }
    }

    /// Takes a file away behind the back of whoever uses it.
    pub(super) fn unlink(&mut self, name: &str) {
        self.names.remove(name);
        self.names_durable.remove(name);
    }

    /// Whether power went in the middle of something; operations fail until
    /// [`State::lose_power`].
    pub fn is_power_lost(&self) -> bool {
        self.power_lost
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.inodes[inode].data.len() as u64)
            .sum()
    }

    /// Bytes left.
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    /// Power goes and comes back: decides what of the unsynced is kept, and clears every fault.
    pub fn lose_power(&mut self) {
        let survivors = self.random.index(self.journal.len() + 1);
        for change in self.journal.drain(..).take(survivors) {
            apply(&mut self.names_durable, change);
        }
        self.names = self.names_durable.clone();
        for inode in self.inodes.values_mut() {
            inode.lose_power(&mut self.random);
        }
        self.collect();
        self.power_lost = false;
        self.power_off_in = None;
        self.fail_write = false;
        self.fail_sync = false;
        self.has_failed = false;
    }

    /// Everything is gone. What was durable has been: promises were made because of that.
    pub fn wipe(&mut self) {
        self.names.clear();
        self.names_durable.clear();
        self.journal.clear();
        self.collect();
    }

    /// Flips one bit of what rests on the disk; says where, if there was anything.
    pub fn flip_bit(&mut self) -> Option<(String, usize)> {
        let files: Vec<(String, u64)> = self
            .names
            .iter()
            .filter(|(_, inode)| !self.inodes[inode].data.is_empty())
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        if files.is_empty() {
            return None;
        }
        let (name, inode) = self.random.pick(&files).clone();
        let data = &mut self.inodes.get_mut(&inode)?.data;
        let used = data.iter().rposition(|byte| *byte != 0)? + 1;
        let offset = self.random.index(used);
        data[offset] ^= 1 << self.random.below(8);
        Some((name, offset))
    }

    pub(super) fn create(&mut self, name: &str, size_bytes: u64) -> io::Result<u64> {
        self.begin()?;
        let replaced = self
            .names
            .get(name)
            .map_or(0, |inode| self.inodes[inode].data.len() as u64);
        if size_bytes > self.free_bytes() + replaced {
            return Err(ErrorKind::StorageFull.into());
        }
        self.next_inode += 1;
        let inode = self.next_inode;
        let size = usize::try_from(size_bytes).expect("a simulated file fits memory");
        let file = Inode {
            data: vec![0; size],
            size_durable: size,
            ..Inode::default()
        };
        self.inodes.insert(inode, file);
        self.change(NameChange::Link(name.to_owned(), inode));
        if size_bytes > 0 {
            self.sync_names();
        }
        Ok(inode)
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<u64> {
        self.begin()?;
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn list(&mut self) -> io::Result<Vec<String>> {
        self.begin()?;
        Ok(self.names.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: Option<&str>) -> io::Result<()> {
        self.begin()?;
        if !self.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(match to {
            Some(to) => NameChange::Rename(from.to_owned(), to.to_owned()),
            None => NameChange::Unlink(from.to_owned()),
        });
        Ok(())
    }

    pub(super) fn sync_directory(&mut self) -> io::Result<()> {
        self.begin()?;
        self.sync_names();
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        inode: u64,
        offset: u64,
        parts: &[IoSlice<'_>],
    ) -> io::Result<()> {
        self.begin()?;
        let failing = std::mem::take(&mut self.fail_write);
        self.has_failed |= failing;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if failing {
            bytes.truncate(self.random.index(bytes.len() + 1));
        }
        let free = self.free_bytes();
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("an open file has an inode");
        let start = usize::try_from(offset).expect("a simulated file fits memory");
        let growth = (start + bytes.len()).saturating_sub(file.data.len()) as u64;
        if growth > free {
            return Err(ErrorKind::StorageFull.into());
        }
        file.write(start, &bytes);
        file.written.extend(payload::ids_in(&bytes));
        if failing {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    }

    pub(super) fn read(&mut self, inode: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.begin()?;
        let start = usize::try_from(offset).expect("a simulated file fits memory");
        let data = &self.inodes[&inode].data;
        let source = data
            .get(start..start + out.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(source);
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.begin()?;
        if std::mem::take(&mut self.fail_sync) {
            self.has_failed = true;
            return Err(io::Error::from_raw_os_error(5));
        }
        if self.planted == Some(Planted::SkipSync) {
            return Ok(());
        }
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("an open file has an inode");
        file.undo.clear();
        file.size_durable = file.data.len();
        self.durable.extend(file.written.drain(..));
        Ok(())
    }

    pub(super) fn size(&mut self, inode: u64) -> io::Result<u64> {
        self.begin()?;
        Ok(self.inodes[&inode].data.len() as u64)
    }

    pub(super) fn set_size(&mut self, inode: u64, size_bytes: u64) -> io::Result<()> {
        self.begin()?;
        let free = self.free_bytes();
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("an open file has an inode");
        if size_bytes.saturating_sub(file.data.len() as u64) > free {
            return Err(ErrorKind::StorageFull.into());
        }
        file.data.resize(
            usize::try_from(size_bytes).expect("a simulated file fits memory"),
            0,
        );
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        match &mut self.power_off_in {
            Some(0) => self.power_lost = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if self.power_lost {
            Err(io::Error::other("power lost"))
        } else {
            Ok(())
        }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, change.clone());
        self.journal.push(change);
    }

    fn sync_names(&mut self) {
        if self.planted == Some(Planted::SkipDirectorySync) {
            return;
        }
        self.names_durable = self.names.clone();
        self.journal.clear();
    }

    /// Forgets files that no name leads to any more.
    fn collect(&mut self) {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }
}

impl Inode {
    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if end > self.data.len() {
            self.data.resize(end, 0);
        }
        for sector in start / SECTOR_SIZE_BYTES..end.div_ceil(SECTOR_SIZE_BYTES) {
            let from = sector * SECTOR_SIZE_BYTES;
            let to = (from + SECTOR_SIZE_BYTES).min(self.data.len());
            let data = &self.data;
            self.undo
                .entry(sector)
                .or_insert_with(|| data[from..to].to_vec());
        }
        self.data[start..end].copy_from_slice(bytes);
    }

    fn lose_power(&mut self, random: &mut Random) {
        // Often all or nothing, as with one small write; else every sector for itself.
        let keep = *random.pick(&[0, 500, 500, 1_000]);
        for (sector, before) in std::mem::take(&mut self.undo) {
            let from = sector * SECTOR_SIZE_BYTES;
            if !random.chance(keep) && from < self.data.len() {
                let to = (from + before.len()).min(self.data.len());
                self.data[from..to].copy_from_slice(&before[..to - from]);
            }
        }
        if self.data.len() != self.size_durable && random.chance(500) {
            self.data.resize(self.size_durable, 0);
        }
        self.size_durable = self.data.len();
        self.written.clear();
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Unlink(name) => {
            names.remove(&name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}
