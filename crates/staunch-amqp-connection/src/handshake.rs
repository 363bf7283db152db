//! From the protocol header to `connection.open-ok` (AMQP 0-9-1, section 2.2.4).
//!
//! Until a client has tuned, no frame of it may exceed [`Config::initial_frame_max`], so a
//! stranger costs little memory.

use std::time::Duration;

use staunch_amqp_codec::{
    frame::{FRAME_MIN_SIZE_BYTES, Frame, ProtocolHeader},
    methods::{
        ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionStartOk, ConnectionTune,
        ConnectionTuneOk, Method,
    },
    wire::ShortStr,
};
use staunch_types::{
    FieldTable, Name, Operation, Peer, Refusal, Request,
    field_table::{TableBuilder, Value},
    request::Login,
};

use crate::{
    close::CloseReason,
    config::Config,
    connection::{Connection, State},
    error::{MethodId, PeerError},
    input::{Mistake, decode_method_on_0},
    refusal,
    sasl::{self, Mechanism},
};

/// Bytes of the protocol header.
const HEADER_SIZE_BYTES: usize = 8;

const LOCALES: &[u8] = b"en_US";

const START_OK: MethodId = MethodId(10, 11);
/// RabbitMQ blames `connection.tune` for a failed negotiation.
const TUNE: MethodId = MethodId(10, 30);

/// Celery and kombu connect with this. They raise the prefetch of consumers that run by
/// `basic.qos` without `global`, which RabbitMQ ignores: a worker stalls once tasks for later
/// fill its prefetch (docs/decisions, product).
const PRODUCT_THAT_LIMITS_CONSUMERS: &str = "py-amqp";

/// What RabbitMQ offers and Staunch does too (reference 1.3).
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

