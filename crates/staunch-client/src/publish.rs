//! Publishing.

use staunch_amqp_codec::{
    content::{body_bytes_per_frame, encode_body, encode_content, encode_content_header},
    frame::{FRAME_END, FrameKind, frame_header},
    methods::{BasicPublish, ConfirmSelect, Method},
};
use staunch_types::{ChannelNumber, properties::PropertyList};

use crate::{
    confirms::Unconfirmed,
    connection::{Connection, short},
    error::ClientError,
};

/// The frames of a publish up to the body, encoded once.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    channel: ChannelNumber,
    /// The method frame and the header frame.
    start: Vec<u8>,
    /// Where the body size stands in `start`.
    body_size_at: usize,
    frame_max: u32,
}

impl Connection {
    /// Puts a channel into confirm mode (`confirm.select`).
    ///
    /// # Errors
    /// When the server refuses.
    pub fn confirm_select(&mut self, channel: ChannelNumber) -> Result<(), ClientError> {
        self.call(
            channel,
            Method::ConfirmSelect(ConfirmSelect::default()),
            |reply| match reply {
                Method::ConfirmSelectOk(_) => Some(()),
                _ => None,
            },
        )?;
        self.channel_state(channel)?.unconfirmed = Some(Unconfirmed::new());
        Ok(())
    }

    /// Prepares publishes that differ only in their bodies.
    ///
    /// # Errors
    /// [`ClientError::NameTooLong`].
    pub fn publish_template(
        &self,
        channel: ChannelNumber,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        properties: &PropertyList,
    ) -> Result<PublishTemplate, ClientError> {
        let publish = publish_method(exchange, routing_key, mandatory)?;
        let mut start = Vec::new();
        publish.encode_frame(channel.0, &mut start);
        // Frame header, class and weight stand before the size.
        let body_size_at = start.len() + 7 + 4;
        encode_content_header(&mut start, channel.0, properties.as_bytes(), 0);
        Ok(PublishTemplate {
            channel,
            start,
            body_size_at,
            frame_max: self.frame_max(),
        })
    }

    /// Publishes `body`; the number is 0 on a channel that is not in confirm mode. The message
    /// leaves with the next flush, or when many have gathered.
    ///
    /// # Errors
    /// When the channel is not open or the connection fails.
    #[inline]
    pub fn publish_with(
        &mut self,
        template: &PublishTemplate,
        body: &[u8],
    ) -> Result<u64, ClientError> {
        let seq = self.number_publish(template.channel)?;
        let output = &mut self.transport.output;
        output.reserve(template.start.len() + body.len() + 8);
        let start = output.len();
        output.extend_from_slice(&template.start);
        let at = start + template.body_size_at;
        output[at..at + 8].copy_from_slice(&(body.len() as u64).to_be_bytes());
        if (1..=body_bytes_per_frame(template.frame_max)).contains(&body.len()) {
            let header = frame_header(FrameKind::Body, template.channel.0, body.len());
            output.extend_from_slice(&header);
            output.extend_from_slice(body);
            output.push(FRAME_END);
        } else {
            encode_body(output, template.channel.0, body, template.frame_max);
        }
        self.transport.flush_if_large()?;
        Ok(seq)
    }

    /// Publishes one message, as [`Connection::publish_with`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NameTooLong`].
    pub fn publish(
        &mut self,
        channel: ChannelNumber,
        exchange: &str,
        routing_key: &str,
        properties: &PropertyList,
        body: &[u8],
    ) -> Result<u64, ClientError> {
        let publish = publish_method(exchange, routing_key, false)?;
        let seq = self.number_publish(channel)?;
        let frame_max = self.frame_max();
        let output = &mut self.transport.output;
        publish.encode_frame(channel.0, output);
        encode_content(output, channel.0, properties.as_bytes(), body, frame_max);
        self.transport.flush_if_large()?;
        Ok(seq)
    }

    #[inline]
    fn number_publish(&mut self, channel: ChannelNumber) -> Result<u64, ClientError> {
        let state = self.channel_state(channel)?;
        Ok(state.unconfirmed.as_mut().map_or(0, Unconfirmed::publish))
    }
}

fn publish_method<'a>(
    exchange: &'a str,
    routing_key: &'a str,
    mandatory: bool,
) -> Result<BasicPublish<'a>, ClientError> {
    Ok(BasicPublish {
        exchange: short(exchange)?,
        routing_key: short(routing_key)?,
        mandatory,
        ..BasicPublish::default()
    })
}
