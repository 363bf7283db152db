//! The socket with its two buffers.
//!
//! The socket is blocking, so that a busy reader needs one system call a read. Only writes are
//! made without waiting (`MSG_DONTWAIT`): when the socket is full, [`Transport::flush`] reads
//! what has arrived until there is room, because the server may be unable to read more from us
//! before we have read from it.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs as _},
    ops::Range,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::{error::ClientError, options::ConnectOptions};

/// What the read buffer starts with: idle connections should cost little.
const READ_BUFFER_SIZE_BYTES_MIN: usize = 16 << 10;

/// What one read asks for when the server is busy.
const READ_SIZE_BYTES: usize = 256 << 10;

/// Unflushed output from which [`Transport::flush_if_large`] flushes.
const WRITE_BATCH_SIZE_BYTES: usize = 64 << 10;

/// The socket and what waits on both sides of it.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    peer: String,
    input: Vec<u8>,
    /// The part of `input` that has been received and not been consumed.
    unread: Range<usize>,
    /// What goes out with the next flush.
    pub(crate) output: Vec<u8>,
    pub(crate) received_at: Instant,
    pub(crate) sent_at: Instant,
}

impl Transport {
    pub(crate) fn connect(options: &ConnectOptions) -> Result<Self, ClientError> {
        let peer = format!("{}:{}", options.host, options.port);
        let failed = |source| ClientError::Io {
            peer: peer.clone(),
            source,
        };
        let addresses = (options.host.as_str(), options.port)
            .to_socket_addrs()
            .map_err(failed)?;
        let mut result = Err(failed(io::ErrorKind::NotFound.into()));
        for address in addresses {
            result = TcpStream::connect_timeout(&address, options.timeout).map_err(failed);
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream.set_nodelay(true).map_err(failed)?;
        let now = Instant::now();
        Ok(Self {
            stream,
            peer,
            input: vec![0; READ_BUFFER_SIZE_BYTES_MIN],
            unread: 0..0,
            output: Vec::new(),
            received_at: now,
            sent_at: now,
        })
    }

    /// What has been received and not been consumed.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.unread.clone()]
    }

    /// Where [`Transport::unread`] starts in the buffer; see [`Transport::bytes`].
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.unread.start
    }

    /// Bytes of the buffer by position. They stay until the next read.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    #[inline]
    pub(crate) fn consume(&mut self, size: usize) {
        self.unread.start += size;
        debug_assert!(
            self.unread.start <= self.unread.end,
            "only received bytes are consumed"
        );
    }

    #[inline]
    pub(crate) fn flush_if_large(&mut self) -> Result<(), ClientError> {
        if self.output.len() < WRITE_BATCH_SIZE_BYTES {
            Ok(())
        } else {
            self.flush()
        }
    }

    /// Hands everything in `output` to the operating system.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        let mut sent = 0;
        while sent < self.output.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.stream, &self.output[sent..], flags) {
                Ok(size) => sent += size,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(error) => return Err(self.failed(error.into())),
            }
        }
        if sent > 0 {
            self.output.clear();
            self.sent_at = Instant::now();
        }
        Ok(())
    }

    /// Waits for bytes and appends them to the unread. Gives `false` if `deadline` passed first.
    pub(crate) fn read_more(&mut self, deadline: Option<Instant>) -> Result<bool, ClientError> {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self
                .wait_for(PollFlags::IN, Some(left))?
                .contains(PollFlags::IN)
            {
                return Ok(false);
            }
        }
        self.receive()?;
        Ok(true)
    }

    fn wait_for_room(&mut self) -> Result<(), ClientError> {
        let ready = self.wait_for(PollFlags::IN | PollFlags::OUT, None)?;
        if ready.contains(PollFlags::IN) {
            self.receive()
        } else {
            Ok(())
        }
    }

    /// The conditions that hold; a hang-up counts as readable, so that the read reports it.
    fn wait_for(
        &self,
        flags: PollFlags,
        timeout: Option<Duration>,
    ) -> Result<PollFlags, ClientError> {
        let mut fds = [PollFd::new(&self.stream, flags)];
        let timespec = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timespec.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(PollFlags::empty()),
            Err(error) => return Err(self.failed(error.into())),
        }
        let found = fds[0].revents();
        let hung_up = PollFlags::HUP | PollFlags::ERR;
        Ok(if found.intersects(hung_up) {
            found | PollFlags::IN
        } else {
            found
        })
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        self.make_room();
        loop {
            let room = &mut self.input[self.unread.end..];
            let asked = room.len();
            match recv(&self.stream, room, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok((_, size)) => {
                    self.unread.end += size;
                    if size == asked && self.input.len() < READ_SIZE_BYTES {
                        self.input.resize(self.input.len() * 2, 0);
                    }
                    self.received_at = Instant::now();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error.into())),
            }
        }
    }

    /// Moves the unread bytes to the front, and grows the buffer if they fill half of it.
    fn make_room(&mut self) {
        if self.unread.start > 0 {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end * 2 > self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
    }

    #[cold]
    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            peer: self.peer.clone(),
            source,
        }
    }
}
