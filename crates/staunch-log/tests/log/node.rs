//! A node reduced to what the log needs of one: live messages per stream, settlements written as
//! controls, a state for checkpoints; and a memory of everything that was promised.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use staunch_log::disk::Operation;
use staunch_log::disk::memory::{Fault, FaultKind, Lasting};
use staunch_log::{
    BackgroundDone, BackgroundError, BackgroundJob, ChunkId, Config, Live, MemoryDisk, Opened,
    RecordMeta, RecoverError, Recovered, Relocated, Retiring, StreamId, recover,
};
use staunch_types::{BodyRef, Message};

pub(crate) type Key = (StreamId, u64);

/// A message as it must come back.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) stored: Bytes,
    pub(crate) meta: RecordMeta,
    /// Persisted when the log has persisted this; `None` until sealed.
    appended: Option<ChunkId>,
    /// Number of the control that settles it.
    settled: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    body: BodyRef,
    size_bytes: u32,
    meta: RecordMeta,
}

/// The failure of any worker: the node stops.
#[derive(Debug)]
pub(crate) struct Stopped;

pub(crate) struct Node {
    pub(crate) disk: MemoryDisk,
    pub(crate) config: Config,
    pub(crate) log: Opened<MemoryDisk>,
    /// What the node believes lives.
    live: BTreeMap<Key, Place>,
    /// Everything ever appended and not forgotten with a lost tail.
    pub(crate) known: BTreeMap<Key, Known>,
    next_index: BTreeMap<StreamId, u64>,
    /// Controls are numbered; these were appended in chunks up to the given one.
    controls: u64,
    controls_sealed: Vec<(u64, ChunkId)>,
    /// Last control the last recovery knew.
    controls_kept: u64,
}

impl Node {
    pub(crate) fn new(config: Config) -> Self {
        Self::open(MemoryDisk::new(), config).expect("an empty disk is a fresh log")
    }

    /// Opens a disk about which nothing is promised.
    pub(crate) fn open(disk: MemoryDisk, config: Config) -> Result<Self, RecoverError> {
        let found = Found::read(&disk, &config)?;
        Ok(Self {
            disk,
            config,
            log: found.log,
            live: found.live,
            known: BTreeMap::new(),
            next_index: BTreeMap::new(),
            controls: found.controls,
            controls_sealed: Vec::new(),
            controls_kept: 0,
        })
    }

