//! What is told of each queue, exchange, channel and connection.

use staunch_broker::pattern::Pattern;
use staunch_node::{Held, QueueCounts};
use staunch_types::Name;

use super::text::Text;
use crate::SharedStatistics;

/// Families that a scrape may ask for by name (RabbitMQ, `/metrics/detailed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    NodeCoarse,
    QueueCoarse,
    QueueMetrics,
    QueueDelivery,
    QueueConsumers,
    QueueHorizon,
    Exchange,
    Connection,
    Channel,
}

/// What is wanted of all that there is.
#[derive(Debug)]
pub(super) struct Selection {
    prefix: &'static str,
    /// None: all.
    families: Option<Vec<Family>>,
    vhosts: Vec<String>,
    queue: Option<Pattern>,
}

/// A queue, copied out of the statistics.
struct Queue {
    vhost: Name,
    name: Name,
    kind: &'static str,
    counts: QueueCounts,
    held: Held,
}

type Number = fn(&Queue) -> u64;

const COARSE: [(&str, &str, Number); 4] = [
    ("queue_messages_ready", "gauge", |it| it.held.ready_count),
    ("queue_messages_unacked", "gauge", |it| {
        it.held.unacked_count
    }),
    ("queue_messages", "gauge", |it| {
        it.held.ready_count + it.held.unacked_count
    }),
    ("queue_process_reductions_total", "counter", |_| 0),
];

const CONSUMERS: [(&str, &str, Number); 1] = [("queue_consumers", "gauge", |it| {
    u64::from(it.held.consumer_count)
})];

const METRICS: [(&str, &str, Number); 5] = [
    ("queue_process_memory_bytes", "gauge", |it| {
        it.held.memory_size_bytes
    }),
    ("queue_messages_ready_bytes", "gauge", |it| {
        it.held.ready_body_bytes
    }),
    ("queue_messages_unacked_bytes", "gauge", |it| {
        it.held.unacked_body_bytes
    }),
    ("queue_messages_bytes", "gauge", |it| {
        it.held.ready_body_bytes + it.held.unacked_body_bytes
    }),
    ("queue_messages_published_total", "counter", |it| {
        it.counts.publish
    }),
];

const DELIVERY: [(&str, &str, Number); 7] = [
    ("queue_get_ack_total", "counter", |it| it.counts.get),
    ("queue_get_total", "counter", |it| it.counts.get_no_ack),
    ("queue_messages_delivered_ack_total", "counter", |it| {
        it.counts.deliver
    }),
    ("queue_messages_delivered_total", "counter", |it| {
        it.counts.deliver_no_ack
    }),
    ("queue_messages_redelivered_total", "counter", |it| {
        it.counts.redeliver
    }),
    ("queue_messages_acked_total", "counter", |it| it.counts.ack),
    ("queue_get_empty_total", "counter", |it| it.counts.get_empty),
];

impl Selection {
    pub(super) fn everything() -> Self {
        Self {
            prefix: "rabbitmq_",
            families: None,
            vhosts: Vec::new(),
            queue: None,
        }
    }

    /// From `family=…&vhost=…&queue=…`, each as often as one likes but the last.
    ///
    /// # Errors
    /// What is wrong with the pattern of queues.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut selection = Self {
            prefix: "rabbitmq_detailed_",
            families: Some(Vec::new()),
            vhosts: Vec::new(),
            queue: None,
        };
        for pair in query.split('&') {
            let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
            let text = text.replace('+', " ");
            let text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
            match key {
                "family" => {
                    if let Some(families) = &mut selection.families {
                        families.extend(Family::named(&text));
                    }
                }
                "vhost" => selection.vhosts.push(text.into_owned()),
                "queue" => {
                    let pattern = Pattern::new(&text).map_err(|error| error.to_string())?;
                    selection.queue = Some(pattern);
                }
                _ => {}
            }
        }
        Ok(selection)
    }

    pub(super) fn has(&self, family: Family) -> bool {
        let families = self.families.as_ref();
        families.is_none_or(|families| families.contains(&family))
    }

    pub(super) fn has_vhost(&self, vhost: &Name) -> bool {
        let is_it = |wanted: &String| wanted.as_bytes() == vhost.as_bytes();
        self.vhosts.is_empty() || self.vhosts.iter().any(is_it)
    }

    pub(super) fn has_queue(&self, name: &Name) -> bool {
        let pattern = self.queue.as_ref();
        pattern.is_none_or(|pattern| pattern.matches(name))
    }
}

impl Family {
    fn named(name: &str) -> Option<Self> {
        match name {
            "node_coarse_metrics" | "node_metrics" | "connection_churn_metrics" => {
                Some(Self::NodeCoarse)
            }
            "queue_coarse_metrics" => Some(Self::QueueCoarse),
            "queue_metrics" => Some(Self::QueueMetrics),
            "queue_delivery_metrics" => Some(Self::QueueDelivery),
            "queue_consumer_count" => Some(Self::QueueConsumers),
            "queue_horizon_metrics" => Some(Self::QueueHorizon),
            "exchange_metrics" => Some(Self::Exchange),
            "connection_coarse_metrics" | "connection_metrics" => Some(Self::Connection),
            "channel_metrics" | "channel_process_metrics" => Some(Self::Channel),
            _ => None,
        }
    }
}

