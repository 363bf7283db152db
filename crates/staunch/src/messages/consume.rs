//! `staunch consume`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use staunch_client::Incoming;

use crate::{
    cli::{
        failure::{Exit, Failure},
        options::Options,
    },
    messages::{
        door::{Door, failed},
        shown::{Shown, print},
    },
};

#[derive(Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    options: Options,
    /// The queue.
    queue: String,
    /// At most so many; without it all that are ready, or with --follow for ever.
    #[arg(long)]
    count: Option<u64>,
    /// Waits for more when the queue is empty.
    #[arg(long)]
    follow: bool,
    /// What becomes of a message once it is printed.
    #[arg(long, value_enum, default_value_t = Fate::Ack)]
    ack: Fate,
    /// How many may be on their way, with --follow.
    #[arg(long, default_value_t = 100)]
    prefetch: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fate {
    /// It is gone.
    Ack,
    /// It goes where the queue's dead letters go, or is gone.
    Reject,
    /// It returns to its place when the command ends, as redelivered.
    Requeue,
    /// It is gone before it is printed.
    None,
}

pub(crate) fn run(args: &ConsumeArgs) -> anyhow::Result<ExitCode> {
    let mut door = Door::open(&args.options.target()?, "consume")?;
    if args.follow {
        follow(args, &mut door)?;
    } else {
        take(args, &mut door)?;
    }
    door.close();
    Ok(ExitCode::SUCCESS)
}

/// One by one, until the queue is empty.
fn take(args: &ConsumeArgs, door: &mut Door) -> anyhow::Result<()> {
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        let got = door
            .connection
            .get(door.channel, &args.queue, args.ack == Fate::None);
        let Some(got) = got.map_err(failed)? else {
            break;
        };
        let message = Shown {
            exchange: &got.exchange,
            routing_key: &got.routing_key,
            redelivered: got.redelivered,
            properties: &got.properties,
            body: &got.body,
        };
        print(&args.options, &message.json())?;
        settle(door, args.ack, got.delivery_tag)?;
    }
    Ok(door.connection.flush().map_err(failed)?)
}

/// As they come.
fn follow(args: &ConsumeArgs, door: &mut Door) -> anyhow::Result<()> {
    door.connection
        .qos(door.channel, args.prefetch)
        .map_err(failed)?;
    let consumed = door
        .connection
        .consume(door.channel, &args.queue, args.ack == Fate::None);
    consumed.map_err(failed)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let (message, tag) = match door.connection.next(None).map_err(failed)? {
            Some(Incoming::Delivery(delivery)) => {
                let message = Shown {
                    exchange: delivery.exchange,
                    routing_key: delivery.routing_key,
                    redelivered: delivery.redelivered,
                    properties: delivery.properties,
                    body: delivery.body,
                };
                (message.json(), delivery.delivery_tag)
            }
            Some(Incoming::ConsumerCancelled { .. }) => {
                let what = format!("queue '{}' has gone", args.queue);
                return Err(Failure::new(Exit::NotFound, what).into());
            }
            _ => continue,
        };
        print(&args.options, &message)?;
        settle(door, args.ack, tag)?;
        left -= 1;
    }
    Ok(door.connection.flush().map_err(failed)?)
}

fn settle(door: &mut Door, ack: Fate, tag: u64) -> Result<(), Failure> {
    let (connection, channel) = (&mut door.connection, door.channel);
    match ack {
        Fate::Ack => connection.ack(channel, tag, false).map_err(failed),
        Fate::Reject => connection.nack(channel, tag, false, false).map_err(failed),
        // What is not settled returns when the connection ends.
        Fate::Requeue | Fate::None => Ok(()),
    }
}
