//! Checks of exchanges.

use super::{
    Finding,
    facts::{Facts, inside, named, text},
};

/// What exchanges of the node's own are called.
const OWN: &str = "amq.";

/// An alternate exchange is not there: what should go to it is gone.
pub(super) fn alternate_missing(facts: &Facts) -> Vec<Finding> {
    let missing = facts.exchanges.iter().filter_map(|exchange| {
        let alternate = exchange["arguments"]["alternate-exchange"].as_str()?;
        let is_there = facts.exchange(&exchange["vhost"], alternate).is_some();
        (!is_there).then_some((exchange, alternate))
    });
    missing
        .map(|(exchange, alternate)| {
            Finding::new(
                format!(
                    "what exchange {} cannot lead on is lost: there is no exchange '{alternate}'",
                    named(exchange)
                ),
                format!(
                    "staunch exchange create {alternate} --type fanout{}",
                    inside(exchange)
                ),
            )
        })
        .collect()
}

/// What is published to an exchange goes nowhere.
pub(super) fn exchange_leads_nowhere(facts: &Facts) -> Vec<Finding> {
    let nowhere = facts.exchanges.iter().filter(|exchange| {
        let (vhost, name) = (&exchange["vhost"], text(exchange, "name"));
        !name.is_empty()
            && !name.starts_with(OWN)
            && exchange["arguments"]["alternate-exchange"].is_null()
            && facts.out_of(vhost, name).next().is_none()
    });
    nowhere
        .map(|exchange| {
            let name = text(exchange, "name");
            Finding::new(
                format!("exchange {} leads to nothing", named(exchange)),
                format!("staunch binding create {name} QUEUE{}", inside(exchange)),
            )
        })
        .collect()
}
