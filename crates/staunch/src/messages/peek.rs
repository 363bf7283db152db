//! `staunch queue peek`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        failure::{About as _, Failure},
        options::Options,
        output,
        target::{Target, path},
    },
    messages::shown::print,
    nouns::queues::{self, Named},
};

/// Messages that are shown unless something else is asked for.
const COUNT: u64 = 10;

#[derive(Args)]
pub(crate) struct Peek {
    #[command(flatten)]
    named: Named,
    /// So many from the front.
    #[arg(long, short = 'n', default_value_t = COUNT)]
    count: u64,
    /// At most so many bytes of each body.
    #[arg(long, value_name = "BYTES")]
    truncate: Option<u64>,
}

pub(crate) fn run(options: &Options, peek: &Peek) -> anyhow::Result<ExitCode> {
    let target = options.target()?;
    let messages = look(&target, &peek.named.name, peek.count, peek.truncate)?;
    if options.json {
        output::json(&Value::Array(messages))?;
        return Ok(ExitCode::SUCCESS);
    }
    for message in &messages {
        print(options, message)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first messages of a queue. They are delivered and return to their places, so they are
/// redelivered from then on.
pub(crate) fn look(
    target: &Target,
    queue: &str,
    count: u64,
    truncate: Option<u64>,
) -> Result<Vec<Value>, Failure> {
    let mut body = json!({
        "count": count,
        "ackmode": "ack_requeue_true",
        "encoding": "auto",
    });
    if let Some(truncate) = truncate {
        body["truncate"] = truncate.into();
    }
    let path = path(&["queues", target.vhost(), queue, "get"]);
    let got = target.post(&path, body.to_string().as_bytes());
    let got = got.about(|| queues::named(target, queue))?;
    Ok(serde_json::from_slice(&got).unwrap_or_default())
}
