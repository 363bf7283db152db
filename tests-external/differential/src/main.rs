//! Runs random programs of AMQP operations on two brokers side by side and compares everything
//! that can be seen.
//!
//!     staunch-differential --reference PORT --staunch PORT --known FILE
//!                          [--programs N] [--seed S] [--workers W] [--seconds T] [--show N]
//!
//! Prints, for each kind of difference that is not known, the smallest program found that shows
//! it. Exit code 1 if there is any.

mod encode;
mod known;
mod lockstep;
mod program;
mod random;
mod side;
mod versions;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use known::Known;
use lockstep::{Difference, Outcome, PATIENCE, PATIENCE_AGAIN};
use program::Step;
use side::Side;

/// Most runs spent to make one program smaller.
const SHRINK_RUNS_MAX: usize = 120;

/// Most programs with the same kind of difference that are looked at more closely.
const ALIKE_MAX: u64 = 1;

struct Options {
    reference: u16,
    staunch: u16,
    known: PathBuf,
    programs: u64,
    seed: u64,
    workers: u64,
    seconds: u64,
    show: bool,
}

#[derive(Default)]
struct Tally {
    same: u64,
    unstable: u64,
    known: BTreeMap<String, u64>,
    found: BTreeMap<String, Found>,
    broken: Option<String>,
}

struct Found {
    count: u64,
    seed: u64,
    program: Vec<Step>,
    difference: Difference,
}

fn main() {
    let options = options();
    let known = Known::read(&options.known);
    if options.show {
        for (number, step) in program::make(options.seed).iter().enumerate() {
            println!("{number:>3}  c{} {:?}", step.channel, step.what);
        }
    }
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..options.workers {
            let (options, known, next, tally) = (&options, &known, &next, &tally);
            scope.spawn(move || work(worker, options, known, next, tally, start));
        }
    });
    let tally = tally.into_inner().expect("no worker panicked");
    report(&tally, start.elapsed());
    let failed = !tally.found.is_empty() || tally.broken.is_some();
    std::process::exit(i32::from(failed));
}

fn work(
    worker: u64,
    options: &Options,
    known: &Known,
    next: &AtomicU64,
    tally: &Mutex<Tally>,
    start: Instant,
) {
    let prefix = format!("w{worker:02}.{:x}.", options.seed & 0xffff);
    let side = |port| Side::new(port, &prefix);
    let mut sides = [side(options.reference), side(options.staunch)];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_late = start.elapsed() > Duration::from_secs(options.seconds);
        if number >= options.programs || is_late {
            return;
        }
        let seed = options.seed.wrapping_add(number);
        let program = program::make(seed);
        match lockstep::run(&program, &mut sides, PATIENCE) {
            Outcome::Same => tally.lock().expect("no worker panicked").same += 1,
            Outcome::Broken(error) => {
                tally.lock().expect("no worker panicked").broken = Some(error);
                return;
            }
            Outcome::Different(difference) => {
                examine((seed, program), difference, &mut sides, known, tally);
            }
        }
        if number % 500 == 499 {
            eprintln!("{} programs in {:.0?}", number + 1, start.elapsed());
        }
    }
}

/// Looks at a difference more closely: is it known, is it always there, how small can it be made.
fn examine(
    (seed, program): (u64, Vec<Step>),
    difference: Difference,
    sides: &mut [Side; 2],
    known: &Known,
    tally: &Mutex<Tally>,
) {
    if note(tally, known, &difference) {
        return;
    }
    let Outcome::Different(again) = lockstep::run(&program, sides, PATIENCE) else {
        tally.lock().expect("no worker panicked").unstable += 1;
        return;
    };
    if again.signature() != difference.signature() && note(tally, known, &again) {
        return;
    }
    let (program, difference) = shrink(program, again, sides);
    if note(tally, known, &difference) {
        return;
    }
    let found = Found {
        count: 1,
        seed,
        program,
        difference,
    };
    print_found(&found);
    let signature = found.difference.signature();
    let mut tally = tally.lock().expect("no worker panicked");
    tally.found.insert(signature, found);
}