pub(super) fn render(statistics: &SharedStatistics, wanted: &Selection, text: &mut Text) {
    let of_queues = [
        (Family::QueueCoarse, &COARSE[..]),
        (Family::QueueConsumers, &CONSUMERS[..]),
        (Family::QueueMetrics, &METRICS[..]),
        (Family::QueueDelivery, &DELIVERY[..]),
    ];
    if of_queues.iter().any(|(family, _)| wanted.has(*family)) {
        let queues = queues(statistics, wanted);
        if wanted.families.is_some() {
            info(&queues, wanted, text);
        }
        let asked = of_queues
            .into_iter()
            .filter(|(family, _)| wanted.has(*family));
        for (name, kind, number) in asked.flat_map(|(_, numbers)| numbers) {
            text.family(&format!("{}{name}", wanted.prefix), kind, "Of each queue");
            for queue in &queues {
                let (vhost, name) = (queue.vhost.to_string(), queue.name.to_string());
                text.sample(&[("vhost", &vhost), ("queue", &name)], number(queue));
            }
        }
    }
    if wanted.has(Family::Exchange) {
        exchanges(statistics, wanted, text);
    }
    if wanted.has(Family::Connection) {
        connections(statistics, wanted, text);
    }
    if wanted.has(Family::Channel) {
        channels(statistics, wanted, text);
    }
}

fn queues(statistics: &SharedStatistics, wanted: &Selection) -> Vec<Queue> {
    let statistics = statistics.read();
    let queues = statistics.queues().map(|(_, queue)| queue);
    let queues = queues
        .filter(|queue| queue.is_served_here)
        .filter(|queue| wanted.has_vhost(&queue.vhost) && wanted.has_queue(&queue.name));
    queues
        .map(|queue| Queue {
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            kind: queue.kind.name(),
            counts: queue.counts,
            held: queue.held,
        })
        .collect()
}

/// What queues are, for those who join it with their numbers.
fn info(queues: &[Queue], wanted: &Selection, text: &mut Text) {
    text.family(
        &format!("{}queue_info", wanted.prefix),
        "gauge",
        "What each queue is",
    );
    for queue in queues {
        let (vhost, name) = (queue.vhost.to_string(), queue.name.to_string());
        let labels = [
            ("vhost", vhost.as_str()),
            ("queue", name.as_str()),
            ("queue_type", queue.kind),
            ("membership", "leader"),
        ];
        text.sample(&labels, 1);
    }
}

fn exchanges(statistics: &SharedStatistics, wanted: &Selection, text: &mut Text) {
    let counted: Vec<_> = {
        let statistics = statistics.read();
        let inside = statistics
            .exchanges()
            .filter(|((vhost, _), _)| wanted.has_vhost(vhost));
        inside
            .map(|(key, series)| (key.clone(), *series.now()))
            .collect()
    };
    let of = [
        "exchange_messages_published_in_total",
        "exchange_messages_published_out_total",
    ];
    for (place, name) in of.into_iter().enumerate() {
        text.family(
            &format!("{}{name}", wanted.prefix),
            "counter",
            "Of each exchange",
        );
        for ((vhost, exchange), numbers) in &counted {
            let (vhost, exchange) = (vhost.to_string(), exchange.to_string());
            text.sample(
                &[("vhost", &vhost), ("exchange", &exchange)],
                numbers[place],
            );
        }
    }
}

fn connections(statistics: &SharedStatistics, wanted: &Selection, text: &mut Text) {
    let counted: Vec<_> = {
        let statistics = statistics.read();
        let all = statistics.connections();
        all.map(|(id, it)| (id.to_string(), it.traffic, it.channels.len()))
            .collect()
    };
    for (place, (name, kind)) in [
        ("connection_incoming_bytes_total", "counter"),
        ("connection_outgoing_bytes_total", "counter"),
        ("connection_incoming_packets_total", "counter"),
        ("connection_outgoing_packets_total", "counter"),
        ("connection_pending_packets", "gauge"),
        ("connection_channels", "gauge"),
    ]
    .into_iter()
    .enumerate()
    {
        text.family(
            &format!("{}{name}", wanted.prefix),
            kind,
            "Of each connection",
        );
        for (id, traffic, channel_count) in &counted {
            let numbers = [
                traffic.received_bytes,
                traffic.sent_bytes,
                traffic.received_count,
                traffic.sent_count,
                traffic.waiting_bytes,
                *channel_count as u64,
            ];
            text.sample(&[("connection", id)], numbers[place]);
        }
    }
}

/// By places in `staunch_stats::MESSAGE_NAMES`.
fn channels(statistics: &SharedStatistics, wanted: &Selection, text: &mut Text) {
    let counted: Vec<_> = {
        let statistics = statistics.read();
        let channels = statistics.connections().flat_map(|(id, connection)| {
            let channels = connection.channels.iter();
            channels.map(move |(number, (_, it))| (format!("{id}.{number}"), *it.now()))
        });
        channels.collect()
    };
    for (name, place) in [
        ("channel_messages_published_total", 0),
        ("channel_messages_confirmed_total", 1),
        ("channel_messages_unroutable_returned_total", 2),
        ("channel_messages_unroutable_dropped_total", 3),
        ("channel_messages_delivered_ack_total", 4),
        ("channel_messages_delivered_total", 5),
        ("channel_get_ack_total", 6),
        ("channel_get_total", 7),
        ("channel_get_empty_total", 8),
        ("channel_messages_redelivered_total", 10),
        ("channel_messages_acked_total", 11),
    ] {
        text.family(
            &format!("{}{name}", wanted.prefix),
            "counter",
            "Of each channel",
        );
        for (channel, numbers) in &counted {
            text.sample(&[("channel", channel)], numbers[place]);
        }
    }
}
