//! The ways a node stops because going on would risk what it has promised.

use std::process;

use staunch_types::Name;

/// A write, sync or rename on the log failed (sysexits `EX_IOERR`, contract C19).
pub const EXIT_DISK_FAILED: u8 = 74;
/// The data directory was written by a newer version (sysexits `EX_DATAERR`, contract C26).
pub const EXIT_DATA_REFUSED: u8 = 65;
/// Configuration errors (sysexits `EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// Stops the process at once: nothing that depends on the failed operation may leave it.
pub(crate) fn disk(error: &dyn std::error::Error) -> ! {
    tracing::error!(event = "disk.failed", %error, "disk failed: the node stops");
    process::exit(i32::from(EXIT_DISK_FAILED))
}

/// A queue that only this node had is lost with what was damaged.
pub(crate) fn lost(vhost: &Name, queue: &Name) -> ! {
    tracing::error!(
        event = "node.refused",
        %vhost,
        %queue,
        "the log was damaged, and this queue was kept by this node alone: start with --accept-loss \
         to go on without its messages"
    );
    process::exit(i32::from(EXIT_DATA_REFUSED))
}

/// Stored bytes turned out damaged while running.
pub(crate) fn damaged(damage: &dyn std::error::Error) -> ! {
    tracing::error!(event = "disk.damaged", %damage, "stored data is damaged: the node stops");
    process::exit(i32::from(EXIT_DISK_FAILED))
}
