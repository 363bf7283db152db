//! A disk in memory that forgets like a real one.
//!
//! Content is durable by 512-byte sector after a successful [`DiskFile::sync_data`], names after
//! [`Disk::sync_directory`]. [`MemoryDisk::crash`] keeps any subset of the sectors and of the
//! name changes that were not synced. A sync that fails drops the dirty sectors and leaves the
//! page cache looking well, as Linux does. Everything is decided by the seed it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError, DiskFile, Operation};

const SECTOR: usize = 512;

/// A disk for tests and for the simulator. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

/// A file of a [`MemoryDisk`]. After a crash it only gives errors.
#[derive(Debug)]
pub struct MemoryFile {
    inner: Arc<Mutex<Inner>>,
    inode: u64,
    name: String,
    epoch: u64,
    _open: Arc<()>,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files made.
    pub creates: u64,
    /// Writes that succeeded, and what they wrote.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of a file that succeeded.
    pub syncs: u64,
    /// Syncs of the directory that succeeded.
    pub directory_syncs: u64,
    /// Reads that succeeded.
    pub reads: u64,
}

/// A fault to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// It strikes operations of this kind …
    pub operation: Operation,
    /// … on files whose name starts so …
    pub file_prefix: String,
    /// … after this many of them have passed.
    pub after: u64,
    /// What the caller gets.
    pub kind: FaultKind,
    /// Whether it stays.
    pub lasting: Lasting,
}

/// What a fault looks like to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// EIO. Half of a write reaches the page cache; a sync drops all dirty sectors of the file.
    Io,
    /// ENOSPC.
    NoSpace,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// One operation.
    Once,
    /// Until [`MemoryDisk::clear_faults`].
    Forever,
}

#[derive(Debug, Default)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    /// Name changes since the last sync of the directory.
    pending: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    faults: Vec<Fault>,
    counts: Counts,
    epoch: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a reader sees.
    content: Vec<u8>,
    /// What a crash leaves, at least.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    open: Arc<()>,
}

impl MemoryDisk {
    /// An empty disk without a size limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power fails: every unsynced sector and name change is kept or lost as `seed` has it, open
    /// files go stale.
    pub fn crash(&self, seed: u64) {
        self.lock().crash(&mut Random(seed));
    }

    /// A disk of its own with the same content, all of it durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.lock();
        let copy = Self::new();
        for (name, inode) in &inner.names {
            copy.put_file(name, &inner.inodes[inode].content);
        }
        copy
    }

    /// Lets a fault strike later.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Sets the size of the disk; `None` is without limit. Files may already exceed it.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().capacity_bytes = capacity;
    }

    /// Turns one bit of a file around, durably.
    ///
    /// # Panics
    /// If there is no such file or bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut inner = self.lock();
        let inode = inner.inode_mut(name);
        let byte = usize::try_from(bit / 8).expect("files fit in memory");
        let mask = 1 << (bit % 8);
        inode.content[byte] ^= mask;
        if let Some(durable) = inode.durable.get_mut(byte) {
            *durable ^= mask;
        }
    }

    /// A file's content as a reader sees it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn file(&self, name: &str) -> Vec<u8> {
        self.lock().inode_mut(name).content.clone()
    }

    /// Makes or replaces a file, durably.
    ///
    /// # Panics
    /// Never: the file it writes to was just made.
    pub fn put_file(&self, name: &str, content: &[u8]) {
        let mut inner = self.lock();
        let inode = inner.link(name);
        let file = inner.inodes.get_mut(&inode).expect("it was just made");
        file.content = content.to_vec();
        file.durable = content.to_vec();
        inner.names_durable = inner.names.clone();
        inner.pending.clear();
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Bytes all files take.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inner: &Inner, name: &str, inode: u64) -> MemoryFile {
        MemoryFile {
            inner: Arc::clone(&self.inner),
            inode,
            name: name.to_owned(),
            epoch: inner.epoch,
            _open: Arc::clone(&inner.inodes[&inode].open),
        }
    }
}

