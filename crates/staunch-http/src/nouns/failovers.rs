//! `/api/staunch/v1/failovers`: which nodes were given up, how others took over, and what took so long.
//!
//! Every node writes down what it sees (`staunch-node/src/cluster/failover.rs`), as times since it last
//! heard of the node, so clocks need not agree. Whoever is asked asks the others and puts together what
//! is the same failover: of each time the first that anybody saw, but for the end, which is the last.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use staunch_node::{Cause, FAILOVERS_MAX, Failover};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    question::Question,
};

/// Nodes that give up another within this time see the same failover.
const SAME_WITHIN_MILLIS: u64 = 5_000;

/// What one node has seen of a failover. Times are milliseconds since it last heard of the node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// Who tells.
    by: String,
    /// Who was lost.
    node: String,
    /// When it was given up, in milliseconds since 1970.
    at: u64,
    cause: String,
    suspected_ms: f64,
    patience_ms: f64,
    disconnected_ms: Option<f64>,
    /// Queues of the lost node that this one keeps.
    queues: usize,
    led_catalog: bool,
    campaigned_ms: Option<f64>,
    first_led_ms: Option<f64>,
    /// How many of them are led again.
    led: usize,
    all_led_ms: Option<f64>,
    /// How many of them this node leads.
    led_here: usize,
    confirmed_ms: Option<f64>,
    resent: usize,
    back_ms: Option<f64>,
}

/// The last failovers, the newest first.
pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    caller.monitor()?;
    let heard = api.ask_others::<Vec<Seen>>(&Question::Failovers).await?;
    let others = heard.answers.into_iter().flat_map(|(_, seen)| seen);
    let all: Vec<_> = own(&api).await?.into_iter().chain(others).collect();
    let mut failovers = together(all);
    failovers.reverse();
    failovers.truncate(FAILOVERS_MAX);
    let shown: Vec<_> = failovers.iter().map(|seen| shown(seen)).collect();
    let answer = json!({
        "node": api.settings.node_name,
        "failovers": shown,
        "unknown_nodes": heard.unknown.shown(),
    });
    Ok(heard.unknown.mark(body::ok(&answer)?))
}

/// What this node has seen.
pub(crate) async fn own(api: &Api) -> Result<Vec<Seen>, ApiError> {
    let me = &api.settings.node_name;
    let all = api.node.failovers().await?;
    Ok(all.iter().map(|failover| Seen::of(me, failover)).collect())
}

impl Seen {
    fn of(me: &str, failover: &Failover) -> Self {
        let own = |(node, _): &&(Name, usize)| **node == *me.as_bytes();
        Self {
            by: me.to_owned(),
            node: failover.node.to_string(),
            at: failover.suspected_at.0,
            cause: cause_name(failover.cause).to_owned(),
            suspected_ms: millis(failover.suspected),
            patience_ms: millis(failover.patience),
            disconnected_ms: failover.disconnected.map(millis),
            queues: failover.queue_count,
            led_catalog: failover.led_catalog,
            campaigned_ms: failover.campaigned.map(millis),
            first_led_ms: failover.first_led.map(millis),
            led: failover.led_count,
            all_led_ms: failover.all_led.map(millis),
            led_here: failover.led_by.iter().find(own).map_or(0, |(_, led)| *led),
            confirmed_ms: failover.confirmed.map(millis),
            resent: failover.resent_count,
            back_ms: failover.back.map(millis),
        }
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Goodbye => "goodbye",
        Cause::Broken => "broken",
        Cause::Silence => "silence",
        Cause::Restarted => "restarted",
    }
}

/// To a hundredth: more is noise.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Those that are the same, each with what everybody has seen of it, by time.
fn together(mut all: Vec<Seen>) -> Vec<Vec<Seen>> {
    all.sort_by_key(|seen| seen.at);
    let mut failovers: Vec<Vec<Seen>> = Vec::new();
    for seen in all {
        let same = failovers.iter_mut().rev().find(|failover| {
            let first = &failover[0];
            first.node == seen.node
                && seen.at - first.at <= SAME_WITHIN_MILLIS
                && failover.iter().all(|it| it.by != seen.by)
        });
        match same {
            Some(failover) => failover.push(seen),
            None => failovers.push(vec![seen]),
        }
    }
    failovers
}

