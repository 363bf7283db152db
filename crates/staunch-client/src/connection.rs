//! A connection: calls with their answers, and everything that comes in between.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use staunch_amqp_codec::{
    frame::{Frame, FrameKind, HEARTBEAT_FRAME},
    methods::{
        ChannelClose, ChannelCloseOk, ChannelFlowOk, ChannelOpen, ConnectionClose,
        ConnectionCloseOk, Method,
    },
    wire::ShortStr,
};
use staunch_types::{ChannelNumber, FieldTable};

use crate::{
    confirms::Unconfirmed,
    error::ClientError,
    handshake::{self, Tuned},
    incoming::{Assembly, Confirm, Content, Incoming, Scanned, confirm, scan, starts_content},
    options::ConnectOptions,
    transport::Transport,
};

/// A connection to a server, for one thread.
#[derive(Debug)]
pub struct Connection {
    pub(crate) transport: Transport,
    tuned: Tuned,
    timeout: Duration,
    /// By channel number, the first for channel 1.
    channels: Vec<Option<ChannelState>>,
    /// What came while a call waited for its answer.
    kept: VecDeque<Kept>,
    /// The message that [`Connection::next`] has lent out, if it does not lie in the buffer.
    lent: Option<(u16, Assembly)>,
    /// Messages that have begun, by channel.
    assemblies: BTreeMap<u16, Assembly>,
    blocked_reason: Option<String>,
}

/// What the client knows about an open channel.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// In confirm mode, what has not been confirmed.
    pub(crate) unconfirmed: Option<Unconfirmed>,
}

/// Something that came at the wrong time for whoever was reading.
#[derive(Debug)]
enum Kept {
    Content(u16, Assembly),
    Notice(Notice),
}

/// An [`Incoming`] without bytes.
#[derive(Clone, Copy, Debug)]
enum Notice {
    Confirm(Confirm),
    ConsumerCancelled(u16),
    Blocked,
    Unblocked,
}

/// What one step of reading found; messages and replies are still in the buffer.
enum Step {
    Content {
        channel: u16,
        method: Range<usize>,
        properties: Range<usize>,
        body: Range<usize>,
    },
    /// In `lent`.
    Assembled,
    Notice(Notice),
    Reply {
        channel: u16,
        payload: Range<usize>,
    },
}