impl Inner {
    fn link(&mut self, name: &str) -> u64 {
        let inode = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(inode, Inode::default());
        self.names.insert(name.to_owned(), inode);
        self.pending.push(NameChange::Link(name.to_owned(), inode));
        inode
    }

    fn inode_mut(&mut self, name: &str) -> &mut Inode {
        let inode = *self
            .names
            .get(name)
            .expect("the test names an existing file");
        self.inodes.get_mut(&inode).expect("a name has an inode")
    }

    fn used_bytes(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.content.len() as u64)
            .sum()
    }

    fn room_for(&self, growth: usize) -> bool {
        self.capacity_bytes
            .is_none_or(|capacity| self.used_bytes() + growth as u64 <= capacity)
    }

    /// The fault that strikes this operation, if any.
    fn fault(&mut self, operation: Operation, name: &str) -> Option<FaultKind> {
        let mut struck = None;
        self.faults.retain_mut(|fault| {
            if struck.is_some() || fault.operation != operation {
                return true;
            }
            if !name.starts_with(&fault.file_prefix) {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            struck = Some(fault.kind);
            fault.lasting == Lasting::Forever
        });
        struck
    }

    fn fail_if_faulty(&mut self, operation: Operation, name: &str) -> Result<(), DiskError> {
        match self.fault(operation, name) {
            Some(kind) => Err(kind.error(operation, name)),
            None => Ok(()),
        }
    }

    /// Files without a name and without a reader give their space back.
    fn forget_unlinked(&mut self) {
        let linked: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.names_durable.values())
            .copied()
            .collect();
        self.inodes
            .retain(|number, inode| linked.contains(number) || Arc::strong_count(&inode.open) > 1);
    }

    fn crash(&mut self, random: &mut Random) {
        self.epoch += 1;
        let pending = std::mem::take(&mut self.pending);
        let keep = Keep::choose(random);
        for change in pending {
            if keep.keeps(random) {
                change.apply(&mut self.names_durable);
            }
        }
        self.names = self.names_durable.clone();
        for inode in self.inodes.values_mut() {
            inode.crash(random);
        }
        for inode in self.inodes.values_mut() {
            inode.open = Arc::new(());
        }
        self.forget_unlinked();
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name, inode);
            }
            Self::Unlink(name) => {
                names.remove(&name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.durable.resize(self.content.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR)
            .min(self.durable.len())
            .min(self.content.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.content[start..end]);
        }
    }

    fn crash(&mut self, random: &mut Random) {
        if self.content.len() != self.durable.len() && random.coin() {
            self.durable.resize(self.content.len(), 0);
        }
        let keep = Keep::choose(random);
        for sector in std::mem::take(&mut self.dirty) {
            if keep.keeps(random) {
                self.persist(sector);
            }
        }
        self.content.clone_from(&self.durable);
    }
}

/// How much of what was not synced survives.
#[derive(Clone, Copy)]
enum Keep {
    Nothing,
    Everything,
    Some,
}

impl Keep {
    fn choose(random: &mut Random) -> Self {
        match random.next() % 4 {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => random.coin(),
        }
    }
}