    pub(crate) fn append(&mut self, stream: u64, size: usize) -> Key {
        let stream = StreamId(stream);
        let index = self.next_index.entry(stream).or_insert(0);
        let key = (stream, *index);
        *index += 1;
        let mut seed = key.0.0 * 7919 + key.1 * 31;
        let body: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(size)
        .collect();
        let message = Message::copied(b"amq.direct", b"key", b"\x10\x00\x02", &body);
        let mut stored = Vec::new();
        message.put_stored(&mut stored);
        let mut meta = RecordMeta::default();
        meta.0[3] = u8::try_from(key.1 % 200).unwrap();
        let body = self.log.store.append_message(stream, key.1, meta, &message);
        let size_bytes = u32::try_from(stored.len()).unwrap();
        self.live.insert(
            key,
            Place {
                body,
                size_bytes,
                meta,
            },
        );
        let stored = Bytes::from(stored);
        self.known.insert(
            key,
            Known {
                stored,
                meta,
                appended: None,
                settled: None,
            },
        );
        key
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn live_at(&self, position: usize) -> Option<Key> {
        self.live
            .keys()
            .nth(position % self.live.len().max(1))
            .copied()
    }

    pub(crate) fn place(&self, key: Key) -> (BodyRef, u32) {
        let place = self.live[&key];
        (place.body, place.size_bytes)
    }

    pub(crate) fn settle(&mut self, key: Key) {
        let place = self
            .live
            .remove(&key)
            .expect("only live messages are settled");
        self.controls += 1;
        let mut payload = self.controls.to_be_bytes().to_vec();
        payload.extend_from_slice(&key.0.0.to_be_bytes());
        payload.extend_from_slice(&key.1.to_be_bytes());
        self.log.store.append_control(key.0, &payload);
        self.log.store.release(place.body, place.size_bytes);
        if let Some(known) = self.known.get_mut(&key) {
            known.settled = Some(self.controls);
        }
    }

    pub(crate) fn seal(&mut self) {
        let Some(chunk) = self.log.store.seal() else {
            return;
        };
        for known in self
            .known
            .values_mut()
            .filter(|known| known.appended.is_none())
        {
            known.appended = Some(chunk);
        }
        self.controls_sealed.push((self.controls, chunk));
    }

    pub(crate) fn write(&mut self) -> Result<bool, Stopped> {
        let Some(job) = self.log.store.poll_write() else {
            return Ok(false);
        };
        let done = self.log.writer.run(job).map_err(|_| Stopped)?;
        self.log.store.handle_written(&done);
        Ok(true)
    }

    pub(crate) fn write_all(&mut self) -> Result<(), Stopped> {
        self.seal();
        while self.write()? || self.upkeep()? {}
        Ok(())
    }

    pub(crate) fn upkeep(&mut self) -> Result<bool, Stopped> {
        let Some(job) = self.log.store.poll_background() else {
            return Ok(false);
        };
        Ok(!self.run(job)?.0)
    }

    pub(crate) fn retire(&mut self) -> Result<bool, Stopped> {
        let Some(retiring) = self.log.store.retire_due() else {
            return Ok(false);
        };
        self.tenure(retiring)
    }

    pub(crate) fn compact(&mut self) -> Result<bool, Stopped> {
        let Some(retiring) = self.log.store.compact_due() else {
            return Ok(false);
        };
        self.tenure(retiring)
    }

    /// Moves survivors; some messages are settled while the copy is under way.
    fn tenure(&mut self, retiring: Retiring) -> Result<bool, Stopped> {
        let mut live: BTreeMap<StreamId, Vec<Live>> = BTreeMap::new();
        for ((stream, index), place) in &self.live {
            if retiring.contains(place.body) {
                let Place {
                    body,
                    size_bytes,
                    meta,
                } = *place;
                let entry = Live {
                    index: *index,
                    body,
                    size_bytes,
                    meta,
                };
                live.entry(*stream).or_default().push(entry);
            }
        }
        let moving: Vec<Key> = live
            .iter()
            .flat_map(|(s, entries)| entries.iter().map(|e| (*s, e.index)))
            .collect();
        let job = self.log.store.tenure(retiring, live.into_iter().collect());
        for key in moving.iter().step_by(5) {
            self.settle(*key);
        }
        Ok(!self.run(job)?.0)
    }

    pub(crate) fn checkpoint(&mut self) -> Result<bool, Stopped> {
        self.seal();
        let mut state = self.controls.to_be_bytes().to_vec();
        for (stream, index) in self.live.keys() {
            state.extend_from_slice(&stream.0.to_be_bytes());
            state.extend_from_slice(&index.to_be_bytes());
        }
        let job = self.log.store.checkpoint(state);
        Ok(!self.run(job)?.0)
    }

    /// Runs a background job; says whether the disk had no room.
    fn run(&mut self, job: BackgroundJob) -> Result<(bool, ()), Stopped> {
        let done: BackgroundDone = self.log.background.run(job).map_err(|error| {
            assert!(matches!(error, BackgroundError::Disk(_)), "{error}");
            Stopped
        })?;
        let no_space = done.is_no_space();
        for moved in self.log.store.handle_background(done) {
            let Relocated {
                stream,
                index,
                from,
                to,
                size_bytes,
            } = moved;
            match self.live.get_mut(&(stream, index)) {
                Some(place) => {
                    assert_eq!(place.body, from);
                    place.body = to;
                }
                None => self.log.store.release(to, size_bytes),
            }
        }
        Ok((no_space, ()))
    }

    /// Everything a real node does in its loop, until nothing is left to do.
    pub(crate) fn settle_down(&mut self) -> Result<(), Stopped> {
        for _ in 0..1000 {
            self.write_all()?;
            let checkpoint = self.log.store.needs_checkpoint() && self.checkpoint()?;
            if !(self.retire()? || self.compact()? || checkpoint || self.upkeep()?) {
                return Ok(());
            }
        }
        panic!("upkeep does not come to an end");
    }

    /// Reads every live persisted message back and compares it byte for byte.
    pub(crate) fn check_bodies(&mut self) {
        let persisted = self.log.store.persisted();
        let readable = |known: &Known| known.appended.is_some_and(|chunk| chunk <= persisted);
        let wanted: Vec<(Key, Place)> = self
            .live
            .iter()
            .filter(|(key, _)| self.known.get(key).is_some_and(readable))
            .map(|(key, place)| (*key, *place))
            .collect();
        let list: Vec<_> = wanted
            .iter()
            .map(|(k, p)| (k.1, p.body, p.size_bytes))
            .collect();
        let job = self.log.store.fetch(&list);
        let done = self
            .log
            .reader
            .run(job)
            .expect("what was persisted can be read");
        self.log.store.handle_fetched(&done);
        assert_eq!(done.records.len(), wanted.len());
        for (fetched, (key, place)) in done.records.iter().zip(&wanted) {
            let known = &self.known[key];
            assert_eq!((fetched.index, fetched.body), (key.1, place.body));
            assert_eq!(
                fetched.stored, known.stored,
                "message {key:?} comes back as it was"
            );
            assert_eq!(place.meta, known.meta);
        }
    }

    /// Power fails, and the node starts again. What was promised must be there, also when power
    /// fails once more while it starts.
    pub(crate) fn crash(&mut self, seed: u64) {
        self.disk.clear_faults();
        self.disk.crash(seed);
        self.crash_while_starting(seed.rotate_left(17));
        self.restart();
    }

    fn crash_while_starting(&mut self, seed: u64) {
        let operations = [
            Operation::Write,
            Operation::Sync,
            Operation::Rename,
            Operation::SyncDirectory,
            Operation::Create,
            Operation::Remove,
        ];
        let number = |shift: u32| usize::try_from((seed >> shift) % 6).expect("below six");
        let fault = Fault {
            operation: operations[number(0)],
            file_prefix: String::new(),
            after: number(8) as u64,
            kind: FaultKind::Io,
            lasting: Lasting::Forever,
        };
        self.fail_start(fault, !seed);
    }

    /// A start in which the disk fails, and then power too.
    pub(crate) fn fail_start(&mut self, fault: Fault, seed: u64) {
        self.disk.inject(fault);
        let attempt = Found::read(&self.disk, &self.config);
        if let Err(error) = attempt {
            assert!(matches!(error, RecoverError::Disk(_)), "{error}");
        }
        self.disk.clear_faults();
        self.disk.crash(seed);
    }

    /// Starts again from what the disk holds, and checks it against what was promised.
    pub(crate) fn restart(&mut self) {
        let persisted = self.log.store.persisted();
        let found = Found::read(&self.disk, &self.config).expect("nothing persisted is damaged");
        let sealed = self
            .controls_sealed
            .iter()
            .filter(|(_, chunk)| *chunk <= persisted);
        let promised = sealed
            .map(|(control, _)| *control)
            .max()
            .unwrap_or(self.controls_kept);
        assert!(
            found.controls >= promised,
            "settlements up to {promised} were persisted"
        );
        assert!(
            found.controls <= self.controls,
            "no settlement that was never made"
        );
        self.check_messages(&found, persisted);
        self.known.retain(|key, _| found.live.contains_key(key));
        for known in self.known.values_mut() {
            (known.settled, known.appended) = (None, Some(ChunkId(0)));
        }
        (self.live, self.log) = (found.live, found.log);
        (self.controls, self.controls_kept) = (found.controls, found.controls);
        self.controls_sealed.clear();
        self.log.store.check_invariants();
        self.check_bodies();
    }

    fn check_messages(&self, found: &Found, persisted: ChunkId) {
        for (key, known) in &self.known {
            let promised = known.appended.is_some_and(|chunk| chunk <= persisted);
            let settled = known
                .settled
                .is_some_and(|control| control <= found.controls);
            let there = found.live.contains_key(key);
            assert!(
                there || settled || !promised,
                "message {key:?} was persisted and is lost"
            );
            assert!(
                !(there && settled),
                "message {key:?} was settled and is back"
            );
        }
        for (key, place) in &found.live {
            let known = self
                .known
                .get(key)
                .expect("no message that was never appended");
            assert_eq!(known.stored.len(), place.size_bytes as usize);
        }
    }
}

/// What a recovery brings to light.
struct Found {
    log: Opened<MemoryDisk>,
    live: BTreeMap<Key, Place>,
    controls: u64,
}

impl Found {
    fn read(disk: &MemoryDisk, config: &Config) -> Result<Self, RecoverError> {
        let mut recovery = recover(disk.clone(), config.clone())?;
        let mut in_state_live = BTreeSet::new();
        let mut live: BTreeMap<Key, Place> = BTreeMap::new();
        let mut controls = 0;
        while let Some(recovered) = recovery.next()? {
            match recovered {
                Recovered::State(state) => {
                    controls = number(&state, 0);
                    for entry in state[8..].chunks(16) {
                        in_state_live.insert((StreamId(number(entry, 0)), number(entry, 8)));
                    }
                }
                Recovered::Message {
                    stream,
                    index,
                    body,
                    size_bytes,
                    meta,
                    in_state,
                } => {
                    if in_state && !in_state_live.contains(&(stream, index)) {
                        recovery.release(body, size_bytes);
                        continue;
                    }
                    let before = live.insert(
                        (stream, index),
                        Place {
                            body,
                            size_bytes,
                            meta,
                        },
                    );
                    assert!(before.is_none(), "a message is in one place only");
                }
                Recovered::Control {
                    stream,
                    payload,
                    in_state: false,
                } => {
                    controls += 1;
                    assert_eq!(
                        number(&payload, 0),
                        controls,
                        "controls come in order, each once"
                    );
                    let key = (StreamId(number(&payload, 8)), number(&payload, 16));
                    assert_eq!(key.0, stream);
                    let place = live.remove(&key).expect("a live message was settled");
                    recovery.release(place.body, place.size_bytes);
                }
                Recovered::Control { in_state: true, .. } => {}
            }
        }
        Ok(Self {
            log: recovery.finish()?,
            live,
            controls,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}