impl Connection {
    /// Connects, logs in and opens the virtual host.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(options: &ConnectOptions) -> Result<Self, ClientError> {
        let mut connection = Self {
            transport: Transport::connect(options)?,
            tuned: Tuned::before(),
            timeout: options.timeout,
            channels: Vec::new(),
            kept: VecDeque::new(),
            lent: None,
            assemblies: BTreeMap::new(),
            blocked_reason: None,
        };
        connection.tuned = handshake::perform(&mut connection, options)?;
        Ok(connection)
    }

    /// What the server said about itself when the connection was opened.
    pub fn server_properties(&self) -> &FieldTable {
        &self.tuned.server_properties
    }

    /// The largest frame both sides agreed on, in bytes.
    pub fn frame_max(&self) -> u32 {
        self.tuned.frame_max
    }

    /// Why the server takes no publishes at the moment, if so (`connection.blocked`).
    pub fn blocked_reason(&self) -> Option<&str> {
        self.blocked_reason.as_deref()
    }

    /// Opens the lowest channel that is free.
    ///
    /// # Errors
    /// When there is none, or the server refuses.
    pub fn open_channel(&mut self) -> Result<ChannelNumber, ClientError> {
        let free = self.channels.iter().position(Option::is_none);
        let index = free.unwrap_or(self.channels.len());
        let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
        if self.tuned.channel_max != 0 && number > self.tuned.channel_max {
            return Err(ClientError::NoChannel { channel: number });
        }
        if index == self.channels.len() {
            self.channels.push(None);
        }
        self.channels[index] = Some(ChannelState::default());
        let channel = ChannelNumber(number);
        self.call(
            channel,
            Method::ChannelOpen(ChannelOpen::default()),
            |reply| match reply {
                Method::ChannelOpenOk(_) => Some(()),
                _ => None,
            },
        )?;
        Ok(channel)
    }

    /// Closes a channel; what the server still sent on it is thrown away.
    ///
    /// # Errors
    /// When the channel is not open or the connection fails.
    pub fn close_channel(&mut self, channel: ChannelNumber) -> Result<(), ClientError> {
        self.channel_state(channel)?;
        let close = ChannelClose {
            reply_code: 200,
            ..ChannelClose::default()
        };
        self.call(channel, Method::ChannelClose(close), |reply| match reply {
            Method::ChannelCloseOk(_) => Some(()),
            _ => None,
        })?;
        self.forget_channel(channel.0);
        Ok(())
    }

    /// Says goodbye and waits for the answer.
    ///
    /// # Errors
    /// When the connection failed before.
    pub fn close(mut self) -> Result<(), ClientError> {
        let close = ConnectionClose {
            reply_code: 200,
            ..ConnectionClose::default()
        };
        self.call(
            ChannelNumber(0),
            Method::ConnectionClose(close),
            |reply| match reply {
                Method::ConnectionCloseOk(_) => Some(()),
                _ => None,
            },
        )
    }

    /// Hands everything that has gathered to the operating system.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.transport.flush()
    }

    /// Forgets what has gathered and was not sent. After a failed write, [`Connection::next`]
    /// then still gives what the server had sent before it went: the last confirms, for example.
    pub fn abandon_output(&mut self) {
        self.transport.output.clear();
    }

    /// The next thing the server sends by itself, after flushing if nothing has arrived yet.
    /// Waits at most `timeout`, or for ever; `None` when that has passed.
    ///
    /// # Errors
    /// When the server closes the channel or the connection, or the connection fails. A channel
    /// that the server closed is gone; the others go on.
    #[inline]
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Incoming<'_>>, ClientError> {
        match self.kept_step() {
            Some(step) => self.incoming(step).map(Some),
            None => match self.step(&mut Wait::new(timeout))? {
                Some(step) => self.incoming(step).map(Some),
                None => Ok(None),
            },
        }
    }

    /// As [`Connection::next`], but only what has been read from the socket already: no system
    /// call, no flush.
    ///
    /// # Errors
    /// As [`Connection::next`].
    #[inline]
    pub fn next_received(&mut self) -> Result<Option<Incoming<'_>>, ClientError> {
        let step = match self.kept_step() {
            Some(step) => Some(step),
            None => self.received_step()?,
        };
        match step {
            Some(step) => self.incoming(step).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn incoming(&self, step: Step) -> Result<Incoming<'_>, ClientError> {
        let content = match step {
            Step::Content {
                channel,
                method,
                properties,
                body,
            } => {
                let bytes = |range| self.transport.bytes(range);
                let (method, properties) = (bytes(method), bytes(properties));
                Content {
                    channel,
                    method,
                    properties,
                    body: bytes(body),
                }
            }
            Step::Assembled => self.lent_content(),
            Step::Notice(notice) => return Ok(notice.incoming()),
            Step::Reply { payload, .. } => return Err(self.unexpected(payload, "no answer")),
        };
        match content.incoming()? {
            Some(incoming) => Ok(incoming),
            None => Err(ClientError::Unexpected {
                found: "basic.get-ok",
                expected: "no answer",
            }),
        }
    }

    /// How many publishes of a channel are not confirmed.
    pub fn unconfirmed_count(&self, channel: ChannelNumber) -> usize {
        let state = self.channels.get(usize::from(channel.0).wrapping_sub(1));
        let unconfirmed = state.and_then(|state| state.as_ref()?.unconfirmed.as_ref());
        unconfirmed.map_or(0, Unconfirmed::len)
    }

    /// Waits until every publish of the channel is confirmed. Gives the numbers that were
    /// refused. Whatever else arrives waits for [`Connection::next`].
    ///
    /// # Errors
    /// As [`Connection::next`], and [`ClientError::Timeout`].
    pub fn wait_for_confirms(
        &mut self,
        channel: ChannelNumber,
        timeout: Duration,
    ) -> Result<Vec<u64>, ClientError> {
        self.flush()?;
        let mut refused = Vec::new();
        let mut wait = Wait::new(Some(timeout));
        while self.unconfirmed_count(channel) > 0 {
            let Some(step) = self.step(&mut wait)? else {
                return Err(ClientError::Timeout { waited: timeout });
            };
            match step {
                Step::Notice(Notice::Confirm(confirm)) if confirm.channel == channel => {
                    if !confirm.is_ack {
                        refused.push(confirm.tag);
                    }
                }
                other => self.keep(other)?,
            }
        }
        Ok(refused)
    }

    /// Sends a method and waits for the answer that `accept` knows.
    pub(crate) fn call<T>(
        &mut self,
        channel: ChannelNumber,
        method: Method<'_>,
        accept: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        method.encode_frame(channel.0, &mut self.transport.output);
        self.await_reply(channel, method.name(), accept)
    }

    /// Waits for the answer to a method that has been sent, or at least encoded.
    pub(crate) fn await_reply<T>(
        &mut self,
        channel: ChannelNumber,
        to: &'static str,
        accept: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        let timeout = self.timeout;
        let mut wait = Wait::new(Some(timeout));
        loop {
            let Some(step) = self.step(&mut wait)? else {
                return Err(ClientError::Timeout { waited: timeout });
            };
            match step {
                Step::Reply {
                    channel: replied,
                    payload,
                } if replied == channel.0 => {
                    let method = Method::decode(self.transport.bytes(payload.clone()))?;
                    return accept(&method).ok_or_else(|| self.unexpected(payload, to));
                }
                other => self.keep(other)?,
            }
        }
    }

    /// Waits for the message or the method that answers a get; `None` means the queue is empty.
    pub(crate) fn await_get<T>(
        &mut self,
        channel: ChannelNumber,
        take: impl Fn(Content<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let timeout = self.timeout;
        let mut wait = Wait::new(Some(timeout));
        loop {
            let Some(step) = self.step(&mut wait)? else {
                return Err(ClientError::Timeout { waited: timeout });
            };
            let taken = match &step {
                Step::Content {
                    channel: from,
                    method,
                    properties,
                    body,
                } => {
                    let bytes = |range: &Range<usize>| self.transport.bytes(range.clone());
                    let (method, properties) = (bytes(method), bytes(properties));
                    take(Content {
                        channel: *from,
                        method,
                        properties,
                        body: bytes(body),
                    })?
                }
                Step::Assembled => take(self.lent_content())?,
                Step::Reply {
                    channel: replied,
                    payload,
                } if *replied == channel.0 => {
                    let method = Method::decode(self.transport.bytes(payload.clone()))?;
                    return match method {
                        Method::BasicGetEmpty(_) => Ok(None),
                        _ => Err(self.unexpected(payload.clone(), "basic.get-ok")),
                    };
                }
                Step::Reply { .. } | Step::Notice(_) => None,
            };
            match taken {
                Some(taken) => return Ok(Some(taken)),
                None => self.keep(step)?,
            }
        }
    }

    #[inline]
    pub(crate) fn channel_state(
        &mut self,
        channel: ChannelNumber,
    ) -> Result<&mut ChannelState, ClientError> {
        let state = self
            .channels
            .get_mut(usize::from(channel.0).wrapping_sub(1));
        match state.and_then(Option::as_mut) {
            Some(state) => Ok(state),
            None => Err(ClientError::NoChannel { channel: channel.0 }),
        }
    }

    /// Reads until there is something for somebody; `None` when the wait is over.
    #[inline]
    fn step(&mut self, wait: &mut Wait) -> Result<Option<Step>, ClientError> {
        loop {
            let step = self.received_step()?;
            if step.is_some() {
                return Ok(step);
            }
            self.transport.flush()?;
            if !self.read_more(wait)? {
                return Ok(None);
            }
        }
    }

    /// What is in the read buffer; `None` when nothing in it is complete.
    #[inline]
    fn received_step(&mut self) -> Result<Option<Step>, ClientError> {
        loop {
            let Some(scanned) = scan(&mut self.transport, self.tuned.frame_max)? else {
                return Ok(None);
            };
            let step = match scanned {
                Scanned::Content {
                    channel,
                    method,
                    properties,
                    body,
                } => {
                    return Ok(Some(Step::Content {
                        channel,
                        method,
                        properties,
                        body,
                    }));
                }
                Scanned::Frame {
                    kind: FrameKind::Heartbeat,
                    ..
                } => None,
                Scanned::Frame {
                    kind: FrameKind::Method,
                    channel,
                    payload,
                } => self.handle_method(channel, payload)?,
                Scanned::Frame {
                    kind,
                    channel,
                    payload,
                } => self.handle_content_frame(kind, channel, payload)?,
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    fn handle_content_frame(
        &mut self,
        kind: FrameKind,
        channel: u16,
        payload: Range<usize>,
    ) -> Result<Option<Step>, ClientError> {
        let out_of_order = ClientError::ContentOutOfOrder { channel };
        let assembly = self.assemblies.get_mut(&channel).ok_or(out_of_order)?;
        let payload = self.transport.bytes(payload);
        if !assembly.push(Frame {
            kind,
            channel,
            payload,
        })? {
            return Ok(None);
        }
        self.lent = self
            .assemblies
            .remove(&channel)
            .map(|assembly| (channel, assembly));
        Ok(Some(Step::Assembled))
    }

    fn handle_method(
        &mut self,
        channel: u16,
        payload: Range<usize>,
    ) -> Result<Option<Step>, ClientError> {
        let bytes = self.transport.bytes(payload.clone());
        if starts_content(bytes) {
            self.assemblies.insert(channel, Assembly::new(bytes));
            return Ok(None);
        }
        let method = Method::decode(bytes)?;
        if let Some(confirm) = confirm(channel, &method) {
            let unconfirmed = self.channel_state(confirm.channel)?.unconfirmed.as_mut();
            if let Some(unconfirmed) = unconfirmed {
                unconfirmed.settle(confirm.tag, confirm.multiple, drop);
            }
            return Ok(Some(Step::Notice(Notice::Confirm(confirm))));
        }
        let notice = match method {
            Method::ConnectionClose(close) => {
                let (code, text) = (close.reply_code, text(close.reply_text));
                self.answer(0, Method::ConnectionCloseOk(ConnectionCloseOk))?;
                return Err(ClientError::ConnectionClosed { code, text });
            }
            Method::ChannelClose(close) => {
                let (code, text) = (close.reply_code, text(close.reply_text));
                self.answer(channel, Method::ChannelCloseOk(ChannelCloseOk))?;
                self.forget_channel(channel);
                return Err(ClientError::ChannelClosed {
                    channel,
                    code,
                    text,
                });
            }
            Method::ConnectionBlocked(blocked) => {
                self.blocked_reason = Some(text(blocked.reason));
                Notice::Blocked
            }
            Method::ConnectionUnblocked(_) => {
                self.blocked_reason = None;
                Notice::Unblocked
            }
            Method::BasicCancel(_) => Notice::ConsumerCancelled(channel),
            Method::ChannelFlow(flow) => {
                let flow_ok = ChannelFlowOk {
                    active: flow.active,
                };
                self.answer(channel, Method::ChannelFlowOk(flow_ok))?;
                return Ok(None);
            }
            _ => return Ok(Some(Step::Reply { channel, payload })),
        };
        Ok(Some(Step::Notice(notice)))
    }

    fn answer(&mut self, channel: u16, method: Method<'_>) -> Result<(), ClientError> {
        method.encode_frame(channel, &mut self.transport.output);
        self.transport.flush()
    }

    fn forget_channel(&mut self, channel: u16) {
        self.assemblies.remove(&channel);
        self.kept.retain(|kept| kept.channel() != Some(channel));
        if let Some(state) = self.channels.get_mut(usize::from(channel).wrapping_sub(1)) {
            *state = None;
        }
    }

    /// Reads from the socket, keeping the heartbeat; `false` when the wait is over.
    fn read_more(&mut self, wait: &mut Wait) -> Result<bool, ClientError> {
        let Some(interval) = self.tuned.heartbeat else {
            return self.transport.read_more(wait.deadline());
        };
        loop {
            let now = Instant::now();
            if now >= self.transport.sent_at + interval / 2 {
                self.transport.output.extend_from_slice(&HEARTBEAT_FRAME);
                self.transport.flush()?;
            }
            if now >= self.transport.received_at + interval * 2 {
                return Err(ClientError::Timeout {
                    waited: interval * 2,
                });
            }
            let next = now + interval / 2;
            let deadline = wait.deadline();
            let until = deadline.map_or(next, |deadline| deadline.min(next));
            if self.transport.read_more(Some(until))? {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }

    fn lent_content(&self) -> Content<'_> {
        let (channel, assembly) = self.lent.as_ref().expect("an assembled message is lent");
        assembly.content(*channel)
    }

    /// Puts aside what the caller cannot use now.
    fn keep(&mut self, step: Step) -> Result<(), ClientError> {
        let kept = match step {
            Step::Content {
                channel,
                method,
                properties,
                body,
            } => {
                let bytes = |range| self.transport.bytes(range);
                let (method, properties) = (bytes(method), bytes(properties));
                let content = Content {
                    channel,
                    method,
                    properties,
                    body: bytes(body),
                };
                Kept::Content(channel, content.to_owned())
            }
            Step::Assembled => {
                let (channel, assembly) = self.lent.take().expect("an assembled message is lent");
                Kept::Content(channel, assembly)
            }
            Step::Notice(notice) => Kept::Notice(notice),
            Step::Reply { payload, .. } => return Err(self.unexpected(payload, "another answer")),
        };
        self.kept.push_back(kept);
        Ok(())
    }

    #[inline]
    fn kept_step(&mut self) -> Option<Step> {
        Some(match self.kept.pop_front()? {
            Kept::Content(channel, assembly) => {
                self.lent = Some((channel, assembly));
                Step::Assembled
            }
            Kept::Notice(notice) => Step::Notice(notice),
        })
    }

    #[cold]
    fn unexpected(&self, payload: Range<usize>, expected: &'static str) -> ClientError {
        match Method::decode(self.transport.bytes(payload)) {
            Ok(method) => ClientError::Unexpected {
                found: method.name(),
                expected,
            },
            Err(error) => error.into(),
        }
    }
}

impl Kept {
    fn channel(&self) -> Option<u16> {
        match self {
            Self::Content(channel, _) | Self::Notice(Notice::ConsumerCancelled(channel)) => {
                Some(*channel)
            }
            Self::Notice(Notice::Confirm(confirm)) => Some(confirm.channel.0),
            Self::Notice(Notice::Blocked | Notice::Unblocked) => None,
        }
    }
}

impl Notice {
    fn incoming(self) -> Incoming<'static> {
        match self {
            Self::Confirm(confirm) => Incoming::Confirm(confirm),
            Self::ConsumerCancelled(channel) => Incoming::ConsumerCancelled {
                channel: ChannelNumber(channel),
            },
            Self::Blocked => Incoming::Blocked,
            Self::Unblocked => Incoming::Unblocked,
        }
    }
}

/// How long to wait. The clock is read only when there is something to wait for.
struct Wait {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
}

impl Wait {
    #[inline]
    fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            deadline: None,
        }
    }

    fn deadline(&mut self) -> Option<Instant> {
        let timeout = self.timeout?;
        Some(
            *self
                .deadline
                .get_or_insert_with(|| Instant::now() + timeout),
        )
    }
}

/// A name as it goes over the wire.
pub(crate) fn short(name: &str) -> Result<ShortStr<'_>, ClientError> {
    let too_long = ClientError::NameTooLong {
        size_bytes: name.len(),
    };
    ShortStr::new(name.as_bytes()).ok_or(too_long)
}

/// A text from the wire.
pub(crate) fn text(bytes: ShortStr<'_>) -> String {
    String::from_utf8_lossy(bytes.as_bytes()).into_owned()
}
