//! The foreign-client round with lapin; ../README.md lists its steps. Usage: round AMQP_URL

use std::fmt::Debug;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};

const MESSAGES: u32 = 1000;
const PREFETCH: u16 = 50;
const WORD: &str = "ünïcode";

type Failure = Box<dyn std::error::Error>;

/// The channel under test and the names of its queues.
struct Round {
    channel: Channel,
    queue: String,
    missing: String,
}

fn expect<T: PartialEq + Debug>(what: &str, actual: T, wanted: T) -> Result<(), Failure> {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: expected {wanted:?}, got {actual:?}").into())
}

fn body(i: u32) -> Vec<u8> {
    format!("message {i} {}", "x".repeat((i % 300) as usize)).into_bytes()
}

/// `outcome` must be a close of the channel by the broker with `code` and `text`.
fn expect_close<T>(
    what: &str,
    code: u16,
    text: &str,
    outcome: lapin::Result<T>,
) -> Result<(), Failure> {
    let Err(error) = outcome else {
        return Err(format!("{what}: the broker did not close the channel").into());
    };
    let ErrorKind::ProtocolError(closed) = error.kind() else {
        return Err(format!("{what}: {error}").into());
    };
    expect(what, closed.get_id(), code)?;
    expect(what, closed.get_message().as_str(), text)
}

fn properties(i: u32) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("n".into(), AMQPValue::LongUInt(i));
    headers.insert("word".into(), AMQPValue::LongString(WORD.into()));
    BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id(format!("c{i}").into())
        .with_message_id(format!("m{i}").into())
        .with_timestamp(1_700_000_000 + u64::from(i))
        .with_type("round".into())
        .with_app_id("staunch".into())
}

impl Round {
    async fn check_errors(&self, connection: &Connection) -> Result<(), Failure> {
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        expect_close(
            "passive declare of a missing queue",
            404,
            &format!("NOT_FOUND - no queue '{}' in vhost '/'", self.missing),
            channel
                .queue_declare(self.missing.as_str().into(), passive, FieldTable::default())
                .await,
        )?;
        let channel = connection.create_channel().await?;
        expect_close(
            "inequivalent redeclare",
            406,
            &format!(
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{}' in vhost '/': \
                 received 'false' but current is 'true'",
                self.queue
            ),
            channel
                .queue_declare(
                    self.queue.as_str().into(),
                    QueueDeclareOptions::default(),
                    FieldTable::default(),
                )
                .await,
        )
    }

    /// Sends everything, then waits for every confirm.
    async fn publish(&self) -> Result<(), Failure> {
        let mut confirms = Vec::new();
        for i in 0..MESSAGES {
            let confirm = self
                .channel
                .basic_publish(
                    "".into(),
                    self.queue.as_str().into(),
                    BasicPublishOptions::default(),
                    &body(i),
                    properties(i),
                )
                .await?;
            confirms.push(confirm);
        }
        for confirm in confirms {
            expect("confirm", confirm.await?, Confirmation::Ack(None))?;
        }
        Ok(())
    }

    async fn check_mandatory(&self) -> Result<(), Failure> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let confirm = self
            .channel
            .basic_publish(
                "".into(),
                self.missing.as_str().into(),
                options,
                b"lost",
                BasicProperties::default(),
            )
            .await?
            .await?;
        expect("confirm of an unroutable message", confirm.is_ack(), true)?;
        let returned = confirm
            .take_message()
            .ok_or("the unroutable message was not returned")?;
        expect("return", returned.reply_code, 312)?;
        expect("return", returned.reply_text.as_str(), "NO_ROUTE")?;
        expect(
            "returned key",
            returned.delivery.routing_key.as_str(),
            &self.missing,
        )?;
        expect("returned body", returned.delivery.data.as_slice(), b"lost")
    }

    async fn get_first(&self, redelivered: bool) -> Result<BasicGetMessage, Failure> {
        let got = self
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
            .await?
            .ok_or("get found nothing")?;
        expect("redelivered flag of get", got.redelivered, redelivered)?;
        expect("message count of get", got.message_count, MESSAGES - 1)?;
        expect("get, body", &got.data, &body(0))?;
        Ok(got)
    }

    async fn check_get(&self) -> Result<(), Failure> {
        self.get_first(false)
            .await?
            .reject(BasicRejectOptions { requeue: true })
            .await?;
        let again = BasicNackOptions {
            requeue: true,
            ..Default::default()
        };
        self.get_first(true).await?.nack(again).await?;
        Ok(())
    }

    async fn consume(&self) -> Result<(), Failure> {
        self.channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let mut deliveries = self
            .channel
            .basic_consume(
                self.queue.as_str().into(),
                "round".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        for i in 0..MESSAGES {
            let got = deliveries
                .next()
                .await
                .ok_or("the consumer was cancelled")??;
            expect("body", &got.data, &body(i))?;
            expect("redelivered", got.redelivered, i == 0)?;
            expect("routing key", got.routing_key.as_str(), &self.queue)?;
            // The redelivered first message may also tell how often it was tried.
            if i > 0 {
                expect("properties", &got.properties, &properties(i))?;
            }
            got.ack(BasicAckOptions::default()).await?;
        }
        self.channel
            .basic_cancel("round".into(), BasicCancelOptions::default())
            .await?;
        Ok(())
    }

    async fn check_drained(&self) -> Result<(), Failure> {
        let rest = self
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
            .await?;
        expect("get from the drained queue", rest.is_none(), true)?;
        let deleted = self
            .channel
            .queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
        expect("deleted", deleted, 0)
    }
}

async fn run(url: &str) -> Result<(), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queue = format!("staunch.round.lapin.{}", std::process::id());
    let round = Round {
        channel,
        missing: format!("{queue}.missing"),
        queue,
    };
    let declare = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declared = round
        .channel
        .queue_declare(round.queue.as_str().into(), declare, FieldTable::default())
        .await?;
    expect("declare", declared.message_count(), 0)?;
    round.check_errors(&connection).await?;
    round
        .channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    round.publish().await?;
    round.check_mandatory().await?;
    let again = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declared = round
        .channel
        .queue_declare(round.queue.as_str().into(), again, FieldTable::default())
        .await?;
    expect(
        "messages after publishing",
        declared.message_count(),
        MESSAGES,
    )?;
    round.check_get().await?;
    round.consume().await?;
    round.check_drained().await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: round AMQP_URL");
        std::process::exit(64);
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), run(&url)).await;
    match outcome {
        Ok(Ok(())) => println!("lapin: ok"),
        Ok(Err(failure)) => {
            eprintln!("lapin: {failure}");
            std::process::exit(1);
        }
        Err(_) => {
            eprintln!("lapin: not finished after 60 s");
            std::process::exit(1);
        }
    }
}