/// Counts a difference that needs no closer look; false if it does.
fn note(tally: &Mutex<Tally>, known: &Known, difference: &Difference) -> bool {
    let signature = difference.signature();
    let mut tally = tally.lock().expect("no worker panicked");
    if let Some(pattern) = known.find(&signature) {
        *tally.known.entry(pattern.to_owned()).or_default() += 1;
        return true;
    }
    match tally.found.get_mut(&signature) {
        Some(found) if found.count >= ALIKE_MAX => {
            found.count += 1;
            true
        }
        Some(_) | None => false,
    }
}

/// The smallest program found by dropping operations that still shows a difference of the kind.
fn shrink(
    mut program: Vec<Step>,
    mut difference: Difference,
    sides: &mut [Side; 2],
) -> (Vec<Step>, Difference) {
    let mut runs = 0;
    let mut size = program.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < program.len() && runs < SHRINK_RUNS_MAX {
            let mut smaller = program.clone();
            smaller.drain(at..(at + size).min(program.len()));
            runs += 1;
            match lockstep::run(&smaller, sides, PATIENCE_AGAIN) {
                Outcome::Different(other) if is_alike(&other, &difference) => {
                    (program, difference) = (smaller, other);
                }
                Outcome::Same | Outcome::Different(_) | Outcome::Broken(_) => at += size,
            }
        }
        size /= 2;
    }
    (program, difference)
}

/// Seen at the same kind of place, with the same kind of answers.
fn is_alike(a: &Difference, b: &Difference) -> bool {
    let kind = |difference: &Difference| {
        let word = |text: &str| text.split([' ', '\'', ':']).next().map(str::to_owned);
        let place = difference.place.split_once(' ').map(|(_, kind)| word(kind));
        let is_nothing = (
            difference.reference == "nothing",
            difference.staunch == "nothing",
        );
        (place, is_nothing, difference.place == "counts")
    };
    kind(a) == kind(b)
}

fn print_found(found: &Found) {
    let mut text = format!("\nDIFFERENCE, seed {}\n", found.seed);
    for (number, step) in found.program.iter().enumerate() {
        text += &format!("{number:>3}  c{} {:?}\n", step.channel, step.what);
    }
    let difference = &found.difference;
    text += &format!("  at {}\n", difference.place);
    text += &format!("  RabbitMQ: {}\n", difference.reference);
    text += &format!("  Staunch:  {}\n", difference.staunch);
    text += &format!("  signature: {}\n", difference.signature());
    println!("{text}");
}

fn report(tally: &Tally, elapsed: Duration) {
    println!("\nknown differences:");
    for (pattern, count) in &tally.known {
        println!("{count:>7}  {pattern}");
    }
    println!("new differences:");
    for (signature, found) in &tally.found {
        println!("{:>7}  seed {}: {signature}", found.count, found.seed);
    }
    if let Some(error) = &tally.broken {
        println!("broken: {error}");
    }
    let known: u64 = tally.known.values().sum();
    let new: u64 = tally.found.values().map(|found| found.count).sum();
    println!(
        "{} same, {known} known, {} unstable, {new} new, in {:.0?}",
        tally.same, tally.unstable, elapsed
    );
}

fn options() -> Options {
    let mut options = Options {
        reference: 0,
        staunch: 0,
        known: PathBuf::from("known.txt"),
        programs: 1_000,
        seed: 1,
        workers: 4,
        seconds: 24 * 60 * 60,
        show: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--show" {
            options.show = true;
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        let number = || value.parse().unwrap_or_else(|_| usage());
        match name.as_str() {
            "--reference" => options.reference = value.parse().unwrap_or_else(|_| usage()),
            "--staunch" => options.staunch = value.parse().unwrap_or_else(|_| usage()),
            "--known" => options.known = PathBuf::from(value),
            "--programs" => options.programs = number(),
            "--seed" => options.seed = number(),
            "--workers" => options.workers = number(),
            "--seconds" => options.seconds = number(),
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("usage: see the head of main.rs");
    std::process::exit(64)
}
