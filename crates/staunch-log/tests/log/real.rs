//! Real files: permissions, the lock, and the road there and back.

use std::os::unix::fs::PermissionsExt;

use staunch_log::{
    Config, Disk, DiskFile, Opened, RealDisk, RecordMeta, Recovered, StreamId, recover,
};
use staunch_types::Message;

#[test]
fn a_directory_is_open_once_and_private() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let disk = RealDisk::open(&path).unwrap();
    let busy = RealDisk::open(&path).unwrap_err();
    assert!(busy.to_string().contains("another process"), "{busy}");
    disk.create("young-0000000000000001", 1024).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("young-0000000000000001")), 0o600);
    drop(disk);
    RealDisk::open(&path).unwrap();
}

#[test]
fn many_parts_are_written_whole() {
    let parent = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(parent.path()).unwrap();
    let file = disk.create("x", 0).unwrap();
    let parts: Vec<Vec<u8>> = (0..3000_u32)
        .map(|n| n.to_be_bytes()[..n as usize % 5 % 4].into())
        .collect();
    let slices: Vec<_> = parts
        .iter()
        .map(|part| std::io::IoSlice::new(part))
        .collect();
    file.write_at(7, &slices).unwrap();
    let mut read = vec![0; parts.concat().len()];
    file.read_at(7, &mut read).unwrap();
    assert_eq!(read, parts.concat());
    assert!(file.read_at(8, &mut read).is_err(), "beyond the end");
}

fn open(path: &std::path::Path) -> (Opened<RealDisk>, usize) {
    let disk = RealDisk::open(path).unwrap();
    let mut recovery = recover(disk, Config::tiny()).unwrap();
    let mut count = 0;
    while let Some(recovered) = recovery.next().unwrap() {
        count += usize::from(matches!(recovered, Recovered::Message { .. }));
    }
    (recovery.finish().unwrap(), count)
}

#[test]
fn messages_survive_a_restart() {
    let parent = tempfile::tempdir().unwrap();
    let (mut log, _) = open(parent.path());
    let message = Message::copied(b"x", b"y", b"\0\0", &[5; 1000]);
    for index in 0..500 {
        let (stream, meta) = (StreamId(1), RecordMeta::default());
        log.store.append_message(stream, index, meta, &message);
        log.store.seal();
        while let Some(job) = log.store.poll_background() {
            let done = log.background.run(job).unwrap();
            log.store.handle_background(done);
        }
        while let Some(job) = log.store.poll_write() {
            let done = log.writer.run(job).unwrap();
            log.store.handle_written(&done);
        }
    }
    drop(log);
    assert_eq!(open(parent.path()).1, 500);
    assert_eq!(open(parent.path()).1, 500);
}
