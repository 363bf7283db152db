//! Checks of users and limits.

use super::{
    Finding,
    facts::{Facts, text},
};

/// Share of a limit above which it is nearly reached, in percent.
const LIMIT_PERCENT_MAX: u64 = 90;

/// Everybody knows guest's password.
pub(super) fn default_password(facts: &Facts) -> Vec<Finding> {
    if !facts.is_guest_open {
        return Vec::new();
    }
    vec![Finding::new(
        "user 'guest' has the password that everybody knows",
        "staunch user passwd guest, or staunch user delete guest once there is another",
    )]
}

/// A user may enter no virtual host.
pub(super) fn without_permissions(facts: &Facts) -> Vec<Finding> {
    let outsiders = facts.outsiders.iter();
    outsiders
        .map(|user| {
            let name = text(user, "name");
            Finding::new(
                format!("user '{name}' may enter no virtual host"),
                format!("staunch permission set {name}, or staunch user delete {name}"),
            )
        })
        .collect()
}

/// A virtual host has nearly as many queues or connections as it may.
pub(super) fn nearly_at_limit(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in &facts.vhost_limits {
        let vhost = &row["vhost"];
        let count = |rows: &[serde_json::Value]| {
            let inside = rows.iter().filter(|it| it["vhost"] == *vhost);
            inside.count() as u64
        };
        for (limit, what, used) in [
            ("max-queues", "queues", count(&facts.queues)),
            ("max-connections", "connections", count(&facts.connections)),
        ] {
            let Some(max) = row["value"][limit].as_u64() else {
                continue;
            };
            if used.saturating_mul(100) >= max.saturating_mul(LIMIT_PERCENT_MAX) {
                let vhost = text(row, "vhost");
                findings.push(Finding::new(
                    format!("virtual host '{vhost}' has {used} of {max} {what}"),
                    format!("staunch limit set vhost {vhost} {limit} MORE"),
                ));
            }
        }
    }
    findings
}