/// All that was seen of a failover as one.
fn whole(seen: &[Seen]) -> Seen {
    let least =
        |time: fn(&Seen) -> Option<f64>| seen.iter().filter_map(time).min_by(f64::total_cmp);
    // Whoever noticed first set off what followed.
    let first = seen
        .iter()
        .min_by(|a, b| a.suspected_ms.total_cmp(&b.suspected_ms));
    let first = first.cloned().unwrap_or_default();
    let concerned = || seen.iter().filter(|it| it.queues > 0 || it.led_catalog);
    let are_all_led = concerned().all(|it| it.all_led_ms.is_some());
    let last_led = concerned().filter_map(|it| it.all_led_ms);
    Seen {
        disconnected_ms: least(|it| it.disconnected_ms),
        queues: seen.iter().map(|it| it.queues).max().unwrap_or_default(),
        led_catalog: seen.iter().any(|it| it.led_catalog),
        campaigned_ms: least(|it| it.campaigned_ms),
        first_led_ms: least(|it| it.first_led_ms),
        led: seen.iter().map(|it| it.led_here).sum(),
        all_led_ms: last_led.max_by(f64::total_cmp).filter(|_| are_all_led),
        confirmed_ms: least(|it| it.confirmed_ms),
        resent: seen.iter().map(|it| it.resent).sum(),
        back_ms: least(|it| it.back_ms),
        ..first
    }
}

fn shown(seen: &[Seen]) -> Value {
    let whole = whole(seen);
    let mut shown = json!(whole);
    let led_by = seen.iter().filter(|it| it.led_here > 0);
    let led_by = led_by.map(|it| json!({"node": it.by, "queues": it.led_here}));
    let is_over = whole.all_led_ms.is_some() || (whole.queues == 0 && !whole.led_catalog);
    if let Value::Object(shown) = &mut shown {
        shown.remove("by");
        shown.remove("led_here");
        shown.insert("last_heard_at".to_owned(), last_heard_at(&whole).into());
        shown.insert("led_by".to_owned(), led_by.collect());
        shown.insert("is_over".to_owned(), is_over.into());
        shown.insert("explained".to_owned(), explained(&whole).into());
        shown.insert("seen".to_owned(), json!(seen));
    }
    shown
}

fn last_heard_at(seen: &Seen) -> u64 {
    let silence = Duration::from_secs_f64(seen.suspected_ms.max(0.0) / 1_000.0);
    let silence = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    seen.at.saturating_sub(silence)
}

/// What took longest, and what would have been faster.
fn explained(seen: &Seen) -> String {
    let suspected = seen.suspected_ms;
    if seen.queues == 0 && !seen.led_catalog {
        return format!("It led nothing: nobody waited for it. {}", detected(seen));
    }
    let Some(led) = seen.all_led_ms else {
        return format!(
            "{} of its {} queues have another leader so far. A queue has none while a majority of the \
             nodes that keep it are gone. {}",
            seen.led,
            seen.queues,
            detected(seen)
        );
    };
    let confirmed = seen.confirmed_ms.filter(|it| *it >= led);
    let end = confirmed.unwrap_or(led);
    let (electing, using) = (led - suspected, confirmed.map_or(0.0, |it| it - led));
    let of = |part: f64| format!("{part:.0} of {end:.0} ms");
    if suspected >= electing && suspected >= using {
        return format!("{} were detection. {}", of(suspected), detected(seen));
    }
    if electing >= using {
        return format!(
            "{} were elections: a new leader writes its vote and its first entry to disk, and so does \
             another node. Faster disks or fewer queues on a node shorten that.",
            of(electing)
        );
    }
    format!(
        "{} were spent until a message was confirmed again, while all queues had a leader: nobody had \
         published to them, or clients of the lost node had to connect to another. Give clients all \
         nodes' addresses.",
        of(using)
    )
}

