//! `staunch publish`.

use std::{
    fs,
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};
use staunch_client::{Incoming, PublishTemplate};

use crate::{
    cli::{
        arguments::pair,
        failure::{Exit, Failure},
        options::Options,
        output,
    },
    messages::{
        door::{Door, failed},
        properties,
    },
};

/// Publishes that may wait for their confirms.
const UNCONFIRMED_MAX: usize = 1_000;
/// Longest pause of a rate limit at a time: confirms are read between two.
const PAUSE_MAX: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    options: Options,
    /// The exchange; without one, messages go to the queue that the key names.
    #[arg(long, short = 'e', default_value = "")]
    exchange: String,
    /// The routing key.
    #[arg(long, short = 'k', value_name = "KEY", default_value = "")]
    key: String,
    /// The body; without it, and without --file, all of standard input.
    #[arg(conflicts_with = "file")]
    body: Option<String>,
    /// A file with the body; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line of what is read is a message.
    #[arg(long, conflicts_with = "body")]
    lines: bool,
    /// Publishes it so many times.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// At most so many messages a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// A header; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = pair)]
    headers: Vec<(String, Value)>,
    /// A property, such as `content_type=text/plain`, `expiration=60000`; may be repeated.
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = pair)]
    properties: Vec<(String, Value)>,
    /// The messages need not survive a restart.
    #[arg(long)]
    transient: bool,
}

/// What has become of what was published.
#[derive(Default)]
struct Sent {
    published: u64,
    refused: u64,
    returned: u64,
}

pub(crate) fn run(args: &PublishArgs) -> anyhow::Result<ExitCode> {
    let properties = properties::build(&args.properties, &args.headers, args.transient)?;
    let bodies = args.bodies()?;
    let mut door = Door::open(&args.options.target()?, "publish")?;
    let channel = door.channel;
    door.connection.confirm_select(channel).map_err(failed)?;
    let template =
        door.connection
            .publish_template(channel, &args.exchange, &args.key, true, &properties);
    let template = template.map_err(failed)?;
    let mut sent = Sent::default();
    let started = Instant::now();
    for _ in 0..args.count {
        for body in &bodies {
            sent.publish(&mut door, &template, body)?;
            if let Some(rate) = args.rate {
                let due = Duration::from_secs_f64(to_f64(sent.published) / f64::from(rate));
                while started.elapsed() < due {
                    door.connection.flush().map_err(failed)?;
                    thread::sleep((due.saturating_sub(started.elapsed())).min(PAUSE_MAX));
                }
            }
        }
    }
    sent.wait(&mut door, 0)?;
    door.close();
    sent.report(args)
}

#[expect(clippy::cast_precision_loss, reason = "a rate limit need not be exact")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

impl PublishArgs {
    fn bodies(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        if let Some(body) = &self.body {
            return Ok(vec![body.clone().into_bytes()]);
        }
        let file = self.file.as_deref().filter(|it| *it != Path::new("-"));
        let mut read = Vec::new();
        if let Some(file) = file {
            let opened = fs::File::open(file).and_then(|mut it| it.read_to_end(&mut read));
            opened.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        } else {
            io::stdin().lock().read_to_end(&mut read)?;
        }
        if self.lines {
            return Ok(read
                .lines()
                .map(|line| line.map(String::into_bytes))
                .collect::<Result<_, _>>()?);
        }
        Ok(vec![read])
    }
}

impl Sent {
    fn publish(
        &mut self,
        door: &mut Door,
        template: &PublishTemplate,
        body: &[u8],
    ) -> Result<(), Failure> {
        self.wait(door, UNCONFIRMED_MAX - 1)?;
        let published = door.connection.publish_with(template, body);
        published.map_err(failed)?;
        self.published += 1;
        Ok(())
    }

    /// Until no more than so many wait for their confirms.
    fn wait(&mut self, door: &mut Door, unconfirmed_max: usize) -> Result<(), Failure> {
        let (connection, channel) = (&mut door.connection, door.channel);
        loop {
            let open_count = connection.unconfirmed_count(channel);
            if open_count <= unconfirmed_max {
                break;
            }
            let (is_returned, is_refused) = match connection.next(None).map_err(failed)? {
                Some(Incoming::Returned(_)) => (true, false),
                Some(Incoming::Confirm(confirm)) => (false, !confirm.is_ack),
                _ => (false, false),
            };
            self.returned += u64::from(is_returned);
            if is_refused {
                let settled_count = open_count - connection.unconfirmed_count(channel);
                self.refused += settled_count as u64;
            }
        }
        Ok(())
    }

    fn report(&self, args: &PublishArgs) -> anyhow::Result<ExitCode> {
        let confirmed = self.published - self.refused;
        if args.options.json {
            output::json(&json!({
                "published": self.published,
                "confirmed": confirmed,
                "refused": self.refused,
                "unroutable": self.returned,
            }))?;
        } else {
            output::text(&format!("{confirmed} confirmed\n"))?;
        }
        let lost = self.refused + self.returned;
        if lost == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let (exit, what) = if self.returned > 0 {
            let what = format!("{} of {} led to no queue", self.returned, self.published);
            (Exit::NotFound, what)
        } else {
            let what = format!(
                "{} of {} refused by a full queue",
                self.refused, self.published
            );
            (Exit::Conflict, what)
        };
        let exit = if lost < self.published {
            Exit::Partial
        } else {
            exit
        };
        let hint = "staunch route explains where a message goes";
        Err(Failure::new(exit, what).with_hint(hint).into())
    }
}
