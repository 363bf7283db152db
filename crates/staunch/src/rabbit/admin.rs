//! `rabbitmqadmin`, as the script of RabbitMQ 3: `rabbitmqadmin declare queue name=orders durable=true`.

use std::{collections::BTreeMap, env, fs, io, process::ExitCode};

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        failure::{Exit, Failure},
        output,
        table::{self, Column},
        target::{Target, path},
    },
    rabbit::call,
};

/// Ports unless `-P` says otherwise.
const PORT: &str = "15672";

/// What `show overview` shows.
const OVERVIEW_COLUMNS: &[&str] = &[
    "node",
    "rabbitmq_version",
    "cluster_name",
    "queue_totals.messages",
];

/// What a list shows, and what `declare` sets, of each noun.
struct Noun {
    name: &'static str,
    columns: &'static [&'static str],
    /// Keys of `declare` that are in the path, in order.
    path: &'static [&'static str],
}

const NOUNS: &[Noun] = &[
    noun("queue", &["name", "messages"], &["vhost", "name"]),
    noun("exchange", &["name", "type"], &["vhost", "name"]),
    noun("binding", &["source", "destination", "routing_key"], &[]),
    noun("vhost", &["name"], &["name"]),
    noun("user", &["name", "tags"], &["name"]),
    noun(
        "permission",
        &["vhost", "user", "configure", "write", "read"],
        &["vhost", "user"],
    ),
    noun(
        "policy",
        &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        &["vhost", "name"],
    ),
    noun(
        "operator_policy",
        &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        &["vhost", "name"],
    ),
    noun(
        "parameter",
        &["component", "vhost", "name", "value"],
        &["component", "vhost", "name"],
    ),
    noun("vhost_limit", &["vhost", "value"], &["vhost", "name"]),
    noun("user_limit", &["user", "value"], &["user", "name"]),
    noun("connection", &["name", "user", "channels"], &["name"]),
    noun("channel", &["name", "user"], &[]),
    noun("consumer", &["consumer_tag", "queue.name"], &[]),
    noun("node", &["name", "type", "mem_used"], &[]),
];

const fn noun(
    name: &'static str,
    columns: &'static [&'static str],
    path: &'static [&'static str],
) -> Noun {
    Noun {
        name,
        columns,
        path,
    }
}

/// What stands on the command line.
#[derive(Default)]
struct Call {
    options: BTreeMap<&'static str, String>,
    words: Vec<String>,
}

pub(crate) fn run(arguments: Vec<String>) -> ExitCode {
    match Call::parse(arguments).and_then(|call| call.dispatch()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("*** {error:#}");
            let failure = error.downcast_ref::<Failure>();
            if let Some(hint) = failure.and_then(|it| it.hint.as_ref()) {
                eprintln!("    {hint}");
            }
            // The script knows one code for everything that goes wrong.
            Exit::Failed.code()
        }
    }
}

impl Call {
    fn parse(arguments: Vec<String>) -> anyhow::Result<Self> {
        let mut call = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(word) = arguments.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let key = match name {
                "-H" | "--host" => "host",
                "-P" | "--port" => "port",
                "-V" | "--vhost" => "vhost",
                "-u" | "--username" => "user",
                "-p" | "--password" => "password",
                "-f" | "--format" => "format",
                "-U" | "--base-uri" => "url",
                "-S" | "--sort" => "sort",
                "-c" | "--config" | "-N" | "--node" | "-d" | "--depth" | "--path-prefix" => {
                    "ignored"
                }
                "-q" | "--quiet" => {
                    call.options.insert("quiet", String::new());
                    continue;
                }
                "-k" | "--ssl-insecure" | "-s" | "--ssl" => {
                    return Err(Failure::usage(format!("{name} is not here"))
                        .with_hint("-U https://host:15671; a certificate is always checked")
                        .into());
                }
                "-R" | "--sort-reverse" => {
                    call.options.insert("reverse", String::new());
                    continue;
                }
                name if name.starts_with('-') && name.len() > 1 => {
                    return Err(Failure::usage(format!("no such option: {name}")).into());
                }
                _ => {
                    call.words.push(word);
                    continue;
                }
            };
            let value = value.or_else(|| arguments.next());
            let missing = || Failure::usage(format!("{name} needs a value"));
            call.options.insert(key, value.ok_or_else(missing)?);
        }
        Ok(call)
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    fn target(&self) -> Result<Target, Failure> {
        let place = match (self.option("url"), self.option("host"), self.option("port")) {
            (Some(url), _, _) => Some(url.to_owned()),
            (None, None, None) => None,
            (None, host, port) => Some(format!(
                "http://{}:{}",
                host.unwrap_or("localhost"),
                port.unwrap_or(PORT)
            )),
        };
        let login = self
            .option("user")
            .zip(self.option("password").or(Some("guest")));
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        match place {
            // It wins over the environment.
            Some(place) => crate::cli::options::Options::at(place, login).target(),
            None => call::target(None, login),
        }
    }

