//! Users, permissions, virtual hosts, limits and parameters.

use super::*;
use crate::password::{HashAlgorithm, PasswordHash, SALT_SIZE_BYTES};

fn put_user(user: &str) -> CatalogCommand {
    CatalogCommand::User(UserCommand::Put {
        name: name(user),
        password: None,
        tags: Vec::new(),
    })
}

fn delete_user(user: &str) -> CatalogCommand {
    CatalogCommand::User(UserCommand::Delete { name: name(user) })
}

fn permit(user: &str, vhost: &str, patterns: [&str; 3]) -> CatalogCommand {
    let [configure, write, read] = patterns.map(str::to_owned);
    CatalogCommand::Permission(PermissionCommand::Set {
        user: name(user),
        vhost: name(vhost),
        patterns: PermissionPatterns {
            configure,
            write,
            read,
        },
    })
}

fn permit_topic(user: &str, exchange: &str, write: &str) -> CatalogCommand {
    CatalogCommand::Permission(PermissionCommand::SetTopic {
        user: name(user),
        vhost: vhost(),
        exchange: name(exchange),
        patterns: TopicPatterns {
            write: write.to_owned(),
            read: ".*".to_owned(),
        },
    })
}

#[test]
fn permissions_are_patterns_of_names() {
    let catalog = catalog(&[
        put_user("u"),
        permit("u", "/", ["^u\\.", "default|x", ""]),
        put_user("outside"),
    ]);
    let may = |access, resource, name: &str| {
        catalog.authorize(b"u", b"/", access, (resource, name.as_bytes()))
    };
    assert!(may(Access::Configure, Resource::Queue, "u.1"));
    assert!(!may(Access::Configure, Resource::Queue, "not-u.1"));
    // The default exchange is asked for as amq.default, and patterns are not anchored.
    assert!(may(Access::Write, Resource::Exchange, ""));
    assert!(may(Access::Write, Resource::Exchange, "axb"));
    assert!(!may(Access::Write, Resource::Exchange, "amq.topic"));
    // An empty pattern grants nothing.
    assert!(!may(Access::Read, Resource::Queue, "u.1"));
    assert!(!may(Access::Read, Resource::Exchange, ""));
    assert!(catalog.may_enter(b"u", b"/"));
    for (user, vhost) in [("u", "v"), ("outside", "/"), ("nobody", "/")] {
        let (user, vhost) = (user.as_bytes(), vhost.as_bytes());
        assert!(!catalog.may_enter(user, vhost));
        assert!(!catalog.is_unrestricted(user, vhost));
        let queue = (Resource::Queue, b"default".as_slice());
        assert!(!catalog.authorize(user, vhost, Access::Write, queue));
    }
}

#[test]
fn topic_permissions_restrict_keys_of_topic_exchanges_only() {
    let mut catalog = catalog(&[
        put_user("u+"),
        permit("u+", "/", [".*", ".*", ".*"]),
        declare_exchange("direct", "direct"),
    ]);
    assert!(catalog.is_unrestricted(b"u+", b"/"));
    let version = catalog.access_version();
    for exchange in ["amq.topic", "direct"] {
        let command = permit_topic("u+", exchange, "^{vhost}{username}\\.[0-9]{2}$");
        catalog.apply(&command).unwrap();
    }
    assert_ne!(catalog.access_version(), version);
    assert!(!catalog.is_unrestricted(b"u+", b"/"));
    let may = |catalog: &Catalog, exchange: &str, key: &str| {
        let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
        catalog.authorize_topic(b"u+", b"/", exchange, Access::Write, key)
    };
    // The names are inserted as they are, as RabbitMQ does: here `u+` is one or more of u.
    assert!(may(&catalog, "amq.topic", "/uu.42"));
    assert!(!may(&catalog, "amq.topic", "/v.42"));
    assert!(may(&catalog, "direct", "/v.42"));
    assert!(may(&catalog, "amq.fanout", "/v.42"));
    let clear = |exchange: Option<&str>| {
        CatalogCommand::Permission(PermissionCommand::ClearTopic {
            user: name("u+"),
            vhost: vhost(),
            exchange: exchange.map(name),
        })
    };
    let change = |catalog: &mut Catalog, command| catalog.apply(&command).unwrap().change;
    let one = clear(Some("direct"));
    assert_eq!(change(&mut catalog, one.clone()), Change::Deleted);
    assert_eq!(change(&mut catalog, one), Change::Unchanged);
    assert_eq!(change(&mut catalog, clear(None)), Change::Deleted);
    assert!(catalog.is_unrestricted(b"u+", b"/"));
}

