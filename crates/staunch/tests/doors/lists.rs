//! Pages of queues come in the order that the whole list has, whatever column that is.

use serde_json::{Value, json};

use crate::{
    http::Client,
    node::{Node, until},
};

const PAGE_SIZE: usize = 4;
/// Columns by which nothing moves between two questions.
const COLUMNS: [&str; 14] = [
    "name",
    "vhost",
    "type",
    "durable",
    "policy",
    "arguments.x-max-length",
    "effective_policy_definition.max-length",
    "state",
    "node",
    "messages",
    "messages_ready",
    "message_bytes",
    "consumers",
    "message_stats.publish",
];

/// Queues of both virtual hosts and all kinds, some with messages.
fn fill(client: &Client) {
    client.check("PUT", "/vhosts/other", &json!({}), 201);
    let policy = json!({"pattern": "^q1", "definition": {"max-length": 7}, "apply-to": "queues"});
    client.check("PUT", "/policies/%2F/short", &policy, 201);
    for number in 0..14 {
        let vhost = if number % 3 == 0 { "other" } else { "%2F" };
        let kind = if number % 4 == 1 { "quorum" } else { "classic" };
        let queue = json!({
            "durable": true,
            "arguments": {"x-queue-type": kind, "x-max-length": 5 + number % 5},
        });
        client.check("PUT", &format!("/queues/{vhost}/q{number}"), &queue, 201);
        for message in 0..number % 3 {
            let message = json!({
                "routing_key": format!("q{number}"),
                "payload": "x".repeat(1 + message),
                "payload_encoding": "string",
                "properties": {},
            });
            let path = format!("/exchanges/{vhost}/amq.default/publish");
            client.check("POST", &path, &message, 200);
        }
    }
}

fn names(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", row["vhost"], row["name"]))
        .collect()
}

#[test]
fn pages_are_the_whole_list_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let client = Client::new(&node, "guest:guest");
    fill(&client);
    until("publishes are counted", || {
        client.get("/queues/%2F/q2").1["message_stats"]["publish"] == 2
    });
    for column in COLUMNS {
        for order in ["", "&sort_reverse=true"] {
            let sort = format!("sort={column}{order}&columns=vhost,name");
            let whole = names(&client.get(&format!("/queues?{sort}")).1);
            assert_eq!(whole.len(), 14);
            let paged: Vec<_> = (1..=whole.len().div_ceil(PAGE_SIZE))
                .flat_map(|page| {
                    let path = format!("/queues?page={page}&page_size={PAGE_SIZE}&{sort}");
                    names(&client.get(&path).1["items"])
                })
                .collect();
            assert_eq!(paged, whole, "{sort}");
        }
    }
}

#[test]
fn pages_hold_only_what_fits_the_filters() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let client = Client::new(&node, "guest:guest");
    fill(&client);
    let all = client.get("/queues?sort=messages_ready").1;
    for kind in ["quorum", "classic"] {
        let rows = all.as_array().unwrap().iter();
        let fitting = rows.filter(|row| row["type"] == kind && row["name"] != "q11");
        let fitting: Vec<_> = fitting.cloned().collect();
        let path = format!("/queues?page=1&type={kind}&state=running&sort=messages_ready");
        let page = client
            .get(&format!("{path}&name=%5Eq(%3F!11)&use_regex=true"))
            .1;
        assert_eq!(names(&page["items"]), names(&fitting.into()), "{kind}");
        assert_eq!(page["total_count"], 14);
        assert_eq!(page["filtered_count"], page["item_count"]);
    }
    let down = client.get("/queues?page=1&state=down").1;
    assert_eq!(down["items"], json!([]));
}
