//! Facts about the process and the machine for operators.

use std::{fs, time::Instant};

use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
};
use staunch_http::Machine;

/// What can be found out now; 0 stands for what cannot.
pub(crate) fn look(started: Instant, memory_limit_size_bytes: u64, data_dir: &str) -> Machine {
    Machine {
        pid: std::process::id(),
        uptime_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        processor_count: std::thread::available_parallelism().map_or(1, usize::from),
        memory_used_size_bytes: resident_size_bytes(),
        memory_limit_size_bytes,
        fd_used: fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
        fd_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        data_dir: data_dir.to_owned(),
    }
}

fn resident_size_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * page_size() as u64
}
