//! A connection's two byte streams between a client and the node.
//!
//! A stream keeps its order and loses nothing until it is cut; it may take its time and arrive
//! in any pieces. A cut drops what is under way, so that a frame may have come in half.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{knobs::Knobs, random::Random};

/// Bytes on their way to a client above which the node's socket takes no more.
pub const WINDOW_SIZE_BYTES: usize = 64 * 1024;

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    chunks: VecDeque<Bytes>,
    in_flight_bytes: usize,
    last_arrival: u64,
}

/// Both directions.
#[derive(Debug, Default)]
pub struct Link {
    /// From client to node.
    pub to_server: Pipe,
    /// From node to client.
    pub to_client: Pipe,
    /// The client vanished without a word: nothing arrives any more, and nothing says so.
    pub half_open: bool,
    /// The client does not read before this time.
    pub paused_until: u64,
    /// The node's side has closed: the client hears of it after the last byte.
    pub closed_by_server: bool,
}

impl Pipe {
    /// Bytes on their way.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Sends `bytes`; when each piece arrives.
    pub fn send(
        &mut self,
        bytes: &[u8],
        (now, not_before): (u64, u64),
        knobs: &Knobs,
        random: &mut Random,
    ) -> Vec<u64> {
        let mut arrivals = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = if knobs.net_chunking && random.chance(300) {
                1 + random.index(rest.len())
            } else {
                rest.len()
            };
            let (piece, after) = rest.split_at(size);
            let arrival = (now + random.latency(knobs.net_delay_nanos)).max(not_before);
            self.last_arrival = self.last_arrival.max(arrival);
            self.in_flight_bytes += piece.len();
            self.chunks.push_back(Bytes::copy_from_slice(piece));
            arrivals.push(self.last_arrival);
            rest = after;
        }
        arrivals
    }

    /// The next piece arrives.
    pub fn arrive(&mut self) -> Option<Bytes> {
        let piece = self.chunks.pop_front()?;
        self.in_flight_bytes -= piece.len();
        Some(piece)
    }

    /// When what is under way will have arrived.
    pub fn last_arrival(&self) -> u64 {
        self.last_arrival
    }
}
