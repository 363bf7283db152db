//! Queues of several partitions.

use super::*;

fn catalog() -> Catalog {
    let mut catalog = Catalog::new(1);
    let declare = declare_partitioned(b"orders", 4, Placement::HERE);
    catalog.apply(&declare).unwrap();
    catalog.check_invariants();
    catalog
}

fn route(catalog: &Catalog, exchange: &str, key: &str, more_keys: &[&[u8]]) -> Vec<String> {
    let envelope = Envelope {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        more_keys,
        properties: NO_PROPERTIES,
    };
    let mut route = Route::new(1);
    catalog.route(b"/", &envelope, &mut route).unwrap();
    let names = route.queues.iter();
    names
        .map(|id| catalog.queue_by_id(*id).unwrap().name.to_string())
        .collect()
}

#[test]
fn a_queue_comes_and_goes_with_its_partitions() {
    let mut catalog = catalog();
    assert_eq!(catalog.queue_count(), 5);
    let whole = catalog.queue(b"/", b"orders").unwrap();
    let parts: Vec<_> = whole.partitions().collect();
    for (number, id) in parts.iter().enumerate() {
        let part = catalog.queue_by_id(*id).unwrap();
        assert_eq!(part.name, name(&format!("orders#{number}")));
        assert!(part.settings.single_active_consumer);
        let place = part.settings.partition.unwrap();
        assert_eq!((usize::from(place.number), place.count), (number, 4));
    }
    let command = CatalogCommand::DeleteQueue {
        vhost: vhost(),
        name: name("orders"),
    };
    let applied = catalog.apply(&command).unwrap();
    assert_eq!(applied.queues_deleted.len(), 5);
    assert_eq!(catalog.queue_count(), 0);
    catalog.check_invariants();
}

#[test]
fn a_partition_is_neither_declared_nor_deleted_by_its_name() {
    let mut catalog = catalog();
    let command = CatalogCommand::DeleteQueue {
        vhost: vhost(),
        name: name("orders#2"),
    };
    let text = "queue 'orders#2' in vhost '/' is a partition of queue 'orders', and comes and goes \
                with it";
    let refused = Err(Refusal::Precondition(text.to_owned()));
    assert_eq!(catalog.apply(&command), refused);
    assert_eq!(catalog.apply(&declare_queue("orders#2")), refused);
    let id = catalog.queue(b"/", b"orders#2").unwrap().id;
    let retire = CatalogCommand::Node(NodeCommand::Retire { queue: id });
    let applied = catalog.apply_replicated(&retire).unwrap();
    assert_eq!(applied.change, Change::Unchanged);
}

#[test]
fn a_name_that_is_taken_or_too_long_is_refused() {
    let mut catalog = catalog();
    catalog.apply(&declare_queue("bills#1")).unwrap();
    let mut refused = |queue: &str| {
        let declare = declare_partitioned(queue.as_bytes(), 11, Placement::HERE);
        catalog.apply(&declare).unwrap_err().to_string()
    };
    let text = refused("bills");
    assert!(text.contains("there is a queue 'bills#1'"), "{text}");
    let text = refused(&"x".repeat(253));
    assert!(text.contains("too long"), "{text}");
    assert_eq!(catalog.queue_count(), 6, "nothing was made in part");
}

#[test]
fn what_partitions_cannot_be_is_refused() {
    let mut catalog = Catalog::new(1);
    let mut refused = |arguments: TableBuilder| {
        let options = queue_options(arguments.build());
        let declare = declare_queue_as("q", options);
        catalog.apply(&declare).unwrap_err().to_string()
    };
    let quorum = || TableBuilder::new().longstr("x-queue-type", "quorum");
    let text = refused(quorum().int(PARTITIONS, 1));
    assert!(text.contains("x-partitions"), "{text}");
    let text = refused(quorum().int(PARTITIONS, 65));
    assert!(text.contains("max_value_exceeded"), "{text}");
    let text = refused(TableBuilder::new().int(PARTITIONS, 4));
    assert!(text.contains("rabbit_classic_queue"), "{text}");
    let text = refused(quorum().int(PARTITIONS, 4));
    assert!(text.contains("places for 0"), "{text}");
    let expiring = quorum().int(PARTITIONS, 2).int("x-expires", 5);
    let mut declare = declare_queue_as("q", queue_options(expiring.build()));
    if let CatalogCommand::DeclareQueue { partitions, .. } = &mut declare {
        *partitions = vec![Placement::HERE; 2];
    }
    let text = catalog.apply(&declare).unwrap_err().to_string();
    assert!(text.contains("x-expires"), "{text}");
}

#[test]
fn it_is_declared_again_only_with_as_many_partitions() {
    let mut catalog = catalog();
    let again = declare_partitioned(b"orders", 4, Placement::HERE);
    assert_eq!(catalog.apply(&again).unwrap().change, Change::Unchanged);
    let other = declare_partitioned(b"orders", 5, Placement::HERE);
    let text = catalog.apply(&other).unwrap_err().to_string();
    assert!(text.contains("x-partitions"), "{text}");
}

