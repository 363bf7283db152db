//! Names of the files in a data directory: a kind and a number, nothing a client chose.

use crate::place::{FileId, NUMBER_FOUND_MAX, SegmentId};

pub(crate) const BALLAST: &str = "ballast";
pub(crate) const LOCK: &str = "lock";
/// A directory of the server's: this node's certificate for its peers.
const PEER_TLS: &str = "peer-tls";
/// A file of the server's: what has flowed through queues.
const HISTORIES: &str = "histories";
const TEMP_SUFFIX: &str = ".temp";
const DAMAGED_SUFFIX: &str = ".damaged";

/// What a file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    Young(FileId),
    Spare(FileId),
    Segment(SegmentId),
    Checkpoint(u64),
    Temp,
    /// Of a log that was given up, or a segment of which this is not known any more.
    Damaged,
    Ballast,
    Lock,
    OfServer,
    Foreign,
}

pub(crate) fn young(file: FileId) -> String {
    format!("young-{:016}", file.0)
}

pub(crate) fn spare(file: FileId) -> String {
    format!("spare-{:016}", file.0)
}

pub(crate) fn segment(segment: SegmentId) -> String {
    format!("segment-{:016}", segment.0)
}

pub(crate) fn checkpoint(number: u64) -> String {
    format!("checkpoint-{number:016}")
}

/// The name a file has after it was found to be damaged.
pub(crate) fn damaged(name: &str) -> String {
    format!("{name}{DAMAGED_SUFFIX}")
}

/// The name a file has until it is whole.
pub(crate) fn temp(name: &str) -> String {
    format!("{name}{TEMP_SUFFIX}")
}

impl FileName {
    pub(crate) fn parse(name: &str) -> Self {
        if name.ends_with(TEMP_SUFFIX) {
            return Self::Temp;
        }
        if name.ends_with(DAMAGED_SUFFIX) {
            return Self::Damaged;
        }
        match name {
            BALLAST => return Self::Ballast,
            LOCK => return Self::Lock,
            PEER_TLS | HISTORIES => return Self::OfServer,
            _ => {}
        }
        let Some((kind, digits)) = name.split_once('-') else {
            return Self::Foreign;
        };
        if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Foreign;
        }
        let Ok(number) = digits.parse::<u64>() else {
            return Self::Foreign;
        };
        match kind {
            "young" | "spare" | "segment" if number > NUMBER_FOUND_MAX => Self::Foreign,
            "young" => Self::Young(FileId(number)),
            "spare" => Self::Spare(FileId(number)),
            "segment" => Self::Segment(SegmentId(number)),
            "checkpoint" => Self::Checkpoint(number),
            _ => Self::Foreign,
        }
    }
}
