//! `/api/staunch/v1/openapi.json`: the interface in the words of `OpenAPI` 3.1, made of the table of
//! paths ([`crate::routes`]) and of the schemas in `openapi/`.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse as _,
};
use serde_json::{Map, Value, json};

use crate::{
    Api,
    body::Answer,
    routes::{Answered, Operation},
};

/// What answers and bodies look like, one file for a group of nouns.
const SCHEMAS: [&str; 5] = [
    include_str!("openapi/access.json"),
    include_str!("openapi/messaging.json"),
    include_str!("openapi/monitoring.json"),
    include_str!("openapi/own.json"),
    include_str!("openapi/settings.json"),
];
/// What queries may say.
const QUERIES: &str = include_str!("openapi/queries.json");

/// What varies in paths.
const PATH_PARTS: [(&str, &str); 19] = [
    ("channel", "its connection's name, and ` (number)`"),
    (
        "component",
        "what the parameter belongs to, such as `vhost-limits`",
    ),
    ("destination", "what is bound"),
    (
        "exchange",
        "the exchange; `amq.default` for the default exchange",
    ),
    ("feature", "name of a feature"),
    ("job", "its id"),
    (
        "kind",
        "what is bound: `q` for a queue, `e` for an exchange",
    ),
    ("limit", "what is limited"),
    ("name", "its name"),
    ("node", "name of a node, such as `staunch@host`"),
    ("port", "number of a port"),
    (
        "properties",
        "the binding's `properties_key`, percent-encoded once more",
    ),
    ("protocol", "such as `amqp`, `amqp/ssl` or `http`"),
    ("queue", "the queue"),
    ("source", "the exchange that is bound to"),
    ("unit", "`days`, `weeks`, `months` or `years`"),
    ("user", "the user"),
    ("vhost", "the virtual host; `%2F` for `/`"),
    ("within", "how many of them"),
];

const DESCRIPTION: &str = "RabbitMQ's management API as far as it goes here, and below \
`/api/staunch/v1` what RabbitMQ does not have. What varies in paths is percent-encoded. A slash at \
the end means nothing. Answers may get more keys; those that are here stay. Whatever can be asked \
by GET can be asked by HEAD. Bodies may have any content type and are read as JSON.";

/// The document, as text.
pub(crate) fn document(operations: &[Operation], version: &str) -> String {
    let mut paths = Map::new();
    for operation in operations {
        let path = format!("/api{}", operation.path);
        let method = operation.method.as_str().to_lowercase();
        paths.entry(path).or_insert_with(|| json!({}))[method] = told(operation);
    }
    let mut schemas = Map::new();
    for text in SCHEMAS {
        schemas.extend(object(text));
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Staunch",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"login": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "login": {"type": "http", "scheme": "basic"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "staunch-session-NODE",
                    "description": "as `/api/staunch/v1/session` sets it; what is no GET needs \
                     the session's token in `x-staunch-csrf` besides",
                },
            },
            "parameters": object(QUERIES),
            "responses": {
                "Error": {
                    "description": "it is not done, and why",
                    "content": content(&reference("Error")),
                },
            },
            "schemas": schemas,
        },
    });
    document.to_string()
}

pub(crate) async fn get(State(api): State<Api>) -> Answer {
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], api.document.to_string()).into_response())
}

fn told(operation: &Operation) -> Value {
    let mut told = json!({
        "operationId": id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": responses(operation),
    });
    let parameters: Vec<_> = path_parts(&operation.path)
        .chain(
            operation
                .query
                .iter()
                .map(|name| json!({"$ref": format!("#/components/parameters/{name}")})),
        )
        .collect();
    if !parameters.is_empty() {
        told["parameters"] = parameters.into();
    }
    if let Some(schema) = operation.takes {
        told["requestBody"] = json!({"content": content(&reference(schema))});
    }
    if operation.is_open {
        told["security"] = json!([]);
    }
    told
}

/// Such as `get_queues_vhost_name`.
fn id(operation: &Operation) -> String {
    let words = operation.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.fold(operation.method.as_str().to_lowercase(), |id, word| {
        format!("{id}_{word}")
    })
}

