//! Lists of `rabbitmqctl`: tab-separated columns, JSON, CSV, or a drawn table.

use serde_json::{Map, Value};

use crate::{
    cli::{output, target::path},
    rabbit::{
        call::{Call, Stop},
        exit,
    },
};

/// A list: its command, what is said before it, where it is below `/api`, and its columns unless
/// others are asked for.
pub(crate) struct List {
    pub(crate) command: &'static str,
    title: &'static str,
    api: Place,
    columns: &'static [&'static str],
    /// Other columns may be asked for.
    is_open: bool,
}

/// Where a list is.
#[derive(Clone, Copy)]
enum Place {
    /// Of the node.
    Whole(&'static str),
    /// Below a virtual host.
    Inside(&'static str),
    /// Below `vhosts/…`.
    Of(&'static str),
    /// Of a user that is named.
    User(&'static str),
}

/// All of them. `{}` is the virtual host or the user.
pub(crate) const LISTS: &[List] = &[
    List {
        command: "list_users",
        title: "Listing users ...",
        api: Place::Whole("users"),
        columns: &["user", "tags"],
        is_open: false,
    },
    List {
        command: "list_vhosts",
        title: "Listing vhosts ...",
        api: Place::Whole("vhosts"),
        columns: &["name"],
        is_open: true,
    },
    List {
        command: "list_permissions",
        title: "Listing permissions for vhost \"{}\" ...",
        api: Place::Of("permissions"),
        columns: &["user", "configure", "write", "read"],
        is_open: false,
    },
    List {
        command: "list_user_permissions",
        title: "Listing permissions for user \"{}\" ...",
        api: Place::User("permissions"),
        columns: &["vhost", "configure", "write", "read"],
        is_open: false,
    },
    List {
        command: "list_topic_permissions",
        title: "Listing topic permissions for vhost \"{}\" ...",
        api: Place::Of("topic-permissions"),
        columns: &["user", "exchange", "write", "read"],
        is_open: false,
    },
    List {
        command: "list_policies",
        title: "Listing policies for vhost \"{}\" ...",
        api: Place::Inside("policies"),
        columns: &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        is_open: false,
    },
    List {
        command: "list_operator_policies",
        title: "Listing operator policy overrides for vhost \"{}\" ...",
        api: Place::Inside("operator-policies"),
        columns: &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        is_open: false,
    },
    List {
        command: "list_parameters",
        title: "Listing runtime parameters for vhost \"{}\" ...",
        api: Place::Whole("parameters"),
        columns: &["component", "name", "value"],
        is_open: false,
    },
    List {
        command: "list_queues",
        title: "Timeout: 60.0 seconds ...\nListing queues for vhost {} ...",
        api: Place::Inside("queues"),
        columns: &["name", "messages"],
        is_open: true,
    },
    List {
        command: "list_exchanges",
        title: "Listing exchanges for vhost {} ...",
        api: Place::Inside("exchanges"),
        columns: &["name", "type"],
        is_open: true,
    },
    List {
        command: "list_bindings",
        title: "Listing bindings for vhost {}...",
        api: Place::Inside("bindings"),
        columns: &[
            "source_name",
            "source_kind",
            "destination_name",
            "destination_kind",
            "routing_key",
            "arguments",
        ],
        is_open: true,
    },
    List {
        command: "list_connections",
        title: "Listing connections ...",
        api: Place::Whole("connections"),
        columns: &["user", "peer_host", "peer_port", "state"],
        is_open: true,
    },
    List {
        command: "list_channels",
        title: "Listing channels ...",
        api: Place::Whole("channels"),
        columns: &["pid", "user", "consumer_count", "messages_unacknowledged"],
        is_open: true,
    },
    List {
        command: "list_consumers",
        title: "Listing consumers in vhost {} ...",
        api: Place::Inside("consumers"),
        columns: &[
            "queue_name",
            "channel_pid",
            "consumer_tag",
            "ack_required",
            "prefetch_count",
            "active",
            "arguments",
        ],
        is_open: true,
    },
];

/// Prints a list as it is asked for.
pub(crate) fn print(call: &Call, list: &List) -> Result<(), Stop> {
    let columns: Vec<String> = if list.is_open && !call.arguments.is_empty() {
        call.arguments.clone()
    } else {
        list.columns.iter().map(|&it| it.to_owned()).collect()
    };
    let (place, of) = match list.api {
        Place::Whole(noun) => (noun.to_owned(), call.vhost()),
        Place::Inside(noun) => (path(&[noun, call.vhost()]), call.vhost()),
        Place::Of(noun) => (path(&["vhosts", call.vhost(), noun]), call.vhost()),
        Place::User(noun) => {
            let user = call.argument(0)?;
            (path(&["users", user, noun]), user)
        }
    };
    call.say(&list.title.replace("{}", of))?;
    let rows = call.target()?.get_list(&place)?;
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| value(row, column)).collect())
        .collect();
    show(call, &columns, &rows)
}

/// Prints rows in the format that is asked for.
pub(crate) fn show(call: &Call, columns: &[String], rows: &[Vec<Value>]) -> Result<(), Stop> {
    let text = match call.option("formatter").unwrap_or("table") {
        "table" => separated(call, columns, rows, "\t"),
        "csv" => separated(call, columns, rows, ","),
        "json" => json(columns, rows),
        "pretty_table" => drawn(columns, rows),
        other => {
            let text = format!("Unknown formatter {other}: table, json, csv, pretty_table");
            return Err(Stop::new(exit::USAGE, text));
        }
    };
    Ok(output::text(&text)?)
}

/// A column under RabbitMQ's name for it.
fn value(row: &Value, column: &str) -> Value {
    let found = match column {
        "user" if row.get("user").is_none() => &row["name"],
        "source_name" => &row["source"],
        "source_kind" => return "exchange".into(),
        "destination_name" => &row["destination"],
        "destination_kind" => &row["destination_type"],
        "queue_name" => &row["queue"]["name"],
        "channel_pid" => &row["channel_details"]["name"],
        "pid" => match row.get("name") {
            Some(name) => name,
            None => &Value::Null,
        },
        "slave_pids" | "mirror_pids" => &Value::Null,
        column => &row[column],
    };
    found.clone()
}

/// Rows of text; none, not even titles, if there is nothing (RabbitMQ).
fn separated(call: &Call, columns: &[String], rows: &[Vec<Value>], separator: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let has_titles = !call.has("silent") && !call.has("no-headers");
    let titles = has_titles.then(|| columns.join(separator));
    let lines = rows.iter().map(|row| {
        let cells: Vec<_> = row.iter().map(cell).collect();
        cells.join(separator)
    });
    let lines = titles.into_iter().chain(lines);
    lines.map(|line| line + "\n").collect()
}

fn json(columns: &[String], rows: &[Vec<Value>]) -> String {
    let objects = rows.iter().map(|row| {
        let pairs = columns.iter().cloned().zip(row.iter().cloned());
        object(pairs.collect())
    });
    let objects: Vec<_> = objects.collect();
    format!("[\n{}]\n", lines_of(&objects))
}

fn lines_of(objects: &[String]) -> String {
    let lines: Vec<_> = objects.iter().map(|object| format!("{object}\n")).collect();
    lines.join(",")
}

/// An object whose keys keep their order.
fn object(pairs: Vec<(String, Value)>) -> String {
    let pairs = pairs.into_iter();
    let pairs = pairs.map(|(key, value)| format!("{}:{value}", Value::String(key)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn drawn(columns: &[String], rows: &[Vec<Value>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let titles = columns.to_vec();
    let lines = rows.iter().map(|row| row.iter().map(cell).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(lines).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max();
    let widths: Vec<_> = (0..columns.len())
        .map(|at| width(at).unwrap_or(0))
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let row = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!(" {cell:<width$} "))
            .collect();
        format!("│{}│\n", cells.join("│"))
    };
    let body: Vec<_> = lines[1..].iter().map(row).collect();
    let [top, middle, bottom] = [
        rule("┌", "┬", "┐"),
        rule("├", "┼", "┤"),
        rule("└", "┴", "┘"),
    ];
    format!(
        "{top}{}{middle}{}{bottom}",
        row(&lines[0]),
        body.join(&middle)
    )
}

/// A value as Erlang's tools print it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(cell).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(object) => terms(object),
        other => other.to_string(),
    }
}

/// Policies' definitions are JSON, arguments are Erlang terms; both are this if they are empty.
fn terms(object: &Map<String, Value>) -> String {
    if object.is_empty() {
        return "[]".to_owned();
    }
    Value::Object(object.clone()).to_string()
}
