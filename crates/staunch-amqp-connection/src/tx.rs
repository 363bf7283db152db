//! A channel in transaction mode (AMQP 0-9-1, class tx; reference 1.2).
//!
//! The node holds back what the channel publishes; this side holds back what it settles. A
//! settlement takes its delivery out of those outstanding at once, so that a second one for the
//! same tag is an error at once, and a rollback puts it back.

use staunch_types::{ChannelNumber, Outcome, request::Settle};

use crate::{
    channel::{single, widen},
    error::PeerError,
    unacked::{Unacked, UnackedDeliveries},
};

/// Deliveries one transaction may settle: a bound on memory that no client reaches in good faith.
pub const TX_SETTLES_MAX: usize = 1 << 18;

/// Settlements since the last commit or rollback.
#[derive(Debug, Default)]
pub(crate) struct Tx {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    tag: u64,
    delivery: Unacked,
    outcome: Outcome,
}

impl Tx {
    pub(crate) fn hold(&mut self, tag: u64, delivery: Unacked, outcome: Outcome) {
        self.held.push(Held {
            tag,
            delivery,
            outcome,
        });
    }

    /// # Errors
    /// [`PeerError::TxTooLarge`].
    pub(crate) fn check_size(&self) -> Result<(), PeerError> {
        if self.held.len() > TX_SETTLES_MAX {
            return Err(PeerError::TxTooLarge {
                max: TX_SETTLES_MAX,
            });
        }
        Ok(())
    }

    /// What is to be settled, in the order it was, runs together.
    pub(crate) fn commit(&mut self, channel: ChannelNumber) -> Vec<Settle> {
        let mut settles: Vec<Settle> = Vec::new();
        for held in std::mem::take(&mut self.held) {
            let settle = single(channel, held.delivery, held.outcome);
            if !settles.last_mut().is_some_and(|last| widen(last, &settle)) {
                settles.push(settle);
            }
        }
        settles
    }

    /// Makes outstanding again what was settled.
    pub(crate) fn roll_back(&mut self, unacked: &mut UnackedDeliveries) {
        for held in std::mem::take(&mut self.held) {
            unacked.put_back(held.tag, held.delivery);
        }
    }
}