    fn vhost(&self) -> &str {
        self.option("vhost").unwrap_or("/")
    }

    /// `key=value` behind the first words.
    fn pairs(&self, from: usize) -> Result<BTreeMap<String, String>, Failure> {
        let pair = |word: &String| {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Failure::usage(format!(
                    "argument '{word}' is not in the format 'name=value'"
                ))
            })?;
            Ok((key.to_owned(), value.to_owned()))
        };
        self.words.iter().skip(from).map(pair).collect()
    }

    fn dispatch(&self) -> anyhow::Result<()> {
        let words: Vec<_> = self.words.iter().map(String::as_str).collect();
        match words[..] {
            ["list", noun, ..] => self.list(noun),
            ["show", "overview", ..] => self.show_overview(),
            ["declare" | "create", noun, ..] => self.declare(noun),
            ["delete", noun, ..] => self.delete(noun),
            ["publish", ..] => self.publish(),
            ["get", ..] => self.get(),
            ["purge", "queue", ..] => {
                let pairs = self.pairs(2)?;
                let name = wanted(&pairs, "name")?;
                let vhost = pairs.get("vhost").map_or(self.vhost(), String::as_str);
                self.target()?
                    .delete(&path(&["queues", vhost, name, "contents"]))?;
                self.say("queue purged")
            }
            ["close", "connection", ..] => {
                let pairs = self.pairs(2)?;
                let place = path(&["connections", wanted(&pairs, "name")?]);
                self.target()?.delete(&place)?;
                self.say("connection closed")
            }
            ["export", file] => {
                fs::write(file, self.target()?.get_bytes("definitions")?)?;
                self.say(&format!(
                    "Exported definitions for {} to \"{file}\"",
                    host()
                ))
            }
            ["import", file] => {
                self.target()?.post("definitions", &fs::read(file)?)?;
                self.say(&format!(
                    "Uploaded definitions from \"{file}\" to {}",
                    host()
                ))
            }
            _ => Err(Failure::usage(
                "list, show overview, declare, delete, publish, get, purge, close, export, import",
            )
            .with_hint("`staunch --help` lists Staunch's own commands")
            .into()),
        }
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.options.contains_key("quiet") {
            return Ok(());
        }
        output::text(&format!("{text}\n"))
    }

    fn list(&self, noun: &str) -> anyhow::Result<()> {
        // `list queues`, `list policies`, `list vhost_limits`.
        let known = NOUNS.iter().find(|it| plural(it.name) == noun);
        let known = known.ok_or_else(|| Failure::usage(format!("there is no list of {noun}")))?;
        let place = plural(known.name).replace('_', "-");
        let asked: Vec<&str> = self.words.iter().skip(2).map(String::as_str).collect();
        let place = match self.option("vhost") {
            Some(vhost) if known.name == "permission" => path(&["vhosts", vhost, &place]),
            Some(vhost) if known.path.first() == Some(&"vhost") => path(&[&place, vhost]),
            _ => place,
        };
        let mut rows = self.target()?.get_list(&place)?;
        if let Some(sort) = self.option("sort") {
            table::sort(&mut rows, &Column::named(sort));
        }
        if self.options.contains_key("reverse") {
            rows.reverse();
        }
        let columns = if asked.is_empty() {
            known.columns
        } else {
            &asked
        };
        let columns: Vec<_> = columns.iter().map(|it| Column::titled(it, it)).collect();
        self.show(&rows, &columns)
    }

    fn show_overview(&self) -> anyhow::Result<()> {
        let asked: Vec<&str> = self.words.iter().skip(2).map(String::as_str).collect();
        let columns: &[&str] = if asked.is_empty() {
            OVERVIEW_COLUMNS
        } else {
            &asked
        };
        let columns: Vec<_> = columns.iter().map(|it| Column::titled(it, it)).collect();
        self.show(&[self.target()?.get("overview")?], &columns)
    }

    fn show(&self, rows: &[Value], columns: &[Column]) -> anyhow::Result<()> {
        let text = match self.option("format").unwrap_or("table") {
            "table" => drawn(rows, columns),
            "tsv" => table::separated(rows, columns, "\t"),
            "bash" => {
                let first = columns.first();
                let names = rows.iter().zip(first.into_iter().cycle());
                let names: Vec<_> = names
                    .map(|(row, column)| table::cell(column.of(row)))
                    .collect();
                names.join(" ") + "\n"
            }
            "kvp" => {
                let line = |row: &Value| {
                    let pairs = columns.iter().map(|column| {
                        format!("{}=\"{}\"", column.path, table::cell(column.of(row)))
                    });
                    pairs.collect::<Vec<_>>().join(" ") + "\n"
                };
                rows.iter().map(line).collect()
            }
            "raw_json" => Value::from(table::only(rows, columns)).to_string() + "\n",
            "pretty_json" => return output::json(&Value::from(table::only(rows, columns))),
            other => return Err(Failure::usage(format!("there is no format {other}")).into()),
        };
        output::text(&text)
    }

    fn declare(&self, name: &str) -> anyhow::Result<()> {
        let mut pairs = self.pairs(2)?;
        if let Some(vhost) = self.option("vhost") {
            pairs
                .entry("vhost".to_owned())
                .or_insert_with(|| vhost.to_owned());
        }
        if name == "binding" {
            let place = ends(&mut pairs)?;
            self.target()?
                .post(&place, Value::Object(body(&pairs)?).to_string().as_bytes())?;
            return self.say("binding declared");
        }
        let known = NOUNS
            .iter()
            .find(|it| it.name == name && !it.path.is_empty());
        let known = known.ok_or_else(|| Failure::usage(format!("a {name} cannot be declared")))?;
        let place = place(known, &mut pairs)?;
        let mut body = body(&pairs)?;
        if name == "queue" || name == "exchange" {
            // The script's default is another than the interface's.
            body.entry("durable").or_insert(Value::Bool(true));
        }
        if name == "user" {
            body.entry("tags").or_insert_with(|| "".into());
        }
        self.target()?.put(&place, &Value::Object(body))?;
        self.say(&format!("{} declared", name.replace('_', " ")))
    }

    fn delete(&self, name: &str) -> anyhow::Result<()> {
        let mut pairs = self.pairs(2)?;
        if let Some(vhost) = self.option("vhost") {
            pairs
                .entry("vhost".to_owned())
                .or_insert_with(|| vhost.to_owned());
        }
        let place = if name == "binding" {
            let key = pairs
                .remove("properties_key")
                .unwrap_or_else(|| "~".to_owned());
            format!("{}/{}", ends(&mut pairs)?, path(&[&key]))
        } else {
            let known = NOUNS
                .iter()
                .find(|it| it.name == name && !it.path.is_empty());
            let known =
                known.ok_or_else(|| Failure::usage(format!("a {name} cannot be deleted")))?;
            place(known, &mut pairs)?
        };
        self.target()?.delete(&place)?;
        self.say(&format!("{} deleted", name.replace('_', " ")))
    }

    fn publish(&self) -> anyhow::Result<()> {
        let pairs = self.pairs(1)?;
        let text = |key: &str, otherwise: &str| {
            pairs.get(key).map_or(otherwise, String::as_str).to_owned()
        };
        let payload = match pairs.get("payload") {
            Some(payload) => payload.clone(),
            None => io::read_to_string(io::stdin())?,
        };
        let exchange = text("exchange", "amq.default");
        let exchange = if exchange.is_empty() {
            "amq.default".to_owned()
        } else {
            exchange
        };
        let properties = text("properties", "{}");
        let properties: Value = serde_json::from_str(&properties)
            .map_err(|error| Failure::usage(format!("properties: {error}")))?;
        let body = json!({
            "routing_key": text("routing_key", ""),
            "payload": payload,
            "payload_encoding": text("payload_encoding", "string"),
            "properties": properties,
        });
        let vhost = text("vhost", self.vhost());
        let place = path(&["exchanges", &vhost, &exchange, "publish"]);
        let answer = self.target()?.post(&place, body.to_string().as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer)?;
        self.say(if answer["routed"] == true {
            "Message published"
        } else {
            "Message published but NOT routed"
        })
    }

    fn get(&self) -> anyhow::Result<()> {
        let pairs = self.pairs(1)?;
        let text = |key: &str, otherwise: &str| {
            pairs.get(key).map_or(otherwise, String::as_str).to_owned()
        };
        let count: u64 = text("count", "1")
            .parse()
            .map_err(|_| Failure::usage("count is not a number"))?;
        let mut body = json!({
            "count": count,
            "ackmode": text("ackmode", "ack_requeue_true"),
            "encoding": text("encoding", "auto"),
        });
        if let Some(bytes) = pairs.get("truncate").and_then(|it| it.parse::<u64>().ok()) {
            body["truncate"] = bytes.into();
        }
        let vhost = text("vhost", self.vhost());
        let place = path(&["queues", &vhost, wanted(&pairs, "queue")?, "get"]);
        let got = self.target()?.post(&place, body.to_string().as_bytes())?;
        let rows: Vec<Value> = serde_json::from_slice(&got)?;
        let columns = [
            "routing_key",
            "exchange",
            "message_count",
            "payload",
            "payload_bytes",
            "payload_encoding",
            "redelivered",
        ];
        self.show(&rows, &columns.map(|it| Column::titled(it, it)))
    }
}