impl FaultKind {
    fn error(self, operation: Operation, name: &str) -> DiskError {
        let source = match self {
            Self::Io => io::Error::from_raw_os_error(5),
            Self::NoSpace => io::Error::from(io::ErrorKind::StorageFull),
        };
        DiskError::new(operation, name, source)
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create(&self, name: &str, size_bytes: u64) -> Result<MemoryFile, DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::Create, name)?;
        let size = usize::try_from(size_bytes).expect("files fit in memory");
        if !inner.room_for(size) {
            return Err(FaultKind::NoSpace.error(Operation::Create, name));
        }
        inner.counts.creates += 1;
        let inode = inner.link(name);
        if size > 0 {
            let file = inner.inodes.get_mut(&inode).expect("it was just made");
            file.content = vec![0; size];
            file.durable = vec![0; size];
            inner.names_durable = inner.names.clone();
            inner.pending.clear();
        }
        Ok(self.handle(&inner, name, inode))
    }

    fn open(&self, name: &str) -> Result<MemoryFile, DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::Open, name)?;
        match inner.names.get(name) {
            Some(inode) => Ok(self.handle(&inner, name, *inode)),
            None => Err(DiskError::new(
                Operation::Open,
                name,
                io::ErrorKind::NotFound.into(),
            )),
        }
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::List, "")?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::Remove, name)?;
        if inner.names.remove(name).is_none() {
            return Err(DiskError::new(
                Operation::Remove,
                name,
                io::ErrorKind::NotFound.into(),
            ));
        }
        inner.pending.push(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::Rename, from)?;
        let Some(inode) = inner.names.remove(from) else {
            return Err(DiskError::new(
                Operation::Rename,
                from,
                io::ErrorKind::NotFound.into(),
            ));
        };
        inner.names.insert(to.to_owned(), inode);
        inner
            .pending
            .push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::SyncDirectory, "")?;
        inner.counts.directory_syncs += 1;
        inner.names_durable = inner.names.clone();
        inner.pending.clear();
        inner.forget_unlinked();
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let mut inner = self.lock();
        inner.fail_if_faulty(Operation::FreeBytes, "")?;
        let used = inner.used_bytes();
        Ok(inner
            .capacity_bytes
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(used)))
    }
}

impl MemoryFile {
    /// The disk, if this file was opened since the last crash.
    fn lock(&self, operation: Operation) -> Result<MutexGuard<'_, Inner>, DiskError> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.epoch == self.epoch {
            Ok(inner)
        } else {
            Err(FaultKind::Io.error(operation, &self.name))
        }
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        let mut inner = self.lock(Operation::Write)?;
        let mut bytes = parts
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect::<Vec<u8>>();
        let fault = inner.fault(Operation::Write, &self.name);
        if fault.is_some() {
            bytes.truncate(bytes.len() / 2);
        }
        let offset = usize::try_from(offset).expect("files fit in memory");
        let size = inner.inodes[&self.inode].content.len();
        if !inner.room_for((offset + bytes.len()).saturating_sub(size)) {
            return Err(FaultKind::NoSpace.error(Operation::Write, &self.name));
        }
        inner
            .inodes
            .get_mut(&self.inode)
            .expect("open files stay")
            .write(offset, &bytes);
        if let Some(kind) = fault {
            return Err(kind.error(Operation::Write, &self.name));
        }
        inner.counts.writes += 1;
        inner.counts.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let mut inner = self.lock(Operation::Read)?;
        inner.fail_if_faulty(Operation::Read, &self.name)?;
        let content = &inner.inodes[&self.inode].content;
        let start = usize::try_from(offset).expect("files fit in memory");
        let Some(found) = content.get(start..start + out.len()) else {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(DiskError::new(Operation::Read, &self.name, source));
        };
        out.copy_from_slice(found);
        inner.counts.reads += 1;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut inner = self.lock(Operation::Sync)?;
        let fault = inner.fault(Operation::Sync, &self.name);
        let inode = inner.inodes.get_mut(&self.inode).expect("open files stay");
        if let Some(kind) = fault {
            inode.dirty.clear();
            return Err(kind.error(Operation::Sync, &self.name));
        }
        inode.sync();
        inner.counts.syncs += 1;
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        let inner = self.lock(Operation::Size)?;
        Ok(inner.inodes[&self.inode].content.len() as u64)
    }

    fn set_size(&self, size_bytes: u64) -> Result<(), DiskError> {
        let mut inner = self.lock(Operation::SetSize)?;
        inner.fail_if_faulty(Operation::SetSize, &self.name)?;
        let size = usize::try_from(size_bytes).expect("files fit in memory");
        let inode = inner.inodes.get_mut(&self.inode).expect("open files stay");
        inode.content.resize(size, 0);
        Ok(())
    }
}

/// splitmix64: enough to scatter decisions, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}
