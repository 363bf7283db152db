//! When messages expire, without a timer for each.
//!
//! An ordered index has at most one entry per chunk of 64 messages: the chunk's number under a
//! time that is not after the first expiry of its ready messages. The time is exact when it is
//! entered; when that message is handed out the entry stays, and is put right when it comes to
//! the front. So what goes at the same pace as it comes costs one look per chunk and not one per
//! message. Unlike RabbitMQ's, a message that expires behind one that does not expires in time.
//!
//! A message that somebody holds does not expire; given back too late, it does at once.

use staunch_types::UnixMillis;

use super::chunk::bits;
use super::departed::{Death, Departed};
use super::entries::Entries;
use super::{MessageIndex, Queue};

impl Queue {
    /// When the first of the ready messages expires. (Puts the index right on the way.)
    pub fn next_expiry(&mut self) -> Option<UnixMillis> {
        self.entries.next_expiry()
    }

    /// At most `limit` ready messages whose time is up die, in the order of their places.
    /// Returns how many did.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn expire(&mut self, now: UnixMillis, limit: usize, departed: &mut Departed) -> usize {
        let (dying_from, released_from) = (departed.dying.len(), departed.released.len());
        let mut count = 0;
        while count < limit
            && let Some((at, expired)) = self.entries.expired(now)
        {
            let chunk = &self.entries.chunks[at];
            let number = chunk.number;
            let indexes: Vec<MessageIndex> = bits(expired)
                .take(limit - count)
                .map(|bit| chunk.index_of(bit))
                .collect();
            count += indexes.len();
            self.expire_all(number, &indexes, departed);
        }
        if count > 0 {
            self.skip_departed();
            // Chunks came by time; whoever moves the dead on does so in the order of the queue.
            departed.dying[dying_from..].sort_unstable_by_key(|dying| dying.index);
            departed.released[released_from..].sort_unstable_by_key(|message| message.0);
        }
        count
    }

    /// As [`Queue::expire`], but they die in the order of their times, and those of one time in
    /// the order of their places.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn expire_in_turn(
        &mut self,
        now: UnixMillis,
        limit: usize,
        departed: &mut Departed,
    ) -> usize {
        let mut count = 0;
        while count < limit
            && let Some((at, mut expired)) = self.entries.expired_first(now)
        {
            expired.sort_unstable();
            expired.truncate(limit - count);
            count += expired.len();
            let chunk = &self.entries.chunks[at];
            let (number, bits) = (chunk.number, expired.iter().map(|(_, bit)| *bit));
            let indexes: Vec<MessageIndex> = bits.map(|bit| chunk.index_of(bit)).collect();
            self.expire_all(number, &indexes, departed);
        }
        if count > 0 {
            self.skip_departed();
        }
        count
    }

    /// Ready messages of the chunk with that number die.
    fn expire_all(&mut self, number: u64, indexes: &[MessageIndex], departed: &mut Departed) {
        for index in indexes {
            let position = self.entries.position(index.0);
            let position = position.expect("an expired message is live");
            self.withdraw(position);
            self.die(position, Death::Expired, departed);
        }
        self.entries.correct_expiry(number);
    }
}

impl Entries {
    /// A ready message of the chunk in place `at` expires then.
    pub(super) fn index_expiry(&mut self, at: usize, expires_at: UnixMillis) {
        let chunk = &mut self.chunks[at];
        let indexed_at = chunk.indexed_at();
        if indexed_at.is_some_and(|indexed_at| indexed_at <= expires_at) {
            return;
        }
        if let Some(indexed_at) = indexed_at {
            self.expiries.remove(&(indexed_at, chunk.number));
        }
        chunk.set_indexed_at(Some(expires_at));
        self.expiries.insert((expires_at, chunk.number));
    }

    /// When a live message expires.
    pub(super) fn expiry(&self, index: u64) -> Option<UnixMillis> {
        let position = self.position(index)?;
        self.chunk(position).expiry(position.bit())
    }

    /// Takes the chunk in place `at` out of the index.
    pub(super) fn drop_expiry(&mut self, at: usize) {
        let chunk = &mut self.chunks[at];
        if let Some(indexed_at) = chunk.indexed_at() {
            self.expiries.remove(&(indexed_at, chunk.number));
            chunk.set_indexed_at(None);
        }
    }

    /// Makes the entry of a chunk exact. Nothing to do if the chunk is gone.
    fn correct_expiry(&mut self, number: u64) {
        let Some(at) = self.find(number) else { return };
        let earliest = self.chunks[at].earliest_expiry();
        if self.chunks[at].indexed_at() != earliest {
            self.drop_expiry(at);
            if let Some(expires_at) = earliest {
                self.index_expiry(at, expires_at);
            }
        }
    }

    fn next_expiry(&mut self) -> Option<UnixMillis> {
        loop {
            let &(indexed_at, number) = self.expiries.first()?;
            self.correct_expiry(number);
            if self.expiries.first() == Some(&(indexed_at, number)) {
                return Some(indexed_at);
            }
        }
    }

    /// The place of a chunk with ready messages whose time is up, and which they are.
    fn expired(&mut self, now: UnixMillis) -> Option<(usize, u64)> {
        loop {
            let &(indexed_at, number) = self.expiries.first()?;
            if indexed_at > now {
                return None;
            }
            let at = self.find(number).expect("an indexed chunk is there");
            let expired = self.chunks[at].expired(now);
            if expired != 0 {
                return Some((at, expired));
            }
            self.correct_expiry(number);
        }
    }

    /// The place of the chunk whose message expires first, and those of its ready messages whose
    /// time is up and comes before any in the other chunks, each with its bit.
    fn expired_first(&mut self, now: UnixMillis) -> Option<(usize, Vec<(UnixMillis, u32)>)> {
        self.next_expiry().filter(|at| *at <= now)?;
        let mut indexed = self.expiries.iter();
        let &(_, number) = indexed.next()?;
        let next = indexed.next();
        let at = self.find(number).expect("an indexed chunk is there");
        let chunk = &self.chunks[at];
        let expired = bits(chunk.expired(now)).filter_map(|bit| Some((chunk.expiry(bit)?, bit)));
        let is_next = |(expires_at, _): &(UnixMillis, u32)| {
            next.is_none_or(|other| (*expires_at, number) < *other)
        };
        Some((at, expired.filter(is_next).collect()))
    }

    pub(super) fn check_expiries(&self, recovery: bool) {
        let indexed = self
            .chunks
            .iter()
            .filter_map(|chunk| Some((chunk.indexed_at()?, chunk.number)));
        let mut count = 0;
        for entry in indexed {
            assert!(self.expiries.contains(&entry), "chunk and index agree");
            count += 1;
        }
        assert_eq!(self.expiries.len(), count, "the index holds no ghosts");
        for chunk in self.chunks.iter().filter(|_| !recovery) {
            let Some(earliest) = chunk.earliest_expiry() else {
                continue;
            };
            let indexed_at = chunk.indexed_at();
            assert!(
                indexed_at.is_some_and(|indexed_at| indexed_at <= earliest),
                "nothing expires before the index looks"
            );
        }
    }
}
