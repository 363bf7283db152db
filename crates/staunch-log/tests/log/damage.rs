//! Bits rot: recovery or the reader refuses, or cuts a tail that was never confirmed. Wrong bytes
//! never come back, and nothing panics.

use staunch_log::{Config, Disk, MemoryDisk, RecoverError, Recovered, StreamId, recover};

use crate::{
    node::{Key, Node},
    repair::repair,
};

/// A log with every kind of file in it, and the messages of the very last write.
fn everything() -> (Node, Vec<Key>) {
    let mut node = Node::new(Config::tiny());
    for round in 0..400_usize {
        let key = node.append(1 + round as u64 % 3, 300 + round % 700);
        if !round.is_multiple_of(3) {
            node.settle(key);
        }
        node.settle_down().unwrap();
    }
    node.checkpoint().unwrap();
    node.settle_down().unwrap();
    for _ in 0..5 {
        node.append(2, 700);
        node.write_all().unwrap();
    }
    let last = vec![node.append(3, 400), node.append(3, 401)];
    node.write_all().unwrap();
    (node, last)
}

/// Recovers a damaged disk and reads everything; whatever comes back must be right.
fn read_all(node: &Node, disk: &MemoryDisk, last: &[Key]) -> Result<(), String> {
    let text = |error: RecoverError| error.to_string();
    let mut recovery = recover(disk.clone(), Config::tiny()).map_err(text)?;
    let mut found = Vec::new();
    while let Some(recovered) = recovery.next().map_err(text)? {
        if let Recovered::Message {
            stream,
            index,
            body,
            size_bytes,
            ..
        } = recovered
        {
            found.push(((stream, index), body, size_bytes));
        }
    }
    let mut log = recovery.finish().map_err(text)?;
    for key in node.known.keys() {
        let there = found.iter().any(|(other, ..)| other == key);
        let live = (0..node.live_count()).any(|n| node.live_at(n) == Some(*key));
        assert!(
            there || !live || last.contains(key),
            "{key:?} is silently gone"
        );
    }
    for (key, body, size_bytes) in found {
        let job = log.store.fetch(&[(key.1, body, size_bytes)]);
        match log.reader.run(job) {
            Ok(done) => {
                log.store.handle_fetched(&done);
                let known = node.known.get(&key).expect("no phantom");
                assert_eq!(
                    done.records[0].stored, known.stored,
                    "{key:?} has wrong bytes"
                );
            }
            Err(failed) => {
                log.store.handle_fetch_failed(&failed);
                return Err(failed.to_string());
            }
        }
    }
    Ok(())
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let (node, last) = everything();
    read_all(&node, &node.disk.fork(), &last).expect("undamaged, it reads");
    let mut refused = 0;
    for name in node.disk.list().unwrap() {
        let size_bits = node.disk.file(&name).len() as u64 * 8;
        let step = (size_bits / 60).max(1) | 1;
        let head = (0..8 * 700).step_by(193);
        for bit in head.chain((0..size_bits).step_by(usize::try_from(step).unwrap())) {
            if bit >= size_bits {
                continue;
            }
            let disk = node.disk.fork();
            disk.flip_bit(&name, bit);
            if let Err(message) = read_all(&node, &disk, &last) {
                refused += 1;
                let byte = bit / 8;
                assert!(
                    message.contains(&name),
                    "bit {bit} ({byte}) of {name}: {message}"
                );
            }
        }
    }
    assert!(refused > 50, "only {refused} flips were noticed");
}

#[test]
fn every_bit_of_header_segment_footer_and_checkpoint_is_guarded() {
    let (node, last) = everything();
    for name in node.disk.list().unwrap() {
        let size = node.disk.file(&name).len() as u64;
        let bytes = match name.split('-').next().unwrap() {
            "checkpoint" => 0..size,
            "segment" => size - 64 - 32..size,
            "young" => 0..64,
            _ => continue,
        };
        for bit in (bytes.start * 8..bytes.end * 8).step_by(7) {
            let disk = node.disk.fork();
            disk.flip_bit(&name, bit);
            let message = read_all(&node, &disk, &last).expect_err("a flip here is noticed");
            assert!(message.contains(&name), "bit {bit} of {name}: {message}");
        }
    }
}

