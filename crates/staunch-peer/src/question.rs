//! Questions to a peer and their answers, beside the frames of the links' owner.
//!
//! They are for what can wait and may fail, such as what operators want to see. Nothing of them
//! reaches the owner's [`crate::Inbox`], and they travel when nothing else does, or nearly: in the
//! third queue of a link, of which each write takes one frame however much else there is. A peer
//! that does not answer in time is taken to have no answer; the session goes on.
//!
//! ```text
//! question  number u64, question…
//! answer    number u64, 0: more follows, 1: this is the last, 2: there is none (u8), piece…
//! ```
//!
//! Numbers are little-endian, chosen by who asks, and never used twice in a session. An answer comes
//! in pieces so that nothing else waits for long behind it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use staunch_types::Name;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{
    Session,
    frame::{Frame, FrameKind},
    link::Link,
    outgoing::{Outgoing, SendError},
};

/// Largest question in bytes.
pub const QUESTION_SIZE_BYTES_MAX: usize = 256 << 10;
/// Largest answer in bytes.
pub const ANSWER_SIZE_BYTES_MAX: usize = 32 << 20;
/// Questions to one peer that may wait for their answers.
pub const OUTSTANDING_MAX: usize = 64;
/// Largest piece of an answer in bytes.
const PIECE_SIZE_BYTES_MAX: usize = 32 << 10;

/// Feature bit of a hello: the node takes questions. Those of the links' owner are below it.
pub(crate) const FEATURE: u64 = 1 << 63;

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// While nothing of it comes.
    pub silence: Duration,
    /// In all.
    pub all: Duration,
}

/// A question that a peer has asked.
#[derive(Debug)]
pub struct Question {
    /// Who asks.
    pub peer: Name,
    /// What.
    pub body: Bytes,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The way back to who asked.
#[derive(Debug)]
pub struct Reply {
    link: Arc<Link>,
    session: Session,
    number: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection, or it has ended.
    #[error("there is no connection with the peer")]
    Down,
    /// It takes no questions: a node of an earlier version.
    #[error("the peer takes no questions")]
    Unable,
    /// It did not answer in time.
    #[error("the peer is silent")]
    Silent,
    /// It has too much to do, or the answer would be too large.
    #[error("the peer does not answer")]
    Refused,
    /// Too many questions wait for this peer already, or this one is too large.
    #[error("too much is asked of the peer")]
    TooMuch,
}

/// Questions of one link that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// The peer takes questions.
    is_taken: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    pieces: mpsc::UnboundedSender<Piece>,
    /// What has come.
    size_bytes: usize,
}

#[derive(Debug)]
enum Piece {
    More(Bytes),
    Last(Bytes),
    NoAnswer,
}

/// A question that waits, until this is dropped.
struct Asked<'a> {
    questions: &'a Questions,
    number: u64,
    pieces: mpsc::UnboundedReceiver<Piece>,
}

impl Questions {
    /// A session begins, with a peer that has these features.
    pub(crate) fn open(&self, features: u64) {
        self.is_taken
            .store(features & FEATURE != 0, Ordering::Relaxed);
    }

