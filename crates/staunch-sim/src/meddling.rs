//! Bugs planted in what the members of groups tell each other: what a member says is what it
//! would say if it had that bug.

use bytes::Bytes;
use staunch_raft::{Body, Message, message::AppendAnswer, wire};
use staunch_types::{LogIndex, NodeId};

use crate::{planted::Planted, random::Random};

/// How many of a thousand messages are changed, of those that can be.
const MEDDLED_PER_MILLE: u32 = 100;

/// The batch as a bug has it; none if it leaves it alone.
pub fn meddle(planted: Planted, batch: &Bytes, random: &mut Random) -> Option<Bytes> {
    let change: fn(&mut Body) -> bool = match planted {
        Planted::ForgetVote => forget_vote,
        Planted::CommitEarly => commit_early,
        _ => return None,
    };
    let mut messages = wire::decode(batch).ok()?;
    let mut is_changed = false;
    for Message { body, .. } in &mut messages {
        is_changed |= random.chance(MEDDLED_PER_MILLE) && change(body);
    }
    let whole = wire::encode(&messages).concat();
    is_changed.then(|| whole.concat().into())
}

/// What a node that does not wait would answer when it is told to say when all is committed
/// that was asked of it; none if a frame does not say that. `cluster/wire.rs` of `staunch-node`
/// draws the frames.
pub fn pass_early(frame: &Bytes) -> Option<Bytes> {
    const KIND_BARRIER: u8 = 6;
    const KIND_PASSED: u8 = 7;
    let (head, number) = frame.split_at_checked(10)?;
    if head[1] != KIND_BARRIER {
        return None;
    }
    let (nothing_needed, nothing_lost) = ([0; 8], [0; 4]);
    let answer = [
        &[head[0], KIND_PASSED],
        &nothing_needed[..],
        number,
        &nothing_lost,
    ];
    Some(answer.concat().into())
}

/// What a node without data would ask that does not ask to join but who it was, as one does whose
/// data is damaged; none if it does not ask to join. `cluster/membership.rs` of `staunch-node` draws
/// the frames.
pub fn ask_who_it_was(frame: &Bytes) -> Option<Bytes> {
    const FRAME_JOIN: u8 = 6;
    const FRAME_RECALL: u8 = 9;
    let (kind, rest) = frame.split_first()?;
    (*kind == FRAME_JOIN).then(|| [&[FRAME_RECALL], rest].concat().into())
}

/// A piece of a queue on its way to a member, with another byte at the end of its last message; none
/// if it is not one, or that message is a short one. `cluster/transfer.rs` of `staunch-node` draws
/// the frames.
pub fn corrupt_piece(frame: &Bytes) -> Option<Bytes> {
    const KIND_BODIES: u8 = 2;
    const SIZE_MIN: usize = 300;
    let is_piece = frame.get(1) == Some(&KIND_BODIES) && frame.len() > SIZE_MIN;
    let mut changed = is_piece.then(|| frame.to_vec())?;
    *changed.last_mut()? ^= 0x10;
    Some(changed.into())
}

/// What a voter would have to say for what somebody who only learns has on its disk to count.
pub fn in_name_of(voter: NodeId, message: &Message) -> Option<Bytes> {
    let Body::AppendAnswer(AppendAnswer::Accepted { .. }) = &message.body else {
        return None;
    };
    let forged = Message {
        from: voter,
        ..message.clone()
    };
    Some(wire::encode(&[forged]).concat().concat().into())
}

/// A member that has not kept its vote gives it again.
fn forget_vote(body: &mut Body) -> bool {
    let Body::VoteAnswer(answer) = body else {
        return false;
    };
    !std::mem::replace(&mut answer.is_granted, true)
}

/// A leader takes for committed what it has just sent.
fn commit_early(body: &mut Body) -> bool {
    let Body::Append(append) = body else {
        return false;
    };
    let last = LogIndex(append.previous.index.0 + append.entries.len() as u64);
    std::mem::replace(&mut append.commit, last) < last
}