#[test]
fn a_missing_or_short_file_is_refused() {
    let (node, last) = everything();
    let mut ahead = node.disk.list().unwrap();
    ahead.retain(|name| name.starts_with("young"));
    let count = usize::try_from(node.log.store.facts().prepared_files).unwrap();
    ahead.drain(..ahead.len() - count);
    for name in node.disk.list().unwrap() {
        if !["young", "segment", "checkpoint"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            continue;
        }
        let disk = node.disk.fork();
        disk.remove(&name).unwrap();
        let result = read_all(&node, &disk, &last);
        // Files made ahead hold nothing; any other is missed.
        let needed = !ahead.contains(&name);
        assert!(result.is_err() || !needed, "without {name}: {result:?}");
        let disk = node.disk.fork();
        let bytes = disk.file(&name);
        disk.put_file(&name, &bytes[..40]);
        read_all(&node, &disk, &last).expect_err("a short file is refused");
    }
}

#[test]
fn stale_and_misdirected_blocks_are_refused() {
    let (node, last) = everything();
    let names = node.disk.list().unwrap();
    let young: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("young"))
        .collect();
    let source = node.disk.file(young[0]);
    for target in &young {
        for sector in [1, 2, 5, 20] {
            let disk = node.disk.fork();
            let mut bytes = disk.file(target);
            let from = if *target == young[0] {
                sector + 3
            } else {
                sector
            } * 512;
            if bytes[sector * 512..][..512] == source[from..from + 512] {
                continue;
            }
            bytes[sector * 512..][..512].copy_from_slice(&source[from..from + 512]);
            disk.put_file(target, &bytes);
            // Never wrong data; whether it is refused depends on what was overwritten.
            drop(read_all(&node, &disk, &last));
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let (node, last) = everything();
    let mut seed = 7_u64;
    for name in node.disk.list().unwrap() {
        for _ in 0..20 {
            let disk = node.disk.fork();
            let mut bytes = disk.file(&name);
            for byte in &mut bytes {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695);
                *byte = seed.to_be_bytes()[0];
            }
            disk.put_file(&name, &bytes);
            drop(read_all(&node, &disk, &last));
        }
    }
    assert_eq!(StreamId::CATALOG, StreamId(0));
}

/// Changes one file and makes all checksums right again; what recovery and reading say then.
fn refused_for(node: &Node, kind: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    let disk = node.disk.fork();
    let names = disk.list().unwrap();
    // The first of a kind: what the end of the log says may be taken for a torn tail.
    let name = names.iter().find(|name| name.starts_with(kind)).unwrap();
    let mut content = disk.file(name);
    change(&mut content);
    disk.put_file(name, &content);
    repair(&disk);
    read_all(node, &disk, &[]).unwrap_err()
}

#[test]
fn what_no_checksum_shows_is_refused_where_it_cannot_be() {
    let (node, _) = everything();
    let trailer = |content: &[u8], at: usize| {
        let start = content.len() - 64 + at;
        u64::from_le_bytes(content[start..start + 8].try_into().unwrap())
    };
    // A record of a segment that is said to be larger than the segment.
    let refused = refused_for(&node, "segment-", |content| {
        let footer = usize::try_from(trailer(content, 16)).unwrap();
        content[footer + 16 + 12..footer + 16 + 16].fill(0xff);
    });
    assert!(refused.contains("segment-"), "{refused}");
    // One that is said to lie behind all records.
    let refused = refused_for(&node, "segment-", |content| {
        let footer = usize::try_from(trailer(content, 16)).unwrap();
        content[footer + 16 + 8..footer + 16 + 11].fill(0xff);
    });
    assert!(refused.contains("segment-"), "{refused}");
    // Numbers after which there are none: of a chunk, of files, of segments.
    let refused = refused_for(&node, "young-", |content| {
        content[512 + 8..512 + 16].fill(0xff);
    });
    assert!(refused.contains("young-"), "{refused}");
    for at in [64, 88, 96, 104] {
        let refused = refused_for(&node, "checkpoint-", |content| {
            content[at..at + 8].fill(0xff);
        });
        assert!(refused.contains("checkpoint-"), "{at}: {refused}");
    }
}

#[test]
fn a_file_whose_number_is_none_of_ours_is_left_alone() {
    let (node, last) = everything();
    let disk = node.disk.fork();
    for kind in ["young", "spare", "segment"] {
        disk.put_file(&format!("{kind}-9999999999999999"), b"");
    }
    read_all(&node, &disk, &last).unwrap();
    for kind in ["young", "spare", "segment"] {
        assert!(
            disk.list()
                .unwrap()
                .contains(&format!("{kind}-9999999999999999"))
        );
    }
}