fn path_parts(path: &str) -> impl Iterator<Item = Value> {
    let parts = path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let known = PATH_PARTS.iter().find(|(known, _)| *known == name);
        let (_, description) = known.expect("what varies in paths is described");
        Some(json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": description,
            "schema": {"type": "string"},
        }))
    });
    parts.collect::<Vec<_>>().into_iter()
}

fn responses(operation: &Operation) -> Value {
    let bare = |description: &str| json!({"description": description});
    let full = |schema: &Value| json!({"description": "as asked", "content": content(schema)});
    let mut responses = match operation.answer {
        Answered::Done => json!({"204": bare("done")}),
        Answered::Made => {
            json!({"201": bare("made"), "204": bare("it was there, and is as asked")})
        }
        Answered::Location => json!({
            "201": {
                "description": "made",
                "headers": {
                    "location": {
                        "description": "where it is, relative to the request",
                        "schema": {"type": "string"},
                    },
                },
            },
        }),
        Answered::One(schema) => json!({"200": full(&reference(schema))}),
        Answered::All(schema) => json!({"200": full(&list(schema))}),
        Answered::Page(schema) => json!({"200": full(&page(schema))}),
        Answered::Events(schema) => json!({"200": {
            "description": "server-sent events, each with one of these as its data",
            "content": {"text/event-stream": {"schema": reference(schema)}},
        }}),
    };
    if operation.is_check {
        let failed = content(&reference("Unhealthy"));
        responses["503"] = json!({"description": "it is not well", "content": failed});
    }
    responses["default"] = json!({"$ref": "#/components/responses/Error"});
    responses
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn list(schema: &str) -> Value {
    json!({"type": "array", "items": reference(schema)})
}

/// A list, or a part of it with what is said about that.
fn page(schema: &str) -> Value {
    let counts = [
        "total_count",
        "item_count",
        "filtered_count",
        "page",
        "page_size",
        "page_count",
    ];
    let mut properties = Map::new();
    for count in counts {
        properties.insert(count.to_owned(), json!({"type": "integer"}));
    }
    properties.insert("items".to_owned(), list(schema));
    let page = json!({
        "type": "object",
        "required": properties.keys().collect::<Vec<_>>(),
        "properties": properties,
    });
    json!({"oneOf": [list(schema), page]})
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("it is read by a test")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::nouns;

    fn read() -> Value {
        let (_, operations) = nouns::routes().into_parts();
        serde_json::from_str(&document(&operations, "1")).expect("JSON")
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(reference)) = object.get("$ref") {
                    found.insert(reference.clone());
                }
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn all_that_is_referred_to_is_there_and_all_that_is_there_is_referred_to() {
        let document = read();
        let mut wanted = BTreeSet::new();
        references(&document, &mut wanted);
        let mut there = BTreeSet::new();
        for kind in ["schemas", "parameters", "responses"] {
            let known = document["components"][kind].as_object().expect("an object");
            there.extend(
                known
                    .keys()
                    .map(|name| format!("#/components/{kind}/{name}")),
            );
        }
        assert_eq!(wanted, there);
    }

    /// `STAUNCH_OPENAPI_FILE` says where; the web page's types are made of it.
    #[test]
    fn the_document_can_be_kept() {
        let (_, operations) = nouns::routes().into_parts();
        let text = document(&operations, "1");
        if let Some(path) = std::env::var_os("STAUNCH_OPENAPI_FILE") {
            std::fs::write(path, text).expect("it can be written");
        }
    }

    #[test]
    fn operations_have_names_of_their_own_and_say_what_they_do() {
        let (_, operations) = nouns::routes().into_parts();
        let names: BTreeSet<_> = operations.iter().map(id).collect();
        assert_eq!(names.len(), operations.len());
        for operation in &operations {
            assert!(!operation.summary.is_empty(), "{}", operation.path);
            assert!(!operation.tag.is_empty(), "{}", operation.path);
            assert_ne!(
                operation.answer,
                Answered::One("Anything"),
                "{}",
                operation.path
            );
        }
    }
}