fn plural(name: &str) -> String {
    match name.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{name}s"),
    }
}

/// What is said of the node in messages.
fn host() -> String {
    env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned())
}

fn wanted<'a>(pairs: &'a BTreeMap<String, String>, key: &str) -> Result<&'a str, Failure> {
    let found = pairs.get(key).map(String::as_str);
    found.ok_or_else(|| Failure::usage(format!("mandatory argument '{key}' is missing")))
}

/// Where a thing is; what says so is taken out of the pairs.
fn place(noun: &Noun, pairs: &mut BTreeMap<String, String>) -> Result<String, Failure> {
    let mut segments = vec![plural(noun.name).replace('_', "-")];
    for key in noun.path {
        let value = pairs.remove(*key);
        let value = value.or_else(|| (*key == "vhost").then(|| "/".to_owned()));
        let missing = || Failure::usage(format!("mandatory argument '{key}' is missing"));
        segments.push(value.ok_or_else(missing)?);
    }
    Ok(path(
        &segments.iter().map(String::as_str).collect::<Vec<_>>(),
    ))
}

/// Where the bindings between two ends are.
fn ends(pairs: &mut BTreeMap<String, String>) -> Result<String, Failure> {
    let vhost = pairs.remove("vhost").unwrap_or_else(|| "/".to_owned());
    let kind = pairs
        .remove("destination_type")
        .unwrap_or_else(|| "queue".to_owned());
    let kind = if kind == "exchange" { "e" } else { "q" };
    let (source, destination) = (wanted(pairs, "source")?, wanted(pairs, "destination")?);
    let place = path(&["bindings", &vhost, "e", source, kind, destination]);
    pairs.retain(|key, _| key != "source" && key != "destination");
    Ok(place)
}