#[test]
fn limits_count_partitions() {
    let limits = CatalogLimits {
        queues_max: 4,
        ..CatalogLimits::default()
    };
    let mut catalog = Catalog::with_limits(1, limits);
    let declare = |count| declare_partitioned(b"orders", count, Placement::HERE);
    assert!(catalog.apply(&declare(4)).is_err());
    assert!(catalog.apply(&declare(3)).is_ok());
}

/// The partition of a key is a promise to clients that were written for it: it never changes.
#[test]
fn the_hash_of_a_key_is_what_it_always_was() {
    let of = |key: &str| partition_of(key.as_bytes(), 64);
    assert_eq!(
        ["", "a", "b", "orders", "customer-17"].map(of),
        [52, 43, 31, 46, 27]
    );
}

#[test]
fn keys_are_spread_over_partitions() {
    let mut found = std::collections::BTreeMap::new();
    for key in 0..400 {
        let number = partition_of(format!("k{key}").as_bytes(), 4);
        *found.entry(number).or_insert(0) += 1;
    }
    assert_eq!(found.len(), 4);
    assert!(found.values().all(|count| *count > 60), "{found:?}");
}

#[test]
fn a_message_goes_to_the_partition_of_its_key() {
    let mut catalog = catalog();
    catalog.apply(&declare_queue("plain")).unwrap();
    for queue in ["orders", "plain"] {
        let bind = binding("amq.topic", Destination::Queue(name(queue)), "#");
        let command = CatalogCommand::Bind {
            vhost: vhost(),
            binding: bind,
        };
        catalog.apply(&command).unwrap();
    }
    let mut used = BTreeSet::new();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let part = format!("orders#{}", partition_of(key.as_bytes(), 4));
        let mut expected = vec![part.clone(), "plain".to_owned()];
        let mut found = route(&catalog, "amq.topic", key, &[]);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        used.insert(part);
    }
    assert!(used.len() > 2, "{used:?}");
    // The default exchange hashes the key, which is the queue's name, like any other.
    let number = partition_of(b"orders", 4);
    let part = format!("orders#{number}");
    assert_eq!(route(&catalog, "", "orders", &[]), [part]);
    assert_eq!(route(&catalog, "", "orders#3", &[]), ["orders#3"]);
}

#[test]
fn a_further_key_that_leads_there_is_the_one_that_is_hashed() {
    let mut catalog = catalog();
    let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
    let other = |key: &String| partition_of(key.as_bytes(), 4) != partition_of(b"elsewhere", 4);
    let key = keys.iter().find(|key| other(key)).unwrap();
    let bind = binding("amq.direct", Destination::Queue(name("orders")), key);
    let command = CatalogCommand::Bind {
        vhost: vhost(),
        binding: bind,
    };
    catalog.apply(&command).unwrap();
    let found = route(&catalog, "amq.direct", "elsewhere", &[b"x", key.as_bytes()]);
    let part = format!("orders#{}", partition_of(key.as_bytes(), 4));
    assert_eq!(found, [part], "once, by the key that is bound");
}

#[test]
fn a_policy_that_matches_the_queue_holds_for_its_partitions() {
    let mut catalog = catalog();
    let policy = Policy {
        pattern: "^orders$".to_owned(),
        apply_to: ApplyTo::Queues,
        priority: 0,
        definition: TableBuilder::new()
            .long("max-length", 5)
            .long("expires", 1_000)
            .build(),
    };
    let command = CatalogCommand::Policy(PolicyCommand::Set {
        scope: PolicyScope::User,
        vhost: vhost(),
        name: name("short"),
        policy,
    });
    let applied = catalog.apply(&command).unwrap();
    assert_eq!(applied.queues_changed.len(), 5);
    let part = catalog.queue(b"/", b"orders#2").unwrap();
    assert_eq!(part.settings.max_length, Some(5));
    assert_eq!(part.settings.expires_millis, None, "only as a whole");
    let applying = catalog.policy_of_queue(part, PolicyScope::User);
    assert_eq!(applying, Some(&name("short")));
    catalog.check_invariants();
}

#[test]
fn leaders_and_replicas_of_partitions_are_spread() {
    let catalog = Catalog::new(1);
    let nodes = [1, 2, 3, 4, 5].map(NodeId);
    let placements = catalog.place_groups(10, (&nodes, 3), NodeId(2), None);
    for node in nodes {
        let leads = |placement: &&Placement| placement.members[0] == node;
        assert_eq!(placements.iter().filter(leads).count(), 2);
        let keeps = |placement: &&Placement| placement.members.contains(&node);
        assert_eq!(placements.iter().filter(keeps).count(), 6);
    }
    let placements = catalog.place_groups(3, (&nodes, 3), NodeId(2), Some(NodeId(5)));
    assert!(placements.iter().all(|it| it.members[0] == NodeId(5)));
}
