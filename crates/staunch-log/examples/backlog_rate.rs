//! What a deep backlog costs: `cargo run --release -p staunch-log --example backlog_rate`, with a
//! directory and a number of messages of 1 KiB as optional arguments. It publishes to one queue
//! without a consumer, moving survivors to segments as a node would, restarts, and reads it all.
#![expect(clippy::print_stdout, reason = "it is a command-line tool")]

use std::path::Path;
use std::time::{Duration, Instant};

use staunch_log::{
    BackgroundJob, Config, Live, Opened, RealDisk, RecordMeta, Recovered, StreamId, recover,
};
use staunch_types::{BodyRef, Message};

type Failure = Box<dyn std::error::Error>;

const STREAM: StreamId = StreamId(1);
const BATCH: u64 = 512;

struct Queue {
    log: Opened<RealDisk>,
    /// By index.
    bodies: Vec<(BodyRef, u32)>,
    tenure: Duration,
    checkpoint: Duration,
    upkeep: Duration,
}

fn main() -> Result<(), Failure> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_owned());
    let count = std::env::args()
        .nth(2)
        .map_or(Ok(1_000_000), |count| count.parse())?;
    let directory = Path::new(&parent).join(format!("backlog-rate-{}", std::process::id()));
    let result = measure(&directory, count);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn measure(directory: &Path, count: u64) -> Result<(), Failure> {
    let mut queue = open(directory)?;
    let message = Message::copied(b"", b"queue", b"\x10\x00\x02", &[7; 1024]);
    let size_bytes = u32::try_from(message.stored_size_bytes())?;
    let start = Instant::now();
    for index in 0..count {
        let body = queue
            .log
            .store
            .append_message(STREAM, index, RecordMeta::default(), &message);
        queue.bodies.push((body, size_bytes));
        if index % BATCH == BATCH - 1 {
            queue.work()?;
        }
    }
    queue.work()?;
    report("publish", count, start.elapsed());
    println!(
        "  of it tenures {:.2?}, checkpoints {:.2?}, other upkeep {:.2?}; {:?}",
        queue.tenure,
        queue.checkpoint,
        queue.upkeep,
        queue.log.store.facts()
    );
    drop(queue);
    let start = Instant::now();
    let mut queue = open(directory)?;
    report("restart", count, start.elapsed());
    assert_eq!(queue.bodies.len() as u64, count, "everything comes back");
    let start = Instant::now();
    queue.read_all()?;
    report("read", count, start.elapsed());
    Ok(())
}

fn open(directory: &Path) -> Result<Queue, Failure> {
    let mut recovery = recover(RealDisk::open(directory)?, Config::default())?;
    let mut bodies = Vec::new();
    while let Some(recovered) = recovery.next()? {
        if let Recovered::Message {
            index,
            body,
            size_bytes,
            ..
        } = recovered
        {
            assert_eq!(index, bodies.len() as u64, "in order");
            bodies.push((body, size_bytes));
        }
    }
    let (tenure, checkpoint, upkeep) = Default::default();
    Ok(Queue {
        log: recovery.finish()?,
        bodies,
        tenure,
        checkpoint,
        upkeep,
    })
}

impl Queue {
    /// What a node does after each drain, on one thread.
    fn work(&mut self) -> Result<(), Failure> {
        self.log.store.seal();
        while let Some(job) = self.log.store.poll_write() {
            let done = self.log.writer.run(job)?;
            self.log.store.handle_written(&done);
        }
        let start = Instant::now();
        if let Some(retiring) = self.log.store.retire_due() {
            let all = self.bodies.iter().enumerate();
            let live = all.filter(|(_, (body, _))| retiring.contains(*body));
            let live = live.map(|(index, &(body, size_bytes))| {
                let meta = RecordMeta::default();
                Live {
                    index: index as u64,
                    body,
                    size_bytes,
                    meta,
                }
            });
            let live = vec![(STREAM, live.collect())];
            let job = self.log.store.tenure(retiring, live);
            self.run(job)?;
        }
        self.tenure += start.elapsed();
        let start = Instant::now();
        if self.log.store.needs_checkpoint() {
            let job = self.log.store.checkpoint(Vec::new());
            self.run(job)?;
        }
        self.checkpoint += start.elapsed();
        let start = Instant::now();
        while let Some(job) = self.log.store.poll_background() {
            self.run(job)?;
        }
        self.upkeep += start.elapsed();
        Ok(())
    }

    fn run(&mut self, job: BackgroundJob) -> Result<(), Failure> {
        let done = self.log.background.run(job)?;
        for moved in self.log.store.handle_background(done) {
            self.bodies[usize::try_from(moved.index)?].0 = moved.to;
        }
        Ok(())
    }

    fn read_all(&mut self) -> Result<(), Failure> {
        let mut index = 0;
        for batch in self.bodies.chunks(512) {
            let wanted: Vec<_> = batch
                .iter()
                .map(|&(body, size_bytes)| {
                    index += 1;
                    (index - 1, body, size_bytes)
                })
                .collect();
            let job = self.log.store.fetch(&wanted);
            let done = self.log.reader.run(job)?;
            assert_eq!(done.records.len(), wanted.len());
            self.log.store.handle_fetched(&done);
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn report(what: &str, count: u64, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let rate = count as f64 / seconds;
    println!("{what}: {count} messages of 1 KiB in {seconds:.2} s, {rate:.0}/s");
}
