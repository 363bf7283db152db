//! What waits to be written to one peer: three queues, all bounded in frames and bytes.
//!
//! *Lossy* frames go first and are dropped when their queue is full: they are repeated anyway, and
//! old ones are of no use. *Reliable* frames are refused when their queue is full, and their sender
//! hears when there is room again; they arrive in order or their session ends. Nothing is promised
//! about the order between the two. *Idle* frames go when there is room beside the others, one in each
//! write at least; who sends one waits for room.
//!
//! A reliable frame names its session. Without that, a sender who does not know yet that the
//! connection has been replaced would send the middle of a conversation to somebody who has not
//! heard its beginning.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{Session, frame::Frame};

/// Bounds of one queue. A frame that is larger than the bytes allowed is taken by an empty queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most frames.
    pub frames_max: usize,
    /// Most bytes of all frames together.
    pub size_bytes_max: usize,
}

/// A frame was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no room; [`crate::PeerEvent::Room`] will say when there is. The frame is given back.
    #[error("the queue to the peer is full")]
    Full(Frame),
    /// The session has ended.
    #[error("the session has ended")]
    Down,
}

/// What has gone over a link since it was made, in all its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Lossy frames that were dropped: no connection, or no room.
    pub lossy_dropped: u64,
    /// Frames handed to the socket.
    pub frames_sent: u64,
    /// Their size with headers.
    pub size_bytes_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Their payloads.
    pub size_bytes_received: u64,
}

/// Both queues, their counters, and who waits for what.
#[derive(Debug)]
pub(crate) struct Outgoing {
    state: Mutex<State>,
    /// Frames have been added.
    filled: Notify,
    /// Somebody was refused, and now there is room.
    room: Notify,
    /// A session was ended.
    ended: Notify,
    /// Idle frames have gone.
    idle_room: Notify,
}

#[derive(Debug)]
struct State {
    session: Option<Session>,
    /// The last session that the owner has ended.
    ended: Option<Session>,
    lossy: Queue,
    reliable: Queue,
    idle: Queue,
    /// Somebody was refused and has not been told about room.
    wants_room: bool,
    counters: LinkCounters,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Frame>,
    size_bytes: usize,
    limits: QueueLimits,
}

impl Outgoing {
    pub(crate) fn new([lossy, reliable, idle]: [QueueLimits; 3]) -> Self {
        Self {
            state: Mutex::new(State {
                session: None,
                ended: None,
                lossy: Queue::new(lossy),
                reliable: Queue::new(reliable),
                idle: Queue::new(idle),
                wants_room: false,
                counters: LinkCounters::default(),
            }),
            filled: Notify::new(),
            room: Notify::new(),
            ended: Notify::new(),
            idle_room: Notify::new(),
        }
    }

    /// False if the frame was dropped.
    pub(crate) fn send_lossy(&self, frame: Frame) -> bool {
        let mut state = self.lock();
        if state.session.is_none() || !state.lossy.has_room_for(&frame) {
            state.counters.lossy_dropped += 1;
            return false;
        }
        state.lossy.push(frame);
        drop(state);
        self.filled.notify_one();
        true
    }

    pub(crate) fn send(&self, session: Session, frame: Frame) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.session != Some(session) {
            return Err(SendError::Down);
        }
        if !state.reliable.has_room_for(&frame) {
            state.wants_room = true;
            return Err(SendError::Full(frame));
        }
        state.reliable.push(frame);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Sends a frame that can wait, after all that were sent so in this session; false if that has
    /// ended.
    pub(crate) async fn send_idle(&self, session: Session, mut frame: Frame) -> bool {
        loop {
            let mut room = pin!(self.idle_room.notified());
            room.as_mut().enable();
            match self.try_send_idle(session, frame) {
                Ok(()) => return true,
                Err(SendError::Down) => return false,
                Err(SendError::Full(back)) => frame = back,
            }
            room.await;
        }
    }

    /// The same, if there is room now.
    pub(crate) fn try_send_idle(&self, session: Session, frame: Frame) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.session != Some(session) {
            return Err(SendError::Down);
        }
        if !state.idle.has_room_for(&frame) {
            return Err(SendError::Full(frame));
        }
        state.idle.push(frame);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// From now on frames are taken, for this session.
    pub(crate) fn open(&self, session: Session) {
        let mut state = self.lock();
        assert!(state.session.is_none(), "one session ends before the next");
        state.session = Some(session);
    }

    /// Takes nothing more for this session, and has its connection closed. False if it is over
    /// already.
    pub(crate) fn end(&self, session: Session) -> bool {
        let mut state = self.lock();
        if state.session != Some(session) {
            return false;
        }
        state.forget();
        state.ended = Some(session);
        drop(state);
        self.ended.notify_one();
        self.idle_room.notify_waiters();
        true
    }

    /// Resolves when the owner has ended this session.
    pub(crate) async fn ended(&self, session: Session) {
        while self.lock().ended != Some(session) {
            self.ended.notified().await;
        }
    }

