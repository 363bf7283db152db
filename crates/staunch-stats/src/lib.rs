//! Rates and histories of what a node counts.
//!
//! Pure: samples and their times come from the caller. A *round* is what one call of all samples
//! brings, every five seconds; rates are over the last round, as RabbitMQ's are. What did not move
//! in a round is not in its samples and has a rate of 0. `docs/statistics.md` tells where the
//! numbers come from.

mod flow;
mod histories;
mod horizons;
mod kinds;
mod series;
mod statistics;
mod traffic;

pub use flow::{FLOW_HISTORIES_MAX, KeptHistories, KeptHistory};
pub use histories::{HISTORIES_SIZE_BYTES_MAX, HistoriesError};
pub use horizons::{
    INDEX_SIZE_BYTES, LOG_OVERHEAD, LOG_RECORD_SIZE_BYTES, QueueFacts, QueueView, Report, Snapshot,
    TRANSIENT_SIZE_BYTES,
};
pub use kinds::{CHURN_NAMES, DEPTH_NAMES, EXCHANGE_NAMES, MESSAGE_NAMES, TRAFFIC_NAMES};
pub use series::{POINTS_MAX, Point, Points, Round, Series, Window};
pub use statistics::{
    ConnectionStats, HISTORIES_MAX, KindTotals, QueueStats, Statistics, Totals, VhostStats,
};
pub use traffic::Traffic;