    /// The session has ended: nothing is answered any more.
    pub(crate) fn close(&self) {
        self.is_taken.store(false, Ordering::Relaxed);
        self.lock().waiting.clear();
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(
        &self,
        (outgoing, session): (&Outgoing, Session),
        question: &[u8],
        patience: Patience,
    ) -> Result<Vec<u8>, Unanswered> {
        let end = Instant::now() + patience.all;
        if !self.is_taken.load(Ordering::Relaxed) {
            return Err(Unanswered::Unable);
        }
        if question.len() > QUESTION_SIZE_BYTES_MAX {
            return Err(Unanswered::TooMuch);
        }
        let mut asked = self.enter().ok_or(Unanswered::TooMuch)?;
        let number = asked.number.to_le_bytes();
        let frame = frame(FrameKind::QUESTION, &[&number, question]);
        match time::timeout(patience.silence, outgoing.send_idle(session, frame)).await {
            Ok(true) => {}
            Ok(false) => return Err(Unanswered::Down),
            Err(_) => return Err(Unanswered::Silent),
        }
        let mut answer = Vec::new();
        loop {
            let silence_end = Instant::now() + patience.silence;
            match time::timeout_at(silence_end.min(end), asked.pieces.recv()).await {
                Ok(Some(Piece::More(piece))) => answer.extend_from_slice(&piece),
                Ok(Some(Piece::Last(piece))) => {
                    answer.extend_from_slice(&piece);
                    return Ok(answer);
                }
                Ok(Some(Piece::NoAnswer)) => return Err(Unanswered::Refused),
                Ok(None) => return Err(Unanswered::Down),
                Err(_) => return Err(Unanswered::Silent),
            }
        }
    }

    /// Takes a piece of an answer; false if that is none. What nobody waits for any more is passed
    /// over.
    pub(crate) fn hear(&self, mut payload: Bytes) -> bool {
        let Ok(number) = payload.try_get_u64_le() else {
            return false;
        };
        let piece = match payload.try_get_u8() {
            Ok(0) => Piece::More(payload),
            Ok(1) => Piece::Last(payload),
            Ok(2) => Piece::NoAnswer,
            Ok(_) | Err(_) => return false,
        };
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get_mut(&number) else {
            return true;
        };
        let is_last = !matches!(piece, Piece::More(_));
        waiting.size_bytes += match &piece {
            Piece::More(piece) | Piece::Last(piece) => piece.len(),
            Piece::NoAnswer => 0,
        };
        let piece = if waiting.size_bytes > ANSWER_SIZE_BYTES_MAX {
            Piece::NoAnswer
        } else {
            piece
        };
        let is_end = is_last || matches!(piece, Piece::NoAnswer);
        // Who asked may be going away at this moment.
        if waiting.pieces.send(piece).is_err() || is_end {
            state.waiting.remove(&number);
        }
        true
    }

    fn enter(&self) -> Option<Asked<'_>> {
        let (sender, pieces) = mpsc::unbounded_channel();
        let mut state = self.lock();
        if state.waiting.len() >= OUTSTANDING_MAX {
            return None;
        }
        state.last += 1;
        let number = state.last;
        let waiting = Waiting {
            pieces: sender,
            size_bytes: 0,
        };
        state.waiting.insert(number, waiting);
        Some(Asked {
            questions: self,
            number,
            pieces,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.lock().waiting.remove(&self.number);
    }
}

impl Question {
    /// Reads a question that has come over a link; none if it is no question.
    pub(crate) fn read(link: &Arc<Link>, session: Session, mut payload: Bytes) -> Option<Self> {
        let number = payload.try_get_u64_le().ok()?;
        if payload.len() > QUESTION_SIZE_BYTES_MAX {
            return None;
        }
        let reply = Reply {
            link: link.clone(),
            session,
            number,
        };
        Some(Self {
            peer: link.name.clone(),
            body: payload,
            reply,
        })
    }
}

impl Reply {
    /// Sends the answer, piece by piece as there is room. One that is larger than
    /// [`ANSWER_SIZE_BYTES_MAX`] is none.
    pub async fn send(self, answer: &[u8]) {
        if answer.len() > ANSWER_SIZE_BYTES_MAX {
            return self.refuse();
        }
        let mut rest = answer;
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(PIECE_SIZE_BYTES_MAX));
            rest = behind;
            let frame = self.frame(u8::from(rest.is_empty()), piece);
            let is_sent = self.link.outgoing.send_idle(self.session, frame).await;
            if !is_sent || rest.is_empty() {
                return;
            }
        }
    }

    /// There will be no answer.
    pub fn refuse(self) {
        let frame = self.frame(2, &[]);
        match self.link.outgoing.try_send_idle(self.session, frame) {
            // Who asked will find that out by itself.
            Ok(()) | Err(SendError::Down | SendError::Full(_)) => {}
        }
    }

    fn frame(&self, what: u8, piece: &[u8]) -> Frame {
        frame(
            FrameKind::ANSWER,
            &[&self.number.to_le_bytes(), &[what], piece],
        )
    }
}

fn frame(kind: FrameKind, parts: &[&[u8]]) -> Frame {
    let payload = Bytes::from(parts.concat());
    Frame::of_any_kind(kind, vec![payload]).expect("questions and pieces are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u64, what: u8, piece: &[u8]) -> Bytes {
        Bytes::from([&number.to_le_bytes()[..], &[what], piece].concat())
    }

    #[test]
    fn what_is_no_answer_is_noticed_and_what_nobody_waits_for_is_not() {
        let questions = Questions::default();
        for (payload, is_one) in [
            (Bytes::from_static(b"1234567"), false),
            (Bytes::from_static(b"12345678"), false),
            (answer(1, 3, b""), false),
            (answer(1, 0, b"piece"), true),
            (answer(1, 1, b""), true),
            (answer(1, 2, b""), true),
        ] {
            assert_eq!(questions.hear(payload.clone()), is_one, "{payload:?}");
        }
    }

    #[test]
    fn questions_that_wait_are_bounded_and_leave_when_nobody_waits() {
        let questions = Questions::default();
        let mut asked: Vec<_> = (0..OUTSTANDING_MAX)
            .map(|_| questions.enter().expect("there is room"))
            .collect();
        assert!(questions.enter().is_none());
        drop(asked.pop());
        let next = questions.enter().expect("there is room again");
        assert_eq!(next.number, OUTSTANDING_MAX as u64 + 1);
        drop((asked, next));
        assert!(questions.lock().waiting.is_empty());
    }

    #[test]
    fn an_answer_that_grows_without_end_is_none() {
        let questions = Questions::default();
        let mut asked = questions.enter().expect("there is room");
        let piece = vec![0; 1 << 20];
        for _ in 0..=ANSWER_SIZE_BYTES_MAX >> 20 {
            assert!(questions.hear(answer(asked.number, 0, &piece)));
        }
        assert!(questions.hear(answer(asked.number, 1, b"end")));
        let mut heard = 0;
        while let Ok(Piece::More(_)) = asked.pieces.try_recv() {
            heard += 1;
        }
        assert_eq!(heard, ANSWER_SIZE_BYTES_MAX >> 20);
        assert!(questions.lock().waiting.is_empty());
    }
}