impl Connection {
    /// Takes the protocol header; `None` while it is not complete.
    pub(crate) fn take_header(&mut self, input: &[u8]) -> Option<usize> {
        let header = ProtocolHeader::decode(input)?;
        if !matches!(header, ProtocolHeader::Amqp091 | ProtocolHeader::Amqp09) {
            self.output.raw(&header.refusal());
            self.end(CloseReason::ForeignProtocol(header));
            return Some(input.len());
        }
        let properties = server_properties(&self.config);
        self.output.method(
            0,
            ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: properties.as_table_ref(),
                mechanisms: sasl::offered(&self.config, &self.transport).as_bytes(),
                locales: LOCALES,
            },
        );
        self.state = State::Starting;
        Some(HEADER_SIZE_BYTES)
    }

    /// Takes a frame between `connection.start` and `connection.open`.
    pub(crate) fn take_handshake_frame(&mut self, frame: Frame<'_>) -> Result<(), Mistake> {
        if frame.channel != 0 {
            return Err((PeerError::unexpected_frame(frame), MethodId::default()));
        }
        let Some(method) = decode_method_on_0(frame)? else {
            return Ok(());
        };
        match (self.state, method) {
            (State::Starting, Method::ConnectionStartOk(start_ok)) => self
                .take_start_ok(&start_ok)
                .map_err(|error| (error, START_OK)),
            (State::Tuning, Method::ConnectionTuneOk(tune_ok)) => {
                self.take_tune_ok(tune_ok).map_err(|error| (error, TUNE))
            }
            (State::Opening, Method::ConnectionOpen(open)) => {
                self.take_open(&open);
                Ok(())
            }
            (_, Method::ConnectionClose(close)) => {
                self.close_for_client(&close);
                Ok(())
            }
            (state, _) => {
                let state = match state {
                    State::Starting => "starting",
                    State::Tuning => "tuning",
                    _ => "opening",
                };
                let method = MethodId::of_payload(frame.payload);
                Err((PeerError::UnexpectedMethod { state }, method))
            }
        }
    }

    pub(crate) fn handle_login_accepted(&mut self, user: Name) {
        let State::LoggingIn { .. } = self.state else {
            return;
        };
        self.client.user = Some(user);
        self.output.method(
            0,
            ConnectionTune {
                channel_max: self.config.channel_max,
                frame_max: self.config.frame_max,
                heartbeat: heartbeat_seconds(self.config.heartbeat),
            },
        );
        self.state = State::Tuning;
    }

    pub(crate) fn handle_login_refused(&mut self) {
        let State::LoggingIn { mechanism } = self.state else {
            return;
        };
        if self.client.knows_login_refused {
            let error = PeerError::LoginRefused { mechanism };
            self.fail_connection(&error.into_fault(MethodId::default()));
        } else {
            self.refuse_login_silently();
        }
    }

    pub(crate) fn handle_vhost_opened(&mut self) {
        let State::OpeningVhost = self.state else {
            return;
        };
        self.output.method(
            0,
            ConnectionOpenOk {
                known_hosts: ShortStr::EMPTY,
            },
        );
        self.state = State::Running;
        self.deadline = None;
    }

    pub(crate) fn handle_vhost_refused(&mut self, refusal: &Refusal) {
        let State::OpeningVhost = self.state else {
            return;
        };
        self.fail_connection(&refusal::fault(Operation::OpenVhost, refusal));
    }

    fn take_start_ok(&mut self, start_ok: &ConnectionStartOk<'_>) -> Result<(), PeerError> {
        let properties = start_ok.client_properties.to_field_table();
        if let Some(capabilities) = properties.get("capabilities").and_then(Value::as_table) {
            let has = |name| {
                capabilities
                    .get(name)
                    .and_then(Value::as_bool)
                    .unwrap_or(false)
            };
            self.client.knows_blocked = has("connection.blocked");
            self.client.knows_cancel = has("consumer_cancel_notify");
            self.client.knows_login_refused = has("authentication_failure_close");
        }
        self.client.limits_consumers = properties.get("product").and_then(Value::as_str)
            == Some(PRODUCT_THAT_LIMITS_CONSUMERS);
        self.client.properties = properties;
        let transport = &*self.transport;
        let name = start_ok.mechanism.as_bytes();
        let mechanism = Mechanism::chosen(name, &self.config, transport)?;
        let claim = mechanism.claim(start_ok.response, transport)?;
        let mechanism = mechanism.name();
        self.state = State::LoggingIn { mechanism };
        let Some(claim) = claim else {
            self.handle_login_refused();
            return Ok(());
        };
        self.requests.push(Request::Login(Login {
            user: claim.user,
            proof: claim.proof,
            loopback: transport.is_loopback,
            peer: Box::new(Peer {
                address: transport.address,
                local_address: transport.local_address,
                tls: transport.tls.as_ref().map(|tls| tls.version),
                mechanism,
                client_properties: self.client.properties.clone(),
            }),
        }));
        Ok(())
    }

    fn take_tune_ok(&mut self, tune_ok: ConnectionTuneOk) -> Result<(), PeerError> {
        let (frame_max, channel_max) = (self.config.frame_max, self.config.channel_max);
        negotiate(
            "frame_max",
            tune_ok.frame_max,
            FRAME_MIN_SIZE_BYTES,
            frame_max,
        )?;
        negotiate(
            "channel_max",
            u32::from(tune_ok.channel_max),
            1,
            u32::from(channel_max),
        )?;
        self.frame_max = tune_ok.frame_max;
        self.channel_max = tune_ok.channel_max;
        self.heartbeat
            .start(Duration::from_secs(u64::from(tune_ok.heartbeat)), self.now);
        self.state = State::Opening;
        Ok(())
    }

    fn take_open(&mut self, open: &ConnectionOpen<'_>) {
        let vhost = Name::new(open.virtual_host.as_bytes()).expect("a short string is a name");
        self.client.vhost = Some(vhost.clone());
        self.requests.push(Request::OpenVhost { vhost });
        self.state = State::OpeningVhost;
    }
}

/// A client's value may lower the server's; 0 means no limit on either side.
fn negotiate(field: &'static str, value: u32, min: u32, max: u32) -> Result<(), PeerError> {
    let detail = if field == "channel_max" && value == 0 {
        " (no limit)"
    } else {
        ""
    };
    let fail = |relation, limit| {
        Err(PeerError::Negotiation {
            field,
            value,
            detail,
            relation,
            limit,
        })
    };
    if value != 0 && value < min {
        return fail("lower than the minimum", min);
    }
    if max != 0 && (value == 0 || value > max) {
        return fail("higher than the maximum", max);
    }
    Ok(())
}

fn heartbeat_seconds(interval: Duration) -> u16 {
    u16::try_from(interval.as_secs()).unwrap_or(u16::MAX)
}

/// What the server says about itself; some clients insist on `product` and `version`.
fn server_properties(config: &Config) -> FieldTable {
    let capabilities = CAPABILITIES
        .iter()
        .fold(TableBuilder::new(), |table, capability| {
            table.bool(capability, true)
        })
        .build();
    TableBuilder::new()
        .table("capabilities", &capabilities)
        .longstr("cluster_name", &config.cluster_name)
        .longstr("copyright", &config.copyright)
        .longstr("information", &config.information)
        .longstr("platform", &config.platform)
        .longstr("product", &config.product)
        .longstr("version", &config.version)
        .build()
}