    /// Forgets what has not been written.
    pub(crate) fn close(&self) {
        self.lock().forget();
        self.idle_room.notify_waiters();
    }

    /// Waits for frames and takes about `size_bytes_max` of them, at least one: lossy ones first,
    /// but if a reliable one waits it is never left out, and neither is an idle one.
    pub(crate) async fn take(&self, size_bytes_max: usize) -> Vec<Frame> {
        loop {
            let frames = self.try_take(size_bytes_max);
            if !frames.is_empty() {
                return frames;
            }
            self.filled.notified().await;
        }
    }

    /// As [`Self::take`], but empty if nothing is there.
    pub(crate) fn try_take(&self, size_bytes_max: usize) -> Vec<Frame> {
        let mut state = self.lock();
        let mut frames = Vec::new();
        let left = state.lossy.take_into(&mut frames, size_bytes_max);
        let left = state.reliable.take_into(&mut frames, left);
        let taken = frames.len();
        state.idle.take_into(&mut frames, left);
        if frames.len() > taken {
            self.idle_room.notify_waiters();
        }
        let size_bytes: usize = frames.iter().map(Frame::size_bytes).sum();
        state.counters.frames_sent += u64::try_from(frames.len()).unwrap_or(0);
        state.counters.size_bytes_sent += u64::try_from(size_bytes).unwrap_or(0);
        if state.wants_room && state.reliable.is_half_empty() {
            state.wants_room = false;
            self.room.notify_one();
        }
        frames
    }

    /// Resolves when somebody who was refused can send again.
    pub(crate) async fn room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn received(&self, frames: usize, size_bytes: usize) {
        let counters = &mut self.lock().counters;
        counters.frames_received += u64::try_from(frames).unwrap_or(0);
        counters.size_bytes_received += u64::try_from(size_bytes).unwrap_or(0);
    }

    pub(crate) fn session(&self) -> Option<Session> {
        self.lock().session
    }

    pub(crate) fn counters(&self) -> LinkCounters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The session is over, and what was not written with it.
    fn forget(&mut self) {
        self.session = None;
        self.wants_room = false;
        self.counters.lossy_dropped += u64::try_from(self.lossy.frames.len()).unwrap_or(0);
        self.lossy.clear();
        self.reliable.clear();
        self.idle.clear();
    }
}

impl Queue {
    fn new(limits: QueueLimits) -> Self {
        Self {
            frames: VecDeque::new(),
            size_bytes: 0,
            limits,
        }
    }

    fn has_room_for(&self, frame: &Frame) -> bool {
        let fits = self.size_bytes + frame.size_bytes() <= self.limits.size_bytes_max;
        self.frames.is_empty() || (fits && self.frames.len() < self.limits.frames_max)
    }

    fn is_half_empty(&self) -> bool {
        self.frames.len() <= self.limits.frames_max / 2
            && self.size_bytes <= self.limits.size_bytes_max / 2
    }

    fn push(&mut self, frame: Frame) {
        self.size_bytes += frame.size_bytes();
        self.frames.push_back(frame);
    }

    /// Moves frames until `size_bytes_max` is reached, at least one; says what is left of it.
    fn take_into(&mut self, out: &mut Vec<Frame>, size_bytes_max: usize) -> usize {
        let mut left = size_bytes_max;
        let mut is_first = true;
        while let Some(frame) = self
            .frames
            .pop_front_if(|frame| is_first || frame.size_bytes() <= left)
        {
            is_first = false;
            self.size_bytes -= frame.size_bytes();
            left = left.saturating_sub(frame.size_bytes());
            out.push(frame);
        }
        left
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.size_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, task::Poll};

    use bytes::Bytes;

    use super::*;
    use crate::frame::{FrameKind, HEADER_SIZE_BYTES};

    const SESSION: Session = Session(1);
    /// Whole size of a frame of [`frame`], in bytes.
    const SIZE: usize = 100;

    fn frame(kind: u8) -> Frame {
        let payload = Bytes::from_static(&[0; SIZE - HEADER_SIZE_BYTES]);
        Frame::new(FrameKind(kind), vec![payload]).expect("it is small")
    }

    fn outgoing(frames_max: usize, size_bytes_max: usize) -> Outgoing {
        let limits = QueueLimits {
            frames_max,
            size_bytes_max,
        };
        let outgoing = Outgoing::new([limits; 3]);
        outgoing.open(SESSION);
        outgoing
    }

    fn kinds(outgoing: &Outgoing, size_bytes_max: usize) -> Vec<u8> {
        let frames = outgoing.try_take(size_bytes_max);
        frames.iter().map(|frame| frame.to_bytes()[4]).collect()
    }

