//! What the checks look at.

use serde_json::{Map, Value};

use crate::cli::{failure::Failure, options::Options, target::Target};

/// What the HTTP interface says, read once.
pub(super) struct Facts {
    pub(super) queues: Vec<Value>,
    pub(super) exchanges: Vec<Value>,
    pub(super) bindings: Vec<Value>,
    pub(super) policies: Vec<Value>,
    pub(super) consumers: Vec<Value>,
    pub(super) connections: Vec<Value>,
    pub(super) vhost_limits: Vec<Value>,
    pub(super) nodes: Vec<Value>,
    pub(super) outsiders: Vec<Value>,
    pub(super) cluster: Value,
    /// Queues that do not meet their objective.
    pub(super) short_of_slo: Vec<Value>,
    /// What the check of alarms says, if it fails.
    pub(super) alarms: Option<Value>,
    /// Guest's password is guest.
    pub(super) is_guest_open: bool,
}

impl Facts {
    pub(super) fn gather(target: &Target) -> Result<Self, Failure> {
        let (is_calm, alarms) = target.check("health/checks/alarms")?;
        let node = target.resolved.node.clone();
        let guest = Some(("guest".to_owned(), "guest".to_owned()));
        let guest = Options::at(node, guest).with_ca_of(target).target()?;
        let mut horizon = target.get("staunch/v1/horizon?slo=policy&page_size=500")?;
        let short_of_slo = match horizon["queues"].take() {
            Value::Array(rows) => rows,
            _ => Vec::new(),
        };
        Ok(Self {
            queues: target.get_list("queues")?,
            exchanges: target.get_list("exchanges")?,
            bindings: target.get_list("bindings")?,
            policies: target.get_list("policies")?,
            consumers: target.get_list("consumers")?,
            connections: target.get_list("connections")?,
            vhost_limits: target.get_list("vhost-limits")?,
            nodes: target.get_list("nodes")?,
            outsiders: target.get_list("users/without-permissions")?,
            cluster: target.get("staunch/v1/cluster")?,
            short_of_slo,
            alarms: (!is_calm).then_some(alarms),
            is_guest_open: guest.get("whoami").is_ok(),
        })
    }

    pub(super) fn exchange(&self, vhost: &Value, name: &str) -> Option<&Value> {
        let mut exchanges = self.exchanges.iter();
        exchanges.find(|it| it["vhost"] == *vhost && it["name"] == name)
    }

    /// Bindings out of an exchange.
    pub(super) fn out_of<'a>(
        &'a self,
        vhost: &'a Value,
        exchange: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        let bindings = self.bindings.iter();
        bindings.filter(move |it| it["vhost"] == *vhost && it["source"] == exchange)
    }
}

/// A text out of JSON; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// `orders`, or `orders in shop`.
pub(super) fn named(thing: &Value) -> String {
    match text(thing, "vhost") {
        "/" | "" => format!("'{}'", text(thing, "name")),
        vhost => format!("'{}' in '{vhost}'", text(thing, "name")),
    }
}

/// ` --vhost shop`, where it is needed.
pub(super) fn inside(thing: &Value) -> String {
    match text(thing, "vhost") {
        "/" | "" => String::new(),
        vhost => format!(" --vhost {vhost}"),
    }
}

/// A queue's settings: its arguments, and what policies say.
pub(super) fn setting<'a>(queue: &'a Value, key: &str) -> Option<&'a Value> {
    let of = |settings: &'a Value, key: &str| {
        let settings: Option<&'a Map<String, Value>> = settings.as_object();
        settings.and_then(|it| it.get(key))
    };
    let argument = of(&queue["arguments"], &format!("x-{key}"));
    argument.or_else(|| of(&queue["effective_policy_definition"], key))
}
