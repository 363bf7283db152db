//! What commands print, as text for people or as JSON.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    options::Options,
    table::{self, Column},
    target::Put,
};

/// How a list is shown.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Listing {
    /// What is shown of each row: names of the HTTP interface, parts separated by dots, such as
    /// `name,message_stats.publish_details.rate`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    columns: Vec<String>,
    /// Sorts the rows by this.
    #[arg(long, value_name = "NAME")]
    sort: Option<String>,
    /// Turns the order around.
    #[arg(long)]
    reverse: bool,
}

/// Prints a list: as a table with these columns unless others are asked for, or as JSON.
pub(crate) fn list(
    options: &Options,
    listing: &Listing,
    mut rows: Vec<Value>,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    if let Some(column) = &listing.sort {
        table::sort(&mut rows, &Column::named(column));
    }
    if listing.reverse {
        rows.reverse();
    }
    let asked: Vec<_> = listing.columns.iter().map(|it| Column::named(it)).collect();
    match (options.json, asked.is_empty()) {
        (true, true) => json(&Value::Array(rows)),
        (true, false) => json(&Value::Array(table::only(&rows, &asked))),
        (false, true) => text(&table::table(&rows, &table::columns(columns))),
        (false, false) => text(&table::table(&rows, &asked)),
    }
}

/// Prints one thing: a line for each column, or all of it as JSON.
pub(crate) fn one(
    options: &Options,
    thing: &Value,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    if options.json {
        return json(thing);
    }
    text(&table::record(thing, &table::columns(columns)))
}

/// Says what has become of a thing: `queue 'orders' created`.
pub(crate) fn done(options: &Options, noun: &str, name: &str, result: &str) -> anyhow::Result<()> {
    if options.json {
        return json(&json!({noun: name, "result": result}));
    }
    text(&format!("{noun} '{}' {result}\n", table::visible(name)))
}

/// Says what has become of a thing that was to be there.
pub(crate) fn put(options: &Options, noun: &str, name: &str, put: Put) -> anyhow::Result<()> {
    let result = match put {
        Put::Created => "created",
        Put::Updated => "is there",
    };
    done(options, noun, name, result)
}

/// Prints JSON.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    // Written by itself, so that a reader that has gone is known as such.
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints text.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
