//! Makes every checksum of a changed data directory right again, so that what lies behind the
//! checksums is tried as well. The layouts are those of `docs/format.md`.

use staunch_log::{Disk, MemoryDisk};

const HEADER_SIZE_BYTES: usize = 64;
const SECTOR_SIZE_BYTES: usize = 512;
const RECORD_HEADER_SIZE_BYTES: usize = 40;
const TRAILER_SIZE_BYTES: usize = 64;
const SEGMENT_LISTED_SIZE_BYTES: usize = 24;

/// Repairs all files, segments before the checkpoint that lists them.
pub(crate) fn repair(disk: &MemoryDisk) {
    let mut chunk_last = 0;
    for name in disk.list().expect("the disk has no faults") {
        let Some((kind, number)) = name.split_once('-') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        let mut content = disk.file(&name);
        repair_header(&mut content);
        match kind {
            "young" => repair_young(&mut content, seed(number), &mut chunk_last),
            "segment" => repair_segment(&mut content, seed(1 << 63 | number)),
            _ => {}
        }
        disk.put_file(&name, &content);
    }
    for name in disk.list().expect("the disk has no faults") {
        if name.starts_with("checkpoint-") {
            let mut content = disk.file(&name);
            repair_checkpoint(&mut content, disk);
            disk.put_file(&name, &content);
        }
    }
}

fn seed(identity: u64) -> u32 {
    crc32c::crc32c(&identity.to_le_bytes())
}

fn repair_header(content: &mut [u8]) {
    if let Some(header) = content.get_mut(..HEADER_SIZE_BYTES) {
        let crc = crc32c::crc32c(&header[..60]);
        put_u32(header, 60, crc);
    }
}

/// Walks the chunks as recovery does; ends at what is none, or is left from a former life and so
/// does not come after the last chunk of the files before.
fn repair_young(content: &mut [u8], seed: u32, chunk_last: &mut u64) {
    let mut at = SECTOR_SIZE_BYTES;
    while let Some(chunk) = content.get_mut(at..)
        && chunk.len() >= HEADER_SIZE_BYTES
        && chunk.starts_with(b"SCHK")
        && u64_at(chunk, 8) > *chunk_last
    {
        *chunk_last = u64_at(chunk, 8);
        let crc = crc32c::crc32c_append(seeded(seed, at), &chunk[8..HEADER_SIZE_BYTES]);
        put_u32(chunk, 4, crc);
        let records_size = u32_at(chunk, 32) as usize;
        let end = HEADER_SIZE_BYTES.saturating_add(records_size);
        let Some(records) = chunk.get_mut(HEADER_SIZE_BYTES..end) else {
            return;
        };
        repair_records(records, seed, at + HEADER_SIZE_BYTES);
        at += end.next_multiple_of(SECTOR_SIZE_BYTES);
    }
}

/// `at`: where `records` start in their file.
fn repair_records(records: &mut [u8], seed: u32, at: usize) {
    let mut start = 0;
    while let Some(record) = records.get_mut(start..)
        && record.len() >= RECORD_HEADER_SIZE_BYTES
    {
        let end = RECORD_HEADER_SIZE_BYTES + u32_at(record, 4) as usize;
        if end > record.len() {
            return;
        }
        let crc = crc32c::crc32c_append(seeded(seed, at + start), &record[4..end]);
        put_u32(record, 0, crc);
        start += end.next_multiple_of(8);
    }
}

fn repair_segment(content: &mut [u8], seed: u32) {
    let Some(trailer_at) = content.len().checked_sub(TRAILER_SIZE_BYTES) else {
        return;
    };
    let (body, trailer) = content.split_at_mut(trailer_at);
    let footer_at = usize::try_from(u64_at(trailer, 16)).unwrap_or(usize::MAX);
    if let Some(footer) = body.get(footer_at..) {
        let crc = crc32c::crc32c(footer);
        put_u32(trailer, 40, crc);
    }
    let crc = crc32c::crc32c(&trailer[..60]);
    put_u32(trailer, 60, crc);
    if let Some(records) = body.get_mut(HEADER_SIZE_BYTES..footer_at) {
        repair_records(records, seed, HEADER_SIZE_BYTES);
    }
}

fn repair_checkpoint(content: &mut [u8], disk: &MemoryDisk) {
    let Some(end) = content
        .len()
        .checked_sub(4)
        .filter(|end| *end >= 2 * HEADER_SIZE_BYTES)
    else {
        return;
    };
    let count = u32_at(content, 112) as usize;
    let listed = content[2 * HEADER_SIZE_BYTES..end].chunks_exact_mut(SEGMENT_LISTED_SIZE_BYTES);
    for listed in listed.take(count) {
        let name = format!("segment-{:016}", u64_at(listed, 0));
        if let Ok(segment) = disk.open(&name).map(|_| disk.file(&name))
            && let Some(trailer_at) = segment.len().checked_sub(TRAILER_SIZE_BYTES)
        {
            put_u32(listed, 20, u32_at(&segment, trailer_at + 40));
        }
    }
    let crc = crc32c::crc32c(&content[HEADER_SIZE_BYTES..end]);
    put_u32(content, end, crc);
}

fn seeded(seed: u32, offset: usize) -> u32 {
    let offset = u32::try_from(offset).expect("files are small here");
    seed ^ offset >> 3
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
