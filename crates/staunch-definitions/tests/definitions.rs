//! A file that RabbitMQ 3.10.8 exported, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use staunch_broker::password::{HashAlgorithm, PasswordHash, SALT_SIZE_BYTES};
use staunch_broker::{
    Access, Catalog, CatalogCommand, PermissionCommand, PermissionPatterns, PolicyScope, QueueKind,
    UserCommand, VhostLimits,
};
use staunch_definitions::{Import, Planned, Verdict, export, import};
use staunch_types::{Name, QueueOptions, Resource};

const FROM_RABBITMQ: &[u8] = include_bytes!("fixtures/rabbitmq-3.10.8.json");

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn salt() -> [u8; SALT_SIZE_BYTES] {
    [7; SALT_SIZE_BYTES]
}

fn read(file: &[u8], vhost: Option<&Name>) -> Import {
    import(file, vhost, &mut salt).unwrap()
}

/// Applies a plan; what did not go through.
fn apply(catalog: &mut Catalog, plan: &[Planned]) -> Vec<Verdict> {
    let verdicts = plan.iter().map(|planned| {
        let answer = catalog.apply(&planned.command);
        planned.verdict(answer.as_ref().map(drop))
    });
    let failures = verdicts.filter(|verdict| *verdict != Verdict::Done);
    let failures = failures.collect();
    catalog.check_invariants();
    failures
}

fn imported() -> Catalog {
    let mut catalog = Catalog::new(1);
    let import = read(FROM_RABBITMQ, None);
    assert_eq!(
        import.warnings,
        ["users[0] 'nobody': the user has no password and cannot log in with one"]
    );
    let failures = apply(&mut catalog, &import.plan);
    // RabbitMQ leaves out internal exchanges and keeps their bindings.
    let missing = "no exchange 'inner' in vhost '/'";
    let ignored = |entry: &str| Verdict::Ignored(format!("{entry}: {missing}"));
    let expected = [
        ignored("bindings[2] 'inner'"),
        ignored("bindings[5] 'orders'"),
    ];
    assert_eq!(failures, expected);
    catalog
}

#[test]
fn a_file_of_rabbitmq_says_the_same_here() {
    let catalog = imported();
    let alice = catalog.user(b"alice").unwrap();
    assert!(alice.password.as_ref().unwrap().verify(b"secret"));
    assert!(alice.has_tag("administrator") && alice.has_tag("monitoring"));
    assert_eq!(alice.limits.channels_max, Some(20));
    assert_eq!(catalog.user(b"nobody").unwrap().password, None);
    let guest = catalog.user(b"guest").unwrap();
    assert!(guest.password.as_ref().unwrap().verify(b"guest"));

    let shop = catalog.vhost_metadata(b"shop").unwrap();
    assert_eq!(shop.description, "the shop");
    assert_eq!(shop.default_queue_type, Some(QueueKind::Classic));
    let limits = VhostLimits {
        connections_max: Some(100),
        queues_max: Some(50),
    };
    assert_eq!(catalog.vhost_limits(b"shop"), limits);
    assert!(catalog.is_unrestricted(b"guest", b"shop"));
    let write = |queue: &str| {
        let what = (Resource::Queue, queue.as_bytes());
        catalog.authorize(b"alice", b"shop", Access::Write, what)
    };
    assert!(write("alice.1") && write("events") && !write("my-events"));

    let limited = catalog.queue(b"/", b"limited").unwrap();
    // By argument and operator policy: the smaller one.
    assert_eq!(limited.settings.max_length, Some(100));
    assert_eq!(limited.settings.expires_millis, Some(600_000));
    let plain = catalog.queue(b"/", b"plain").unwrap();
    assert_eq!(plain.settings.message_ttl_millis, Some(5_000));
    assert_eq!(plain.settings.max_length, Some(10));
    let applying = |scope| catalog.policy_of_queue(plain, scope).map(Name::to_string);
    assert_eq!(applying(PolicyScope::User).unwrap(), "ttl");
    assert_eq!(applying(PolicyScope::Operator).unwrap(), "cap");
    let replicated = catalog.queue(b"/", b"replicated").unwrap();
    let dead_lettering = replicated.settings.dead_lettering.as_ref().unwrap();
    assert!(dead_lettering.at_least_once);
    assert_eq!(catalog.bindings(b"/").count(), 5);
    assert!(catalog.global_parameter(b"cluster_name").is_some());
}

