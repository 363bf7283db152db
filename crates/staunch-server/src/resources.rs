//! Facts about the machine that the node must know.

use std::{path::PathBuf, time::Duration};

use staunch_node::Input;
use tokio::time;

use crate::runtime::NodeHandle;

/// How often free disk space is looked at. At 1 GB/s of writes the default limit of 256 MiB
/// leaves more than a quarter of a second, and the log keeps a reserve of its own.
const DISK_POLL: Duration = Duration::from_millis(250);

/// Tells the node about free disk space until the process ends.
pub(crate) async fn watch(data_dir: PathBuf, node: NodeHandle) {
    let mut ticker = time::interval(DISK_POLL);
    ticker.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        match rustix::fs::statvfs(&data_dir) {
            Ok(status) => node.tell(Input::Resources {
                disk_free_size_bytes: status.f_bavail.saturating_mul(status.f_frsize),
            }),
            Err(error) => {
                tracing::warn!(event = "disk.statvfs", %error, "free disk space is unknown");
            }
        }
    }
}
