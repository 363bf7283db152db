//! Recovery of a data directory whose files were changed in any way: it refuses, or gives back
//! what was written. It never panics and never hands out wrong bytes. Where the checksums were
//! made right again, what was written cannot be told from what was changed: it does not panic.

#![no_main]

use std::cell::OnceCell;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use staunch_log::{Config, Disk, MemoryDisk, Opened, Recovered, recover};

#[path = "../../crates/staunch-log/tests/log/node.rs"]
#[allow(dead_code, reason = "written for more tests than this one")]
mod node;

#[path = "../../crates/staunch-log/tests/log/repair.rs"]
mod repair;

use node::{Key, Node};

/// Largest file that an edit makes, in bytes.
const FILE_SIZE_BYTES_MAX: usize = 64 << 10;

#[derive(Arbitrary, Debug)]
struct Scenario {
    checksums: Checksums,
    edits: Vec<Edit>,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Checksums {
    Left,
    Repaired,
}

/// Something done to the files, by somebody who knows their names.
#[derive(Arbitrary, Debug)]
enum Edit {
    /// Bytes are written over others.
    Overwrite { file: u8, at: u16, bytes: Vec<u8> },
    /// A file ends early.
    Truncate { file: u8, at: u16 },
    /// A file goes on.
    Extend { file: u8, bytes: Vec<u8> },
    /// A part of one file is written over a part of another.
    Copy {
        from: u8,
        from_at: u16,
        to: u8,
        to_at: u16,
        size: u16,
    },
    /// A file has the content of another.
    Replace { file: u8, with: u8 },
    /// A file is gone.
    Remove { file: u8 },
    /// A file that was not there.
    Create {
        kind: u8,
        number: u8,
        bytes: Vec<u8>,
    },
}

thread_local! {
    /// A log with every kind of file in it.
    static WRITTEN: OnceCell<Node> = const { OnceCell::new() };
}

fuzz_target!(|scenario: Scenario| {
    WRITTEN.with(|cell| {
        let node = cell.get_or_init(written);
        let disk = node.disk.fork();
        scenario.edits.iter().for_each(|edit| apply(edit, &disk));
        match scenario.checksums {
            Checksums::Left => check(&disk, |key, stored| {
                let known = node.known.get(&key).expect("it was written once");
                assert_eq!(stored, known.stored, "{key:?}");
            }),
            Checksums::Repaired => {
                repair::repair(&disk);
                check(&disk, |_, _| {});
            }
        }
    });
});

fn config() -> Config {
    Config {
        file_size_bytes: 4096,
        chunk_size_bytes_max: 1024,
        ballast_size_bytes: 512,
        ..Config::tiny()
    }
}

fn written() -> Node {
    let mut node = Node::new(config());
    for number in 0..24_u64 {
        let key = node.append(1 + number % 2, 40);
        node.write_all().expect("the disk is whole");
        if number % 3 == 0 {
            node.settle(key);
        }
        node.settle_down().expect("the disk is whole");
    }
    node.checkpoint().expect("the disk is whole");
    node.append(1, 30);
    node.write_all().expect("the disk is whole");
    let repaired = node.disk.fork();
    repair::repair(&repaired);
    for name in node.disk.list().expect("the disk has no faults") {
        let same = repaired.file(&name) == node.disk.file(&name);
        assert!(same, "the repair knows no other layout than {name} has");
    }
    node
}

fn apply(edit: &Edit, disk: &MemoryDisk) {
    let names = disk.list().expect("the disk has no faults");
    let named = |file: &u8| names.get(usize::from(*file) % names.len().max(1));
    match edit {
        Edit::Overwrite { file, at, bytes } => {
            let Some(name) = named(file) else { return };
            let mut content = disk.file(name);
            overwrite(&mut content, usize::from(*at), bytes);
            disk.put_file(name, &content);
        }
        Edit::Truncate { file, at } => {
            let Some(name) = named(file) else { return };
            let mut content = disk.file(name);
            content.truncate(usize::from(*at));
            disk.put_file(name, &content);
        }
        Edit::Extend { file, bytes } => {
            let Some(name) = named(file) else { return };
            let content = [disk.file(name), bytes.clone()].concat();
            if content.len() <= FILE_SIZE_BYTES_MAX {
                disk.put_file(name, &content);
            }
        }
        Edit::Copy {
            from,
            from_at,
            to,
            to_at,
            size,
        } => {
            let (Some(from), Some(to)) = (named(from), named(to)) else {
                return;
            };
            let source = disk.file(from);
            let start = usize::from(*from_at).min(source.len());
            let end = (start + usize::from(*size)).min(source.len());
            let mut content = disk.file(to);
            overwrite(&mut content, usize::from(*to_at), &source[start..end]);
            disk.put_file(to, &content);
        }
        Edit::Replace { file, with } => {
            if let (Some(name), Some(other)) = (named(file), named(with)) {
                disk.put_file(name, &disk.file(other));
            }
        }
        Edit::Remove { file } => {
            if let Some(name) = named(file) {
                disk.remove(name).expect("the disk has no faults");
            }
        }
        Edit::Create {
            kind,
            number,
            bytes,
        } => {
            const KINDS: [&str; 5] = ["young", "spare", "segment", "checkpoint", "other"];
            let kind = KINDS[usize::from(*kind) % KINDS.len()];
            disk.put_file(&format!("{kind}-{number:016}"), bytes);
        }
    }
}

/// Writes over what is there; it does not make the file longer.
fn overwrite(content: &mut [u8], at: usize, bytes: &[u8]) {
    let start = at.min(content.len());
    let end = (start + bytes.len()).min(content.len());
    content[start..end].copy_from_slice(&bytes[..end - start]);
}

/// Recovers and reads everything; `seen` is told the stored form of each message.
fn check(disk: &MemoryDisk, seen: impl Fn(Key, &[u8])) {
    let Ok(mut recovery) = recover(disk.clone(), config()) else {
        return;
    };
    let mut found = Vec::new();
    loop {
        match recovery.next() {
            Ok(Some(Recovered::Message {
                stream,
                index,
                body,
                size_bytes,
                ..
            })) => found.push(((stream, index), body, size_bytes)),
            Ok(Some(Recovered::State(_) | Recovered::Control { .. })) => {}
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let Ok(mut log) = recovery.finish() else {
        return;
    };
    for (key, body, size_bytes) in found {
        read(&mut log, key, body, size_bytes, &seen);
    }
}

fn read(
    log: &mut Opened<MemoryDisk>,
    key: Key,
    body: staunch_types::BodyRef,
    size_bytes: u32,
    seen: &impl Fn(Key, &[u8]),
) {
    let job = log.store.fetch(&[(key.1, body, size_bytes)]);
    match log.reader.run(job) {
        Ok(done) => {
            log.store.handle_fetched(&done);
            seen(key, &done.records[0].stored);
        }
        Err(failed) => log.store.handle_fetch_failed(&failed),
    }
}
