//! A disk that keeps its promises and nothing beyond them.
//!
//! What was written is visible at once and durable only after a sync. When power is lost, each
//! 512-byte sector written since the last sync of its file is kept or lost by a coin of its own,
//! and of the names created, renamed or removed since the last sync of the directory a prefix in
//! time survives, as a journaling file system does it. Independent coins for names were rejected:
//! no file system in use loses both names of a rename, and a log that survived that would pay
//! for a disk that does not exist.
//!
//! The disk also reads what is written on it: it finds the marks of messages
//! ([`crate::payload`]) and so knows which are durable. That is the check behind contract C1.

use std::{
    io,
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard},
};

use staunch_log::disk::{Disk, DiskError, DiskFile, Operation};

use crate::{disk::state::State, history::MessageId, planted::Planted, random::Random};

pub mod harm;
pub mod state;

/// The disk; a clone is the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file; it stays the same file when its name goes.
#[derive(Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    name: String,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(random: Random, planted: Option<Planted>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(random, planted))),
        }
    }

    /// What only the simulator may do with a disk.
    ///
    /// # Panics
    /// If another thread panicked while it held the disk.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread uses the disk")
    }

    /// Whether the message is on disk for good.
    pub fn is_durable(&self, id: MessageId) -> bool {
        self.state().durable.contains(&id)
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, name: &str, size_bytes: u64) -> Result<SimFile, DiskError> {
        let error = |source| DiskError::new(Operation::Create, name, source);
        let inode = self.state().create(name, size_bytes).map_err(error)?;
        Ok(SimFile {
            state: Arc::clone(&self.state),
            inode,
            name: name.to_owned(),
        })
    }

    fn open(&self, name: &str) -> Result<SimFile, DiskError> {
        let error = |source| DiskError::new(Operation::Open, name, source);
        let inode = self.state().open(name).map_err(error)?;
        Ok(SimFile {
            state: Arc::clone(&self.state),
            inode,
            name: name.to_owned(),
        })
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.state()
            .list()
            .map_err(|source| DiskError::new(Operation::List, "", source))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.state()
            .rename(name, None)
            .map_err(|source| DiskError::new(Operation::Remove, name, source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.state()
            .rename(from, Some(to))
            .map_err(|source| DiskError::new(Operation::Rename, from, source))
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        self.state()
            .sync_directory()
            .map_err(|source| DiskError::new(Operation::SyncDirectory, "", source))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.state().free_bytes())
    }
}

impl SimFile {
    fn with<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut state = self.state.lock().expect("one thread uses the disk");
        act(&mut state).map_err(|source| DiskError::new(operation, &self.name, source))
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), DiskError> {
        self.with(Operation::Write, |state| {
            state.write(self.inode, offset, parts)
        })
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.with(Operation::Read, |state| state.read(self.inode, offset, out))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.with(Operation::Sync, |state| state.sync(self.inode))
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        self.with(Operation::Size, |state| state.size(self.inode))
    }

    fn set_size(&self, size_bytes: u64) -> Result<(), DiskError> {
        self.with(Operation::SetSize, |state| {
            state.set_size(self.inode, size_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn disk() -> SimDisk {
        SimDisk::new(Random::new(1, Purpose::Disk), None)
    }

    fn read(file: &SimFile, size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        file.read_at(0, &mut out).unwrap();
        out
    }

    #[test]
    fn synced_bytes_survive_and_others_by_sector_or_not() {
        let mut seen = std::collections::BTreeSet::new();
        let disk = disk();
        for _ in 0..64 {
            let file = disk.create("f", 2_048).unwrap();
            file.write_at(0, &[IoSlice::new(&[1; 1_024])]).unwrap();
            file.sync_data().unwrap();
            file.write_at(512, &[IoSlice::new(&[2; 1_024])]).unwrap();
            disk.state().lose_power();
            let bytes = read(&disk.open("f").unwrap(), 2_048);
            assert_eq!(bytes[..512], [1; 512]);
            seen.insert((bytes[512], bytes[1_024]));
        }
        assert_eq!(seen, [(1, 0), (1, 2), (2, 0), (2, 2)].into());
    }

    #[test]
    fn names_need_the_directory_to_be_synced() {
        let disk = disk();
        let (mut kept, mut lost) = (0, 0);
        for _ in 0..64 {
            disk.create("a", 0).unwrap().sync_data().unwrap();
            disk.sync_directory().unwrap();
            disk.rename("a", "b").unwrap();
            disk.state().lose_power();
            match disk.list().unwrap().as_slice() {
                [name] if name == "a" => lost += 1,
                [name] if name == "b" => kept += 1,
                names => panic!("{names:?}"),
            }
            for name in disk.list().unwrap() {
                disk.remove(&name).unwrap();
            }
            disk.sync_directory().unwrap();
        }
        assert!(kept > 0 && lost > 0);
    }

    #[test]
    fn a_full_disk_refuses_and_power_goes_in_the_middle() {
        let disk = disk();
        disk.state().capacity_bytes = 1_000;
        assert!(
            disk.create("f", 1_001)
                .err()
                .is_some_and(|error| error.is_no_space())
        );
        let file = disk.create("f", 512).unwrap();
        disk.state().power_off_in = Some(1);
        file.write_at(0, &[IoSlice::new(b"x")]).unwrap();
        assert!(file.sync_data().is_err());
        assert!(disk.state().is_power_lost());
    }
}
