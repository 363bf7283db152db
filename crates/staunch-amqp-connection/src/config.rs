//! What a connection offers and allows.

use std::time::Duration;

use staunch_amqp_codec::frame::FRAME_MIN_SIZE_BYTES;
use staunch_types::message::BODY_SIZE_BYTES_MAX;

use crate::{channel::CONSUMERS_PER_CHANNEL_MAX, sasl::Mechanism};

/// RabbitMQ's since 4.1: room for client properties and tokens before tuning.
const INITIAL_FRAME_MAX: u32 = 8_192;

const _: () = assert!(INITIAL_FRAME_MAX >= FRAME_MIN_SIZE_BYTES);

/// Shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// `product` in the server properties; some clients choose their dialect by it.
    pub product: String,
    /// `version` in the server properties.
    pub version: String,
    /// `cluster_name` in the server properties.
    pub cluster_name: String,
    /// `platform` in the server properties.
    pub platform: String,
    /// `copyright` in the server properties.
    pub copyright: String,
    /// `information` in the server properties.
    pub information: String,
    /// SASL mechanisms in the order they are offered.
    pub mechanisms: Vec<Mechanism>,
    /// Largest payload of a frame before tuning: what a stranger may make the node hold. A long
    /// token as password needs more than the default.
    pub initial_frame_max: u32,
    /// Largest frame offered, its 8 bytes of overhead included; 0 is no limit.
    pub frame_max: u32,
    /// Most channels offered; 0 is no limit.
    pub channel_max: u16,
    /// Heartbeat interval offered, in whole seconds; zero is none. The client decides.
    pub heartbeat: Duration,
    /// From accept to `connection.open-ok`.
    pub handshake_timeout: Duration,
    /// Largest message body accepted.
    pub body_size_bytes_max: usize,
    /// Most consumers of a channel; direct replies are one of them.
    pub consumers_per_channel_max: usize,
    /// How long a delivery may stay unsettled before its channel is closed, where its queue
    /// says nothing else; `None` is for ever. Deliveries are looked at from time to time, so a
    /// channel may live two minutes longer.
    pub consumer_timeout: Option<Duration>,
}

impl Default for Config {
    /// RabbitMQ's values (reference 1.3), without ANONYMOUS.
    fn default() -> Self {
        Self {
            product: "RabbitMQ".to_owned(),
            version: "4.3.5".to_owned(),
            cluster_name: "staunch".to_owned(),
            platform: "Staunch".to_owned(),
            copyright: "Copyright the Staunch authors".to_owned(),
            information: "Licensed under the Apache License 2.0".to_owned(),
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain],
            initial_frame_max: INITIAL_FRAME_MAX,
            frame_max: 131_072,
            channel_max: 2_047,
            heartbeat: Duration::from_mins(1),
            handshake_timeout: Duration::from_secs(10),
            body_size_bytes_max: BODY_SIZE_BYTES_MAX,
            consumers_per_channel_max: CONSUMERS_PER_CHANNEL_MAX,
            consumer_timeout: Some(Duration::from_mins(30)),
        }
    }
}
