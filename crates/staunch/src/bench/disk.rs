//! `staunch bench disk`: what the machine can do, to measure brokers against.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use super::{
    latency::Latencies,
    load::float,
    report::{self, microseconds},
};

/// Size of the file that is written over.
const OVERWRITE_FILE_SIZE_BYTES: u64 = 256 << 20;

#[derive(Args)]
pub(crate) struct DiskArgs {
    /// Directory on the disk to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes written before each fdatasync.
    #[arg(long, default_value_t = 1 << 20)]
    block_size: usize,
    /// Seconds for each measurement.
    #[arg(short = 'z', long, default_value_t = 5.0)]
    duration: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    block_size_bytes: usize,
    append: Synced,
    overwrite: Synced,
    tcp_mb_per_second: f64,
}

/// Writes of one block, each followed by fdatasync.
#[derive(Serialize)]
struct Synced {
    mb_per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(super) fn run(args: &DiskArgs) -> anyhow::Result<()> {
    let duration = Duration::try_from_secs_f64(args.duration)?;
    let report = Report {
        block_size_bytes: args.block_size,
        append: synced(args, duration, 0)?,
        overwrite: synced(args, duration, OVERWRITE_FILE_SIZE_BYTES)?,
        tcp_mb_per_second: tcp_sink(duration)?,
    };
    let line = |name: &str, synced: &Synced| {
        let (p50, p99) = (microseconds(synced.p50_us), microseconds(synced.p99_us));
        format!(
            "{name:<10} {:.0} MB/s, write and fdatasync p50 {p50}, p99 {p99}\n",
            synced.mb_per_second
        )
    };
    let text = format!(
        "blocks of {} bytes\n{}{}{:<10} {:.0} MB/s over loopback\n",
        args.block_size,
        line("append", &report.append),
        line("overwrite", &report.overwrite),
        "tcp sink",
        report.tcp_mb_per_second,
    );
    report::print(args.json, &report, &text)
}

/// Writes block after block. With a file size, the file has been written before and is written
/// over from its start again and again: then fdatasync has no metadata to store, which is what
/// a log of recycled files gets. Without one the file grows with every block.
fn synced(args: &DiskArgs, duration: Duration, file_size_bytes: u64) -> anyhow::Result<Synced> {
    let mut file = tempfile::tempfile_in(&args.dir)?;
    let block = super::body::unstamped(args.block_size.max(1));
    let block_count = file_size_bytes / block.len() as u64;
    for _ in 0..block_count {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut latencies = Latencies::new();
    let mut written = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        if block_count > 0 && written % block_count == 0 {
            file.seek(SeekFrom::Start(0))?;
        }
        let before = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.record(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
        written += 1;
    }
    let bytes = float(written * block.len() as u64);
    let figures = latencies.figures();
    Ok(Synced {
        mb_per_second: bytes / start.elapsed().as_secs_f64() / 1e6,
        p50_us: figures.p50_us,
        p99_us: figures.p99_us,
    })
}

fn tcp_sink(duration: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sink = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 256 << 10];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received),
                size => received += size as u64,
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    let block = vec![7; 256 << 10];
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(&block)?;
    }
    drop(stream);
    let received = sink
        .join()
        .map_err(|_| anyhow::anyhow!("the sink panicked"))??;
    Ok(float(received) / start.elapsed().as_secs_f64() / 1e6)
}
