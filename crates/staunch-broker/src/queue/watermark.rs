//! The delivery watermark: `redelivered` stays honest across crashes (contract C8).
//!
//! A delivery writes nothing to the log. Instead the queue reserves ahead: a persisted watermark
//! says that every message below it may have been handed out, and none at or above it was. After
//! a crash all live messages below the watermark count as redelivered. One small record covers
//! a window of deliveries; the window doubles while the queue outruns it. A larger window costs
//! nothing but more messages flagged without need after a crash.

use super::Durability;

/// Smallest window, in messages.
pub(super) const WINDOW_MIN: u64 = 1_024;

/// Largest window, in messages.
pub(super) const WINDOW_MAX: u64 = 65_536;

const _: () = assert!(WINDOW_MIN <= WINDOW_MAX);

#[derive(Debug)]
pub(super) struct Watermark {
    durability: Durability,
    /// A get could not be served for want of a reservation.
    get_waits: bool,
    /// In messages.
    window: u32,
    /// Indexes below may be handed out: persisted.
    reserved: u64,
    /// As `reserved`, or higher while a reservation is being persisted.
    requested: u64,
    /// Indexes below may have been handed out before this process started.
    restored: u64,
}

impl Watermark {
    pub(super) fn new(durability: Durability, restored: u64) -> Self {
        let window = u32::try_from(WINDOW_MIN).expect("a small constant");
        let get_waits = false;
        Self {
            durability,
            get_waits,
            window,
            reserved: restored,
            requested: restored,
            restored,
        }
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// What a snapshot must say: a reservation on its way to disk is in the log before the
    /// snapshot is, and the replay may begin after it. A replicated queue's snapshot is at the
    /// index of a commit, and says what was committed.
    pub(super) fn for_snapshot(&self) -> u64 {
        match self.durability {
            Durability::Replicated => self.reserved,
            Durability::Transient | Durability::Durable => self.requested,
        }
    }

    pub(super) fn permits(&self, index: u64) -> bool {
        self.durability == Durability::Transient || index < self.reserved
    }

    pub(super) fn get_waits(&mut self) {
        self.get_waits = true;
    }

    /// A watermark to persist, once; `fresh` is the lowest index never handed out.
    pub(super) fn request(&mut self, fresh: u64, has_consumers: bool) -> Option<u64> {
        let wanted = has_consumers || self.get_waits;
        let pending = self.requested > self.reserved;
        if self.durability == Durability::Transient || !wanted || pending {
            return None;
        }
        let left = self.reserved.saturating_sub(fresh);
        if left >= u64::from(self.window / 2) {
            return None;
        }
        // Fewer than a quarter left although half was to be kept: deliveries outran the log.
        if self.reserved > self.restored && left < u64::from(self.window / 4) {
            let doubled = u64::from(self.window).saturating_mul(2).min(WINDOW_MAX);
            self.window = u32::try_from(doubled).expect("bounded by WINDOW_MAX");
        }
        self.requested = fresh + u64::from(self.window);
        Some(self.requested)
    }

    pub(super) fn reserve(&mut self, upto: u64) {
        self.reserved = self.reserved.max(upto);
        self.requested = self.reserved;
        self.get_waits = false;
    }

    /// Found in the log after a restart: so much may have been handed out by the process before.
    pub(super) fn restore(&mut self, upto: u64) {
        self.reserve(upto);
        self.restored = self.reserved;
    }

    /// What was requested may never be committed; if it is after all, [`Watermark::restore`]
    /// hears of it.
    pub(super) fn forget_requested(&mut self) {
        self.requested = self.reserved;
        self.restored = self.reserved;
        self.get_waits = false;
    }

    /// Lowers the watermark to what was handed out in truth.
    pub(super) fn release(&mut self, fresh: u64) -> u64 {
        self.reserved = self.restored.max(fresh.min(self.reserved));
        self.requested = self.reserved;
        self.reserved
    }
}
