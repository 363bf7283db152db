//! T = C / R: how long a queue can hold out.
//!
//! Pure: times and counters are given by the caller, nothing here has a clock. Feed a
//! [`Meter`] and a [`History`] for each queue (virtual host, node), then ask [`Horizon::of`].
//! `docs/horizon.md` explains the model to users.

pub mod capacity;
pub mod control;
pub mod estimate;
pub mod flow;
pub mod history;
pub mod horizon;
pub mod meter;
pub mod model;
pub mod what_if;

mod backtest;
mod change;
mod compact;
mod forecast;
mod number;
mod series;
mod spread;
mod view;

pub use capacity::{Cost, Disk, Limit, Outcome, Resource};
pub use control::{Allowance, Controller, Pressure};
pub use estimate::{Estimate, TimeLeft};
pub use flow::{Counters, Flow, Rates};
pub use history::{History, HistoryError, Peak};
pub use horizon::{Bound, Horizon, Scope};
pub use meter::{Meter, Scale};
pub use model::Model;
pub use what_if::{Outlook, WhatIf, WhatIfError};