#[test]
fn what_is_there_already_is_fine_and_a_conflict_is_told_as_rabbitmq_tells_it() {
    let mut catalog = imported();
    let mut before = Vec::new();
    catalog.encode_snapshot(&mut before);
    apply(&mut catalog, &read(FROM_RABBITMQ, None).plan);
    let mut after = Vec::new();
    catalog.encode_snapshot(&mut after);
    assert_eq!(before, after);

    let other = json!({"queues": [{
        "vhost": "/", "name": "plain", "durable": false, "auto_delete": false, "arguments": {},
    }]});
    let plan = read(other.to_string().as_bytes(), None).plan;
    let text = "queues[0] 'plain': inequivalent arg 'durable' for queue 'plain' in vhost '/': \
        received 'false' but current is 'true'";
    let expected = [Verdict::Failed(text.to_owned())];
    assert_eq!(apply(&mut catalog, &plan), expected);
}

fn exported(catalog: &Catalog, vhost: Option<&Name>) -> Json {
    serde_json::from_slice(&export(catalog, vhost)).unwrap()
}

#[test]
fn an_export_read_again_makes_the_same_catalog() {
    let catalog = imported();
    let file = export(&catalog, None);
    let mut again = Catalog::new(2);
    assert_eq!(apply(&mut again, &read(&file, None).plan), []);
    assert_eq!(exported(&again, None), exported(&catalog, None));
}

#[test]
fn one_virtual_host_can_move_into_another() {
    let catalog = imported();
    let file = export(&catalog, Some(&name("shop")));
    assert!(!String::from_utf8_lossy(&file).contains("\"vhost\""));
    let target = name("copy");
    let import = read(&file, Some(&target));
    assert_eq!(import.warnings, Vec::<String>::new());
    let mut other = Catalog::new(3);
    assert_eq!(apply(&mut other, &import.plan), []);
    assert!(other.queue(b"copy", b"cart").is_some());
    assert_eq!(other.bindings(b"copy").count(), 1);
    let limits = other.vhost_limits(b"copy");
    assert_eq!(limits, catalog.vhost_limits(b"shop"));
    let policy = other.policy(b"copy", PolicyScope::User, b"ae");
    assert_eq!(policy, catalog.policy(b"shop", PolicyScope::User, b"ae"));
    // A file of a cluster goes into one virtual host too, without its users.
    let import = read(FROM_RABBITMQ, Some(&target));
    assert!(
        import
            .warnings
            .iter()
            .any(|it| it.starts_with("users are not imported"))
    );
    let is_about_users = |planned: &Planned| {
        matches!(
            planned.command,
            CatalogCommand::User(_) | CatalogCommand::Permission(_)
        )
    };
    assert!(!import.plan.iter().any(is_about_users));
}