#[test]
fn what_cannot_be_permitted_is_refused() {
    let before = [put_user("u")];
    let patterns = ["(", ".*", ".*"];
    assert!(refused(&before, &permit("u", "/", patterns)).starts_with("invalid regexp '('"));
    let missing = permit("v", "/", [".*"; 3]);
    assert_eq!(refused(&before, &missing), "user 'v' does not exist");
    let missing = permit("u", "v", [".*"; 3]);
    assert_eq!(refused(&before, &missing), "vhost v not found");
    assert!(refused(&before, &put_user("")).contains("user name ''"));
}

#[test]
fn permissions_go_with_their_user_and_their_virtual_host() {
    let other = CatalogCommand::CreateVhost { vhost: name("v") };
    let mut catalog = catalog(&[
        other,
        put_user("u"),
        permit("u", "/", [".*"; 3]),
        permit("u", "v", [".*"; 3]),
        permit_topic("u", "amq.topic", "a"),
    ]);
    let delete = CatalogCommand::DeleteVhost { vhost: vhost() };
    let version = catalog.access_version();
    catalog.apply(&delete).unwrap();
    assert_ne!(catalog.access_version(), version);
    assert_eq!(catalog.permissions().count(), 1);
    assert_eq!(catalog.topic_permissions().count(), 0);
    catalog.apply(&delete_user("u")).unwrap();
    catalog.apply(&put_user("u")).unwrap();
    assert!(!catalog.may_enter(b"u", b"v"));
    catalog.check_invariants();
}

#[test]
fn a_user_keeps_its_limits_when_its_password_changes() {
    let limits = UserLimits {
        connections_max: Some(1),
        channels_max: None,
    };
    let set = UserCommand::SetLimits {
        name: name("u"),
        limits,
    };
    let mut catalog = catalog(&[put_user("u"), CatalogCommand::User(set)]);
    let salt = [1; SALT_SIZE_BYTES];
    let hash = PasswordHash::hash(HashAlgorithm::Sha512, b"new", &salt);
    let put = CatalogCommand::User(UserCommand::Put {
        name: name("u"),
        password: Some(hash.clone()),
        tags: vec![name("b"), name("a"), name("b")],
    });
    assert_eq!(catalog.apply(&put).unwrap().change, Change::Updated);
    assert_eq!(catalog.apply(&put).unwrap().change, Change::Unchanged);
    let user = catalog.user(b"u").unwrap();
    assert_eq!((user.limits, user.password.as_ref()), (limits, Some(&hash)));
    assert_eq!(user.tags, [name("a"), name("b")]);
    assert!(!format!("{user:?}").contains(&format!("{:?}", hash.as_bytes())));
}

