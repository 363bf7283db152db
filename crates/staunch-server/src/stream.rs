//! The bytes of one connection, with or without TLS, read and written without waiting.
//!
//! A connection task asks whether the stream is ready, then takes and gives what it can at once.
//! tokio's own TLS stream was rejected after the handshake: it has no such calls, and the task
//! would need a copy of every byte in either direction to get them.

use std::io::{self, BufRead as _, Read, Write};

use bytes::BytesMut;
use rustls::ServerConnection;
use tokio::{io::Interest, net::TcpStream};

/// Encrypted bytes that may wait for the socket, beyond which no more are made, in bytes.
const TLS_OUTPUT_SIZE_BYTES_MAX: usize = 64 * 1024;

/// A socket after its handshakes.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// A TLS session on a socket.
pub(crate) struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    /// Decrypted bytes wait in the session.
    has_plaintext: bool,
}

impl Stream {
    /// A session whose handshake is done.
    pub(crate) fn encrypted(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(TLS_OUTPUT_SIZE_BYTES_MAX));
        // What came with the last message of the handshake is decrypted already.
        let has_plaintext = session
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        Self::Tls(Box::new(Tls {
            socket,
            session,
            has_plaintext,
        }))
    }

    /// The TLS session, if there is one.
    pub(crate) fn session(&self) -> Option<&ServerConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(&tls.session),
        }
    }

    /// Waits until one of what is wanted can be done; true if there may be something to read.
    pub(crate) async fn ready(&self, wants_read: bool, wants_write: bool) -> io::Result<bool> {
        let interest = match (wants_read, wants_write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        if let Self::Tls(tls) = self
            && tls.has_plaintext
            && wants_read
        {
            return Ok(true);
        }
        Ok(self.socket().ready(interest).await?.is_readable())
    }

    /// Reads what is there, no more than fits into `buffer`; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; others end the stream.
    pub(crate) fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes as much of `bytes` as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is taken; others end the stream.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Whether everything that was taken has left for the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => !tls.session.wants_write(),
        }
    }

    /// Sends on what was taken and has not left yet.
    ///
    /// # Errors
    /// `WouldBlock` if some of it has to wait; others end the stream.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Says goodbye as the protocol below wants it; the peer may not be there to hear it.
    pub(crate) fn finish(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            if let Err(error) = tls.try_flush() {
                tracing::trace!(event = "tls.close_notify", %error, "no close_notify");
            }
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }
}

impl Tls {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let mut size = 0;
        while size < room {
            match self.read_some(buffer, room - size) {
                // The end of the stream; it is found again by the next read.
                Ok(0) => break,
                Ok(read) => size += read,
                Err(error) if size > 0 && error.kind() != io::ErrorKind::InvalidData => break,
                Err(error) => return Err(error),
            }
        }
        Ok(size)
    }

    /// Moves decrypted bytes, after reading and decrypting more if there are none.
    fn read_some(&mut self, buffer: &mut BytesMut, size_max: usize) -> io::Result<usize> {
        loop {
            match self.take_plaintext(buffer, size_max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive()?,
                taken => return taken,
            }
        }
    }

    /// Moves at most `size_max` decrypted bytes.
    fn take_plaintext(&mut self, buffer: &mut BytesMut, size_max: usize) -> io::Result<usize> {
        self.has_plaintext = false;
        let mut reader = self.session.reader();
        let chunk = reader.fill_buf()?;
        let size = chunk.len().min(size_max);
        buffer.extend_from_slice(&chunk[..size]);
        self.has_plaintext = size > 0;
        reader.consume(size);
        Ok(size)
    }

    /// Reads from the socket and decrypts what is complete.
    fn receive(&mut self) -> io::Result<()> {
        self.session.read_tls(&mut NonBlocking(&self.socket))?;
        let processed = self.session.process_new_packets();
        // An alert may have been made, also by an error.
        let flushed = self.try_flush();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        match self.try_flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken == 0 => Err(error),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) if taken == 0 => Ok(self.session.writer().write(bytes)?),
            Ok(()) | Err(_) => Ok(taken),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut NonBlocking(&self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// A socket with the synchronous calls that a TLS session wants.
struct NonBlocking<'a>(&'a TcpStream);

impl Read for NonBlocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