    #[test]
    fn lossy_frames_are_dropped_and_counted_reliable_ones_are_given_back() {
        for outgoing in [outgoing(2, usize::MAX), outgoing(99, 2 * SIZE)] {
            for (i, taken) in [(20, true), (21, true), (22, false)] {
                assert_eq!(outgoing.send_lossy(frame(i)), taken);
                assert_eq!(outgoing.send(SESSION, frame(i + 10)).is_ok(), taken);
            }
            let refused = outgoing.send(SESSION, frame(99));
            assert!(matches!(refused, Err(SendError::Full(_))), "{refused:?}");
            assert_eq!(outgoing.counters().lossy_dropped, 1);
            assert_eq!(kinds(&outgoing, usize::MAX), [20, 21, 30, 31]);
        }
    }

    #[test]
    fn a_frame_that_is_larger_than_the_queue_is_taken_alone() {
        let outgoing = outgoing(9, SIZE / 2);
        assert!(outgoing.send(SESSION, frame(20)).is_ok());
        assert!(outgoing.send(SESSION, frame(21)).is_err());
    }

    #[test]
    fn a_flood_of_lossy_frames_does_not_starve_reliable_ones() {
        let outgoing = outgoing(9, usize::MAX);
        for i in 0..4 {
            assert!(outgoing.send_lossy(frame(20 + i)));
            assert!(outgoing.send(SESSION, frame(30 + i)).is_ok());
        }
        assert_eq!(kinds(&outgoing, 2 * SIZE), [20, 21, 30]);
        assert_eq!(kinds(&outgoing, 1), [22, 31]);
        assert_eq!(kinds(&outgoing, usize::MAX), [23, 32, 33]);
    }

    #[test]
    fn frames_of_another_session_are_refused_and_those_of_a_closed_one_forgotten() {
        let outgoing = outgoing(9, usize::MAX);
        let other = outgoing.send(Session(2), frame(20));
        assert!(matches!(other, Err(SendError::Down)), "{other:?}");
        assert!(outgoing.send(SESSION, frame(21)).is_ok());
        assert!(outgoing.send_lossy(frame(22)));
        outgoing.close();
        assert!(!outgoing.send_lossy(frame(23)));
        assert_eq!(outgoing.counters().lossy_dropped, 2);
        outgoing.open(Session(2));
        assert!(outgoing.send(SESSION, frame(24)).is_err());
        assert!(outgoing.send(Session(2), frame(25)).is_ok());
        assert_eq!(kinds(&outgoing, usize::MAX), [25]);
    }

    #[test]
    fn idle_frames_go_behind_all_others_and_one_of_them_always() {
        let outgoing = outgoing(9, usize::MAX);
        for i in 0..3 {
            assert!(outgoing.try_send_idle(SESSION, frame(40 + i)).is_ok());
            assert!(outgoing.send_lossy(frame(20 + i)));
            assert!(outgoing.send(SESSION, frame(30 + i)).is_ok());
        }
        assert_eq!(kinds(&outgoing, 2 * SIZE), [20, 21, 30, 40]);
        assert_eq!(kinds(&outgoing, 4 * SIZE), [22, 31, 32, 41]);
        assert_eq!(kinds(&outgoing, usize::MAX), [42]);
    }

    #[tokio::test]
    async fn who_sends_an_idle_frame_waits_for_room_or_for_the_end_of_the_session() {
        let outgoing = outgoing(1, usize::MAX);
        assert!(outgoing.send_idle(SESSION, frame(20)).await);
        let mut second = pin!(outgoing.send_idle(SESSION, frame(21)));
        let mut third = pin!(outgoing.send_idle(SESSION, frame(22)));
        let steps = std::future::poll_fn(|context| {
            let mut steps = vec![second.as_mut().poll(context)];
            assert_eq!(kinds(&outgoing, usize::MAX), [20]);
            steps.push(second.as_mut().poll(context));
            steps.push(third.as_mut().poll(context));
            outgoing.close();
            steps.push(third.as_mut().poll(context));
            Poll::Ready(steps)
        });
        let (waits, is_sent, is_over) = (Poll::Pending, Poll::Ready(true), Poll::Ready(false));
        assert_eq!(steps.await, [waits, is_sent, waits, is_over]);
    }

    #[tokio::test]
    async fn room_is_announced_once_and_only_to_those_who_were_refused() {
        let outgoing = outgoing(4, usize::MAX);
        let mut room = pin!(outgoing.room());
        let is_announced = std::future::poll_fn(|context| {
            assert!(outgoing.send(SESSION, frame(20)).is_ok());
            kinds(&outgoing, usize::MAX);
            let unasked = room.as_mut().poll(context).is_ready();
            while outgoing.send(SESSION, frame(20)).is_ok() {}
            kinds(&outgoing, SIZE);
            let above_half = room.as_mut().poll(context).is_ready();
            kinds(&outgoing, SIZE);
            let at_half = room.as_mut().poll(context).is_ready();
            Poll::Ready([unasked, above_half, at_half])
        });
        assert_eq!(is_announced.await, [false, false, true]);
    }
}