#[test]
fn a_virtual_host_can_be_protected_and_limits_its_queues() {
    let metadata = VhostMetadata {
        protected_from_deletion: true,
        ..VhostMetadata::default()
    };
    let protect = VhostCommand::SetMetadata {
        vhost: vhost(),
        metadata,
    };
    let limit = VhostCommand::SetLimits {
        vhost: vhost(),
        limits: VhostLimits {
            connections_max: None,
            queues_max: Some(1),
        },
    };
    let before = [
        declare_queue("q"),
        CatalogCommand::Vhost(protect),
        CatalogCommand::Vhost(limit),
    ];
    let delete = CatalogCommand::DeleteVhost { vhost: vhost() };
    assert!(refused(&before, &delete).contains("protected from deletion"));
    assert_eq!(
        refused(&before, &declare_queue("r")),
        "cannot declare queue 'r': queue limit in vhost '/' (1) is reached"
    );
    let mut catalog = catalog(&before);
    catalog.apply(&declare_queue("q")).unwrap();
    catalog.apply(&delete_queue("q")).unwrap();
    catalog.apply(&declare_queue("r")).unwrap();
    // What was decided before is not held against the limits of today.
    catalog.replay(&declare_queue("s")).unwrap();
    catalog.replay(&delete).unwrap();
    catalog.check_invariants();
}

#[test]
fn the_default_kind_of_queues_is_filled_in_where_it_can_be() {
    let set = |kind| {
        CatalogCommand::Vhost(VhostCommand::SetMetadata {
            vhost: vhost(),
            metadata: VhostMetadata {
                default_queue_type: Some(kind),
                ..VhostMetadata::default()
            },
        })
    };
    let kind_of = |catalog: &Catalog, options: QueueOptions| {
        let completed = catalog.complete_queue_options(b"/", options, false);
        let kind = completed.arguments.get("x-queue-type").unwrap();
        kind.as_str().unwrap().to_owned()
    };
    let plain = queue_options(FieldTable::default());
    let mut catalog = catalog(&[]);
    assert_eq!(kind_of(&catalog, plain.clone()), "classic");
    let limits = CatalogLimits {
        default_queue_type: QueueKind::Quorum,
        ..catalog.limits()
    };
    catalog.set_limits(limits);
    assert_eq!(kind_of(&catalog, plain.clone()), "quorum");
    catalog.apply(&set(QueueKind::Classic)).unwrap();
    assert_eq!(kind_of(&catalog, plain.clone()), "classic");
    catalog.apply(&set(QueueKind::Quorum)).unwrap();
    let arguments = TableBuilder::new().long("x-max-length", 5).build();
    let completed = catalog.complete_queue_options(b"/", queue_options(arguments), false);
    let both = TableBuilder::new()
        .long("x-max-length", 5)
        .longstr("x-queue-type", "quorum")
        .build();
    assert_eq!(completed.arguments, both);
    for cannot_be in [
        QueueOptions {
            durable: false,
            ..plain.clone()
        },
        QueueOptions {
            exclusive: true,
            ..plain.clone()
        },
        QueueOptions {
            auto_delete: true,
            ..plain.clone()
        },
    ] {
        assert_eq!(kind_of(&catalog, cannot_be), "classic");
    }
    let chosen = TableBuilder::new().longstr("x-queue-type", "classic");
    assert_eq!(kind_of(&catalog, queue_options(chosen.build())), "classic");
}

#[test]
fn parameters_hold_any_value_that_can_be_read_again() {
    let set = |component: &str, value: Value<'_>| {
        CatalogCommand::Parameter(ParameterCommand::Set {
            vhost: vhost(),
            component: name(component),
            name: name("p"),
            value: ParameterValue::new(value),
        })
    };
    let table = TableBuilder::new().long("a", 1).build();
    let value = Value::Table(table.as_table_ref());
    let catalog = catalog(&[set("shovel", value)]);
    let kept = catalog.parameter(b"/", &name("shovel"), &name("p"));
    assert_eq!(kept, Some(value));
    let text = refused(&[], &set("operator_policy", value));
    assert!(text.contains("command of their own"));
    let mut deep = table;
    for _ in 0..staunch_types::field_table::TABLE_NESTING_MAX {
        deep = TableBuilder::new().table("deeper", &deep).build();
    }
    let text = refused(&[], &set("shovel", Value::Table(deep.as_table_ref())));
    assert!(text.contains("nested deeper"), "{text}");
    let large = vec![b'a'; TABLE_SIZE_BYTES_MAX];
    assert!(refused(&[], &set("shovel", Value::LongStr(&large))).contains("is larger than"));
}
