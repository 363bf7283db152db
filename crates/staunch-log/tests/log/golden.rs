//! The formats, byte for byte: what version 1 wrote is read, and written again the same.

use std::fmt::Write as _;
use std::path::PathBuf;

use staunch_log::{Config, Disk, MemoryDisk};

use crate::node::Node;

fn config() -> Config {
    let sizes = Config::tiny();
    Config {
        file_size_bytes: 4096,
        chunk_size_bytes_max: 1024,
        ballast_size_bytes: 512,
        ..sizes
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.hex")
}

/// A log with each kind of file and record.
fn written() -> Node {
    let mut node = Node::new(config());
    for n in 0..24_u64 {
        let key = node.append(1 + n % 2, 40);
        node.write_all().unwrap();
        if n % 3 == 0 {
            node.settle(key);
        }
        node.settle_down().unwrap();
    }
    node.checkpoint().unwrap();
    node.append(1, 30);
    node.write_all().unwrap();
    node
}

/// All files as text: sixteen bytes a line, lines of zeros left out.
fn dump(disk: &MemoryDisk) -> String {
    let mut out = String::new();
    for name in disk.list().unwrap() {
        let bytes = disk.file(&name);
        writeln!(out, "{name} {}", bytes.len()).unwrap();
        for (n, line) in bytes.chunks(16).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                let hex = line
                    .iter()
                    .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
                writeln!(out, "  {:06x} {hex}", n * 16).unwrap();
            }
        }
    }
    out
}

fn restore(text: &str) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut file: Option<(String, Vec<u8>)> = None;
    for line in text.lines() {
        if let Some(content) = line.strip_prefix("  ") {
            let (at, hex) = content.split_once(' ').unwrap();
            let at = usize::from_str_radix(at, 16).unwrap();
            let (_, bytes) = file.as_mut().unwrap();
            for (n, pair) in hex.as_bytes().chunks(2).enumerate() {
                let pair = std::str::from_utf8(pair).unwrap();
                bytes[at + n] = u8::from_str_radix(pair, 16).unwrap();
            }
        } else {
            if let Some((name, bytes)) = file.take() {
                disk.put_file(&name, &bytes);
            }
            let (name, size) = line.split_once(' ').unwrap();
            file = Some((name.to_owned(), vec![0; size.parse().unwrap()]));
        }
    }
    let (name, bytes) = file.unwrap();
    disk.put_file(&name, &bytes);
    disk
}

/// `GOLDEN=write cargo test -p staunch-log` makes the file anew; only ever for a new version.
#[test]
fn version_1_is_written_as_it_always_was() {
    let text = dump(&written().disk);
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), &text).unwrap();
    }
    let golden = std::fs::read_to_string(path()).unwrap();
    assert!(text == golden, "the format changed: give it a new version");
}

#[test]
fn version_1_is_read() {
    let golden = std::fs::read_to_string(path()).unwrap();
    let mut node = written();
    node.disk = restore(&golden);
    let live = node.live_count();
    node.restart();
    assert_eq!((live, node.live_count()), (15, 15));
}
