//! From the log to the list of events: what operators want to know of is both.

use std::fmt;

use serde_json::{Map, Value};
use staunch_http::EventLog;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
};

/// Names of log events begin with what they are about; these are of use to operators.
const ABOUT: [&str; 17] = [
    "admin.",
    "alarm.",
    "cluster.",
    "definitions.",
    "disk.",
    "horizon.",
    "job.",
    "messages.",
    "node.",
    "parameter.",
    "peer.",
    "permission.",
    "policy.",
    "queue.",
    "tls.",
    "user.",
    "vhost.",
];

/// Puts log events into the list.
pub(super) struct Recorder(pub(super) EventLog);

/// What is no detail.
pub(super) struct Notable;

#[derive(Default)]
struct Fields {
    name: Option<String>,
    text: String,
    others: Map<String, Value>,
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { name, text, others } = fields;
        let name = name.filter(|name| ABOUT.iter().any(|about| name.starts_with(about)));
        if let Some(name) = name {
            let level = event.metadata().level().as_str().to_lowercase();
            self.0.push(&name, &level, &text, others);
        }
    }
}

impl<S> Filter<S> for Notable {
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("staunch")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("event", Value::String(name)) => self.name = Some(name),
            ("message", Value::String(text)) => self.text = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}