#[test]
fn what_lives_shorter_than_the_node_is_not_exported() {
    let mut catalog = Catalog::new(1);
    let declare = |queue: &str, exclusive| CatalogCommand::DeclareQueue {
        vhost: name("/"),
        name: name(queue),
        id: staunch_types::QueueId(0),
        server_named: true,
        options: QueueOptions {
            durable: true,
            exclusive,
            auto_delete: false,
            arguments: staunch_types::FieldTable::default(),
        },
        owner: exclusive.then_some(staunch_types::ConnectionId(1)),
        placement: staunch_broker::Placement::HERE,
        partitions: Vec::new(),
    };
    for (queue, exclusive) in [("kept", false), ("mine", true), ("amq.gen-1", false)] {
        catalog.apply(&declare(queue, exclusive)).unwrap();
    }
    let file = exported(&catalog, None);
    let queues = file["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 1);
    assert_eq!(queues[0]["name"], "kept");
    assert_eq!(file["exchanges"], json!([]));
}

#[test]
fn a_hash_that_rabbitmq_cannot_read_comes_back_all_the_same() {
    let mut catalog = Catalog::new(1);
    let hash = PasswordHash::hash(HashAlgorithm::Argon2id, b"secret", &salt());
    let put = UserCommand::Put {
        name: name("u"),
        password: Some(hash.clone()),
        tags: Vec::new(),
    };
    catalog.apply(&CatalogCommand::User(put)).unwrap();
    let file = export(&catalog, None);
    let json: Json = serde_json::from_slice(&file).unwrap();
    assert_eq!(json["users"][0]["password_hash"], "");
    let mut again = Catalog::new(2);
    apply(&mut again, &read(&file, None).plan);
    assert_eq!(again.user(b"u").unwrap().password, Some(hash));
}

#[test]
fn older_spellings_are_read() {
    let file = json!({
        "rabbit_version": "3.5.7",
        "users": [
            {"name": "a", "password": "open", "tags": "administrator, management"},
        ],
        "vhosts": [{"name": "v", "description": "old", "tracing": true}],
        "colour": "green",
    });
    let import = read(file.to_string().as_bytes(), None);
    assert_eq!(import.warnings, ["unknown key 'colour' was ignored"]);
    let mut catalog = Catalog::new(1);
    assert_eq!(apply(&mut catalog, &import.plan), []);
    let user = catalog.user(b"a").unwrap();
    let password = user.password.as_ref().unwrap();
    assert_eq!(password.algorithm(), HashAlgorithm::Md5);
    assert!(password.verify(b"open"));
    assert!(user.has_tag("management"));
    let metadata = catalog.vhost_metadata(b"v").unwrap();
    assert_eq!(
        (metadata.description.as_str(), metadata.tracing),
        ("old", true)
    );
}

#[test]
fn an_entry_that_cannot_be_read_is_named() {
    let check = |file: Json, expected: &str| {
        let error = import(file.to_string().as_bytes(), None, &mut salt).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(json!({"queues": {}}), "queues: expected a list");
    check(
        json!({"queues": [{"name": "q", "durable": true, "auto_delete": false}]}),
        "queues[0] 'q': missing field `vhost`",
    );
    check(
        json!({"users": [{"name": "u", "password_hash": "!"}]}),
        "users[0] 'u': password_hash is not base64: Invalid symbol 33, offset 0.",
    );
    check(
        json!({"users": [{"name": "u", "password_hash": "AAAA"}]}),
        "users[0] 'u': a password hash by rabbit_password_hashing_sha256 has 36 bytes, not 3",
    );
    check(
        json!({"users": [{"name": "u", "limits": {"max-channels": "x"}}]}),
        "users[0] 'u': limit max-channels is not an integer: \"x\"",
    );
    check(
        json!({"vhosts": [{"name": "x".repeat(256)}]}),
        &format!(
            "vhosts[0] '{}': name of 256 bytes is longer than 255",
            "x".repeat(256)
        ),
    );
    check(
        json!({"policies": [
            {"vhost": "/", "name": "p", "pattern": "", "definition": {}, "apply-to": "cats"},
        ]}),
        "policies[0] 'p': apply-to 'cats' unrecognised; should be one of: 'queues', \
         'classic_queues', 'quorum_queues', 'streams', 'exchanges', or 'all'",
    );
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    check(
        json!({"queues": [{
            "vhost": "/", "name": "q", "durable": true, "auto_delete": false,
            "arguments": {"deep": deep},
        }]}),
        "queues[0] 'q': field table is nested deeper than 32",
    );
    assert!(import(b"[]", None, &mut salt).is_err());
    assert!(import(b"", None, &mut salt).is_err());
}

#[test]
fn a_refused_entry_does_not_stop_the_others() {
    let permission = PermissionCommand::Set {
        user: name("missing"),
        vhost: name("/"),
        patterns: PermissionPatterns::default(),
    };
    let planned = Planned {
        entry: "permissions[0] 'missing'".to_owned(),
        command: CatalogCommand::Permission(permission),
    };
    let mut catalog = Catalog::new(1);
    let text = "permissions[0] 'missing': user 'missing' does not exist";
    let expected = [Verdict::Failed(text.to_owned())];
    assert_eq!(apply(&mut catalog, &[planned]), expected);
}

/// JSON of all types, not deep.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[a-z]{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = "name|vhost|type|durable|arguments|value|limits|users|queues|[a-z]{1,3}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(
        section in "users|vhosts|permissions|queues|bindings|policies|parameters|exchanges",
        entries in prop::collection::vec(any_json(), 0..3),
    ) {
        let file = json!({section: entries}).to_string();
        if let Ok(found) = import(file.as_bytes(), None, &mut salt) {
            apply(&mut Catalog::new(1), &found.plan);
        }
    }

    #[test]
    fn values_come_back(value in any_json()) {
        let file = json!({"global_parameters": [{"name": "p", "value": value}]});
        let mut catalog = Catalog::new(1);
        prop_assert_eq!(apply(&mut catalog, &read(file.to_string().as_bytes(), None).plan), []);
        let again = exported(&catalog, None);
        prop_assert_eq!(&again["global_parameters"], &file["global_parameters"]);
    }
}
