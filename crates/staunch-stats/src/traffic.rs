//! What went over a connection's socket.

/// Bytes, and the reads and writes that carried them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read.
    pub received_bytes: u64,
    /// Reads.
    pub received_count: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// Writes.
    pub sent_count: u64,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
}
