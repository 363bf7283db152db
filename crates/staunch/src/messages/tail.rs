//! `staunch queue tail`: what comes into a queue from now on, without touching the queue.
//!
//! A queue of the connection's own is bound as the queue is, so it gets a copy of what exchanges
//! send there. What is published to the queue by its name alone, and what other queues
//! dead-letter to it that way, passes through no exchange that could copy it.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use staunch_client::{Incoming, QueueSpec};
use staunch_definitions::from_json;

use crate::{
    cli::{
        failure::{About as _, Exit, Failure},
        options::Options,
        target::path,
    },
    messages::{
        door::{Door, failed},
        shown::{Shown, print},
    },
    nouns::queues::{self, Named},
};

#[derive(Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    named: Named,
    /// Ends after so many messages.
    #[arg(long, short = 'n')]
    count: Option<u64>,
}

pub(crate) fn run(options: &Options, tail: &Tail) -> anyhow::Result<ExitCode> {
    let target = options.target()?;
    let queue = &tail.named.name;
    let bindings = target.get_list(&path(&["queues", target.vhost(), queue, "bindings"]));
    let mut bindings = bindings.about(|| queues::named(&target, queue))?;
    bindings.retain(|binding| binding["source"] != "");
    if bindings.is_empty() {
        // An unknown queue has no bindings either.
        queues::find(&target, queue)?;
        let what = format!("nothing is bound to queue '{queue}': it is published to by its name");
        return Err(Failure::new(Exit::Conflict, what)
            .with_hint("staunch queue peek looks into the queue itself")
            .into());
    }
    let mut door = Door::open(&target, "tail")?;
    follow(
        options,
        &mut door,
        &bindings,
        tail.count.unwrap_or(u64::MAX),
    )?;
    door.close();
    Ok(ExitCode::SUCCESS)
}

fn follow(
    options: &Options,
    door: &mut Door,
    bindings: &[Value],
    mut left: u64,
) -> anyhow::Result<()> {
    let (connection, channel) = (&mut door.connection, door.channel);
    let own = QueueSpec {
        exclusive: true,
        auto_delete: true,
        ..QueueSpec::default()
    };
    let own = connection
        .queue_declare(channel, &own)
        .map_err(failed)?
        .name;
    for binding in bindings {
        let text = |key: &str| binding[key].as_str().unwrap_or_default();
        let arguments = binding["arguments"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let arguments = from_json(&arguments)?;
        let (source, key) = (text("source"), text("routing_key"));
        let bound = connection.queue_bind(channel, &own, source, key, &arguments);
        bound.map_err(failed)?;
    }
    connection.consume(channel, &own, true).map_err(failed)?;
    while left > 0 {
        if let Some(Incoming::Delivery(delivery)) = connection.next(None).map_err(failed)? {
            let message = Shown {
                exchange: delivery.exchange,
                routing_key: delivery.routing_key,
                redelivered: false,
                properties: delivery.properties,
                body: delivery.body,
            };
            print(options, &message.json())?;
            left -= 1;
        }
    }
    Ok(())
}
