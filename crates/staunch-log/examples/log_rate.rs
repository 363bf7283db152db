//! How fast the log is on this disk: `cargo run --release -p staunch-log --example log_rate`,
//! with a directory to work in as an optional argument. For each record size and batch size it
//! prints what append and sync reach together, what append costs alone, and how fast a recovery
//! reads it all back.
#![expect(clippy::print_stdout, reason = "it is a command-line tool")]

use std::path::Path;
use std::time::{Duration, Instant};

use staunch_log::{Config, Opened, RealDisk, RecordMeta, Recovered, StreamId, recover};
use staunch_types::Message;

const TOTAL_BYTES: usize = 512 * 1024 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_owned());
    println!(
        "record     batch      MB/s   records/s  append ns  sync ms  recovery MB/s  ns/record"
    );
    for (body, count) in [(1024, TOTAL_BYTES / 1100), (16, TOTAL_BYTES / 8 / 72)] {
        for batch in [256 * 1024, 1024 * 1024] {
            let directory = Path::new(&parent).join(format!("log-rate-{}", std::process::id()));
            let result = measure(&directory, body, count, batch);
            std::fs::remove_dir_all(&directory)?;
            result?;
        }
    }
    Ok(())
}

fn config() -> Config {
    // Nothing retires, so that only the road of a confirm and its recovery are measured.
    Config {
        young_files_max: 100,
        prepared_files: 3,
        ballast_size_bytes: 0,
        ..Config::default()
    }
}

fn open(directory: &Path) -> Result<(Opened<RealDisk>, u64, Duration), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut recovery = recover(RealDisk::open(directory)?, config())?;
    let mut count = 0;
    while let Some(recovered) = recovery.next()? {
        count += u64::from(matches!(recovered, Recovered::Message { .. }));
    }
    let bytes = recovery.replayed_size_bytes();
    let elapsed = start.elapsed();
    let opened = recovery.finish()?;
    let rate = |n: u64| per_second(n, elapsed) / 1e6;
    if count > 0 {
        let each = elapsed.as_secs_f64() * 1e9 / as_float(count);
        println!("{:13.0}  {each:9.0}", rate(bytes));
    }
    Ok((opened, count, elapsed))
}

fn measure(
    directory: &Path,
    body: usize,
    count: usize,
    batch: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut log, _, _) = open(directory)?;
    make_files(&mut log)?;
    let message = Message::copied(b"", b"queue", b"\x10\x00\x02", &vec![7; body]);
    let (mut append, mut sync, mut made) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut batches, mut index) = (0_u32, 0);
    while index < count as u64 {
        let start = Instant::now();
        let before = index;
        while log.store.open_size_bytes() < batch - 2048 && index - before < 65536 {
            let stream = StreamId(1 + index % 16);
            log.store
                .append_message(stream, index, RecordMeta::default(), &message);
            index += 1;
        }
        log.store.seal();
        append += start.elapsed();
        let start = Instant::now();
        while let Some(job) = log.store.poll_write() {
            let done = log.writer.run(job)?;
            log.store.handle_written(&done);
        }
        sync += start.elapsed();
        batches += 1;
        let start = Instant::now();
        make_files(&mut log)?;
        made += start.elapsed();
    }
    let bytes = index * (message.stored_size_bytes() as u64 + 40);
    print!(
        "{body:6}  {batch:8}  {:8.0}  {:10.0}  {:9.0}  {:7.2}  ",
        per_second(bytes, append + sync) / 1e6,
        per_second(index, append + sync),
        append.as_secs_f64() * 1e9 / as_float(index),
        sync.as_secs_f64() * 1e3 / f64::from(batches),
    );
    drop(log);
    let (_, found, _) = open(directory)?;
    assert_eq!(found, index, "everything comes back");
    println!(
        "        (files made meanwhile in {:.2} s)",
        made.as_secs_f64()
    );
    Ok(())
}

fn make_files(log: &mut Opened<RealDisk>) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(job) = log.store.poll_background() {
        let done = log.background.run(job)?;
        log.store.handle_background(done);
    }
    Ok(())
}

fn per_second(n: u64, elapsed: Duration) -> f64 {
    as_float(n) / elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn as_float(n: u64) -> f64 {
    n as f64
}
