//! From the protocol header to `connection.open-ok`.

use std::time::Duration;

use staunch_amqp_codec::{
    frame::PROTOCOL_HEADER,
    methods::{ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, Method},
    wire::ShortStr,
};
use staunch_types::{ChannelNumber, FieldTable, field_table::TableBuilder};

use crate::{
    connection::{Connection, short},
    error::ClientError,
    options::ConnectOptions,
};

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Tuned {
    pub(crate) server_properties: FieldTable,
    /// 0: no limit.
    pub(crate) channel_max: u16,
    /// 0: no limit.
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: Option<Duration>,
}

impl Tuned {
    /// What holds before tuning: frames of any size are read, because servers send more server
    /// properties than the 4096 bytes that AMQP allows.
    pub(crate) fn before() -> Self {
        Self {
            server_properties: FieldTable::default(),
            channel_max: 0,
            frame_max: 0,
            heartbeat: None,
        }
    }
}

/// Introduces the client to the server.
pub(crate) fn perform(
    connection: &mut Connection,
    options: &ConnectOptions,
) -> Result<Tuned, ClientError> {
    let control = ChannelNumber(0);
    connection
        .transport
        .output
        .extend_from_slice(&PROTOCOL_HEADER);
    let server_properties =
        connection.await_reply(control, "connection.start", |reply| match reply {
            Method::ConnectionStart(start) => Some(start.server_properties.to_field_table()),
            _ => None,
        })?;
    let properties = client_properties(&options.connection_name);
    let response = format!("\0{}\0{}", options.user, options.password);
    let start_ok = ConnectionStartOk {
        client_properties: properties.as_table_ref(),
        mechanism: ShortStr::from_static("PLAIN"),
        response: response.as_bytes(),
        locale: ShortStr::from_static("en_US"),
    };
    let tune = connection.call(
        control,
        Method::ConnectionStartOk(start_ok),
        |reply| match reply {
            Method::ConnectionTune(tune) => Some(*tune),
            _ => None,
        },
    )?;
    let tune_ok = ConnectionTuneOk {
        channel_max: tune.channel_max,
        frame_max: least_limit(tune.frame_max, options.frame_max),
        heartbeat: options.heartbeat_seconds,
    };
    tune_ok.encode_frame(0, &mut connection.transport.output);
    let open = ConnectionOpen {
        virtual_host: short(&options.vhost)?,
        ..ConnectionOpen::default()
    };
    connection.call(control, Method::ConnectionOpen(open), |reply| match reply {
        Method::ConnectionOpenOk(_) => Some(()),
        _ => None,
    })?;
    let heartbeat = Duration::from_secs(tune_ok.heartbeat.into());
    Ok(Tuned {
        server_properties,
        channel_max: tune_ok.channel_max,
        frame_max: tune_ok.frame_max,
        heartbeat: (!heartbeat.is_zero()).then_some(heartbeat),
    })
}

/// The smaller of two limits, of which 0 is none.
fn least_limit(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, limit) | (limit, 0) => limit,
        (a, b) => a.min(b),
    }
}

fn client_properties(connection_name: &str) -> FieldTable {
    let capabilities = TableBuilder::new()
        .bool("publisher_confirms", true)
        .bool("basic.nack", true)
        .bool("consumer_cancel_notify", true)
        .bool("connection.blocked", true)
        .bool("authentication_failure_close", true)
        .build();
    TableBuilder::new()
        .longstr("product", "staunch-client")
        .longstr("version", env!("CARGO_PKG_VERSION"))
        .longstr("platform", "Rust")
        .longstr("connection_name", connection_name)
        .table("capabilities", &capabilities)
        .build()
}