/// How the loss was noticed.
fn detected(seen: &Seen) -> String {
    let (suspected, patience) = (seen.suspected_ms, seen.patience_ms);
    match (seen.cause.as_str(), seen.disconnected_ms) {
        ("goodbye", _) => "It had said that it stops, so nothing had to be detected.".to_owned(),
        ("restarted", _) => {
            "It was another process before it was missed: its restart was noticed when it connected."
                .to_owned()
        }
        ("broken", Some(disconnected)) => format!(
            "Its connection broke {disconnected:.0} ms after its last word, and {patience:.0} ms of \
             silence were enough then; the heartbeats that fill silences are 50 ms apart."
        ),
        (_, Some(disconnected)) if disconnected > suspected => format!(
            "It was silent for {patience:.0} ms while its connection was up (it hung, or the network \
             did); the connection broke after {disconnected:.0} ms. Where a process ends, its \
             connection breaks at once, and 20 ms are enough."
        ),
        _ => format!(
            "It was silent for {patience:.0} ms while its connection was up: it hung or was paused, or \
             the network was cut. How long a silence may be is learned from its heartbeats, between \
             150 and 600 ms. Where a process ends, its connection breaks at once, and 20 ms are enough."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(by: &str, at: u64, suspected_ms: f64) -> Seen {
        Seen {
            by: by.to_owned(),
            node: "n1".to_owned(),
            at,
            cause: "broken".to_owned(),
            suspected_ms,
            patience_ms: 20.0,
            disconnected_ms: Some(suspected_ms - 21.0),
            queues: 5,
            ..Seen::default()
        }
    }

    #[test]
    fn what_several_nodes_see_is_one_failover() {
        let mut one = seen("n2", 1_000, 40.0);
        one.led_here = 3;
        one.all_led_ms = Some(60.0);
        one.confirmed_ms = Some(75.0);
        let mut other = seen("n3", 1_010, 45.0);
        other.led_here = 2;
        other.all_led_ms = Some(70.0);
        other.resent = 4;
        let later = seen("n2", 1_500, 50.0);
        let elsewhere = Seen {
            node: "n4".to_owned(),
            ..seen("n2", 1_005, 30.0)
        };
        let all = vec![later.clone(), other.clone(), elsewhere.clone(), one.clone()];
        let failovers = together(all);
        assert_eq!(failovers, [vec![one, other], vec![elsewhere], vec![later]]);
        let whole = whole(&failovers[0]);
        assert_eq!((whole.suspected_ms, whole.all_led_ms), (40.0, Some(70.0)));
        assert_eq!((whole.led, whole.resent), (5, 4));
        assert_eq!(whole.confirmed_ms, Some(75.0));
        assert_eq!(last_heard_at(&whole), 960);
        let one_is_not_led = [failovers[0][0].clone(), failovers[2][0].clone()];
        assert_eq!(super::whole(&one_is_not_led).all_led_ms, None);
    }

    #[test]
    fn an_explanation_names_what_took_longest() {
        let check = |change: fn(&mut Seen), begins: &str, contains: &str| {
            let mut seen = seen("n2", 1_000, 41.0);
            seen.all_led_ms = Some(60.0);
            change(&mut seen);
            let text = explained(&seen);
            assert!(text.starts_with(begins), "{text}");
            assert!(text.contains(contains), "{text}");
        };
        check(
            |_| {},
            "41 of 60 ms were detection",
            "broke 20 ms after its last word",
        );
        check(
            |seen| {
                seen.cause = "silence".to_owned();
                seen.disconnected_ms = None;
                seen.suspected_ms = 210.0;
                seen.all_led_ms = Some(390.0);
            },
            "210 of 390 ms were detection",
            "while its connection was up",
        );
        check(
            |seen| seen.all_led_ms = Some(200.0),
            "159 of 200 ms were elections",
            "disks",
        );
        check(
            |seen| seen.confirmed_ms = Some(900.0),
            "840 of 900 ms were spent until",
            "clients",
        );
        check(
            |seen| seen.all_led_ms = None,
            "0 of its 5 queues",
            "majority",
        );
        check(|seen| seen.queues = 0, "It led nothing", "broke");
        check(
            |seen| seen.cause = "goodbye".to_owned(),
            "41 of 60 ms",
            "it stops",
        );
    }
}