/// What is declared: objects are JSON; the interface takes numbers and booleans as strings, but not
/// everywhere.
fn body(pairs: &BTreeMap<String, String>) -> Result<Map<String, Value>, Failure> {
    let value = |(key, text): (&String, &String)| {
        let value = match key.as_str() {
            "arguments" | "definition" | "value" => serde_json::from_str(text)
                .map_err(|error| Failure::usage(format!("{key}: {error}")))?,
            "durable" | "auto_delete" | "internal" | "tracing" => Value::Bool(text == "true"),
            "priority" => text
                .parse::<i64>()
                .map_or_else(|_| text.clone().into(), Value::from),
            _ => text.clone().into(),
        };
        Ok((key.clone(), value))
    };
    let mut body: Map<_, _> = pairs.iter().map(value).collect::<Result<_, Failure>>()?;
    if let Some(kind) = body.remove("queue_type") {
        let arguments = body.entry("arguments").or_insert_with(|| json!({}));
        arguments["x-queue-type"] = kind;
    }
    Ok(body)
}

fn drawn(rows: &[Value], columns: &[Column]) -> String {
    if rows.is_empty() {
        return "No items\n".to_owned();
    }
    let titles: Vec<String> = columns.iter().map(|column| column.path.clone()).collect();
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::Bool(truth) => if *truth { "True" } else { "False" }.to_owned(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(table::cell).collect();
            items.join(" ")
        }
        Value::Object(_) => value.to_string(),
        other => table::cell(other),
    };
    let cells = |row| columns.iter().map(|column| text(column.of(row))).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles)
        .chain(rows.iter().map(cells))
        .collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max();
    let widths: Vec<_> = (0..columns.len())
        .map(|at| width(at).unwrap_or(0))
        .collect();
    let parts: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let rule = format!("+{}+\n", parts.join("+"));
    let row = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!(" {cell:<width$} "))
            .collect();
        format!("|{}|\n", cells.join("|"))
    };
    let centred = lines[0].iter().zip(&widths);
    let centred: Vec<_> = centred
        .map(|(cell, width)| format!(" {cell:^width$} "))
        .collect();
    let body: String = lines[1..].iter().map(row).collect();
    format!("{rule}|{}|\n{rule}{body}{rule}", centred.join("|"))
}
