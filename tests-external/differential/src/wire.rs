//! A raw AMQP 0-9-1 connection: sends methods, assembles contents, hides nothing.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, connection};
use amq_protocol::types::{AMQPValue, FieldTable};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Something a broker sent on a channel.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A method without content.
    Method(u16, AMQPClass),
    /// A method with its content.
    Content(u16, AMQPClass, Box<BasicProperties>, Vec<u8>),
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    partial: HashMap<u16, Partial>,
    arrived: Vec<Incoming>,
    is_over: bool,
}

struct Partial {
    method: AMQPClass,
    header: Option<AMQPContentHeader>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects and logs in as `guest`; the virtual host is `/`.
    pub fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut this = Self {
            stream,
            input: Vec::new(),
            output: b"AMQP\0\0\x09\x01".to_vec(),
            partial: HashMap::new(),
            arrived: Vec::new(),
            is_over: false,
        };
        this.flush();
        this.wait_method("Start")?;
        let mut capabilities = FieldTable::default();
        for name in ["basic.nack", "publisher_confirms", "consumer_cancel_notify"] {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
        let mut client_properties = FieldTable::default();
        let capabilities = AMQPValue::FieldTable(capabilities);
        client_properties.insert("capabilities".into(), capabilities);
        let start_ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
        };
        this.send_connection(connection::AMQPMethod::StartOk(start_ok));
        this.wait_method("Tune")?;
        let tune_ok = connection::TuneOk {
            channel_max: 64,
            frame_max: 131_072,
            heartbeat: 0,
        };
        this.send_connection(connection::AMQPMethod::TuneOk(tune_ok));
        let open = connection::Open {
            virtual_host: "/".into(),
        };
        this.send_connection(connection::AMQPMethod::Open(open));
        this.wait_method("OpenOk")?;
        Ok(this)
    }

    /// Queues a method.
    pub fn send(&mut self, channel: u16, method: AMQPClass) {
        self.put(&AMQPFrame::Method(channel, method));
    }

    /// Queues a publish with its content.
    pub fn publish(
        &mut self,
        channel: u16,
        method: basic::Publish,
        properties: BasicProperties,
        body: &[u8],
    ) {
        self.send(
            channel,
            AMQPClass::Basic(basic::AMQPMethod::Publish(method)),
        );
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: body.len() as u64,
            properties,
        };
        self.put(&AMQPFrame::Header(channel, header));
        if !body.is_empty() {
            self.put(&AMQPFrame::Body(channel, body.to_vec()));
        }
    }

    /// Writes what is queued.
    pub fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        let blocking = self.stream.set_nonblocking(false);
        if blocking.is_err() || self.stream.write_all(&output).is_err() {
            self.is_over = true;
        }
    }

    /// What has arrived; waits for something up to `timeout`.
    pub fn receive(&mut self, timeout: Duration) -> Vec<Incoming> {
        self.read(timeout);
        std::mem::take(&mut self.arrived)
    }

    /// Whether the socket is closed.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Closes in good order and waits until the broker has let go of everything.
    pub fn close(mut self) {
        let close = connection::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            class_id: 0,
            method_id: 0,
        };
        self.send_connection(connection::AMQPMethod::Close(close));
        drop(self.wait_method("CloseOk"));
    }

    fn send_connection(&mut self, method: connection::AMQPMethod) {
        self.send(0, AMQPClass::Connection(method));
        self.flush();
    }

    fn put(&mut self, frame: &AMQPFrame) {
        let context = WriteContext::from(std::mem::take(&mut self.output));
        let written = gen_frame(frame)(context).expect("a frame is written to memory");
        self.output = written.into_inner().0;
    }

    fn wait_method(&mut self, name: &str) -> Result<(), String> {
        let end = Instant::now() + HANDSHAKE_TIMEOUT;
        while Instant::now() < end {
            for incoming in self.receive(Duration::from_millis(100)) {
                if let Incoming::Method(0, method) = incoming {
                    let method = format!("{method:?}");
                    if method.starts_with(&format!("Connection({name}(")) {
                        return Ok(());
                    }
                    if method.starts_with("Connection(Close(") {
                        return Err(method);
                    }
                }
            }
            if self.is_over {
                break;
            }
        }
        Err(format!("no {name}"))
    }

    fn read(&mut self, timeout: Duration) {
        let mut buffer = [0; 64 * 1024];
        let mut is_first = true;
        while !self.is_over {
            let mode = if is_first && !timeout.is_zero() && self.arrived.is_empty() {
                self.stream
                    .set_nonblocking(false)
                    .and_then(|()| self.stream.set_read_timeout(Some(timeout)))
            } else {
                self.stream.set_nonblocking(true)
            };
            is_first = false;
            match mode.and_then(|()| self.stream.read(&mut buffer)) {
                Ok(0) => self.is_over = true,
                Ok(size) => {
                    self.input.extend_from_slice(&buffer[..size]);
                    self.parse();
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return;
                }
                Err(_) => self.is_over = true,
            }
        }
    }

    fn parse(&mut self) {
        let mut used = 0;
        loop {
            let rest = &self.input[used..];
            // Type, channel, size, payload, end.
            let Some(size) = rest.get(3..7) else { break };
            let size = u32::from_be_bytes(size.try_into().expect("four bytes")) as usize + 8;
            let Some(frame) = rest.get(..size) else { break };
            used += size;
            match parse_frame(frame) {
                Ok((_, frame)) => self.arrive(frame),
                Err(error) => panic!("a broker sent a frame that is none: {error:?}"),
            }
        }
        self.input.drain(..used);
    }

    fn arrive(&mut self, frame: AMQPFrame) {
        match frame {
            AMQPFrame::Method(channel, method) => match &method {
                AMQPClass::Basic(
                    basic::AMQPMethod::Deliver(_)
                    | basic::AMQPMethod::Return(_)
                    | basic::AMQPMethod::GetOk(_),
                ) => {
                    let partial = Partial {
                        method,
                        header: None,
                        body: Vec::new(),
                    };
                    self.partial.insert(channel, partial);
                }
                AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                    self.arrived.push(Incoming::Method(channel, method));
                    let close_ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
                    self.send_connection(close_ok);
                    self.is_over = true;
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                    self.send(channel, AMQPClass::Channel(close_ok));
                    self.flush();
                    self.arrived.push(Incoming::Method(channel, method));
                }
                _ => self.arrived.push(Incoming::Method(channel, method)),
            },
            AMQPFrame::Header(channel, header) => {
                let partial = self.partial.get_mut(&channel);
                partial.expect("a method came before").header = Some(header);
                self.complete(channel);
            }
            AMQPFrame::Body(channel, body) => {
                let partial = self.partial.get_mut(&channel);
                let partial = partial.expect("a method came before");
                partial.body.extend_from_slice(&body);
                self.complete(channel);
            }
            AMQPFrame::Heartbeat
            | AMQPFrame::InvalidHeartbeat(_)
            | AMQPFrame::ProtocolHeader(_) => {}
        }
    }

    fn complete(&mut self, channel: u16) {
        let is_whole = self.partial.get(&channel).is_some_and(|partial| {
            let header = partial.header.as_ref();
            header.is_some_and(|header| header.body_size == partial.body.len() as u64)
        });
        if is_whole && let Some(partial) = self.partial.remove(&channel) {
            let header = partial.header.expect("checked");
            let properties = Box::new(header.properties);
            let content = Incoming::Content(channel, partial.method, properties, partial.body);
            self.arrived.push(content);
        }
    }
}
