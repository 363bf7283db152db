//! Random commands of every kind: bytes, snapshots and replay agree.

use staunch_types::field_table::{TABLE_FIELDS_MAX, TABLE_NESTING_MAX};

use super::*;
use crate::password::{HashAlgorithm, PasswordHash, SALT_SIZE_BYTES};

fn any_name() -> impl Strategy<Value = Name> {
    "a|b".prop_map(|text| name(&text))
}

fn any_vhost() -> impl Strategy<Value = Name> {
    "/|v".prop_map(|text| name(&text))
}

fn any_pattern() -> impl Strategy<Value = String> {
    "|\\.\\*|\\^a|\\(|b\\$"
}

fn any_definition() -> impl Strategy<Value = FieldTable> {
    let key = "max-length|message-ttl|expires|delivery-limit|alternate-exchange|odd";
    prop::collection::btree_map(key, -1..3i64, 0..3).prop_map(|fields| {
        let table = fields
            .into_iter()
            .fold(TableBuilder::new(), |table, (key, value)| {
                if key == "alternate-exchange" {
                    table.longstr(&key, "amq.fanout")
                } else {
                    table.long(&key, value)
                }
            });
        table.build()
    })
}

fn any_user() -> impl Strategy<Value = UserCommand> {
    let limit = prop::option::of(0..3u64);
    prop_oneof![
        (
            any_name(),
            any::<bool>(),
            prop::collection::vec(any_name(), 0..3)
        )
            .prop_map(|(name, has_password, tags)| {
                let salt = [3; SALT_SIZE_BYTES];
                let hash = || PasswordHash::hash(HashAlgorithm::Sha256, b"p", &salt);
                let password = has_password.then(hash);
                UserCommand::Put {
                    name,
                    password,
                    tags,
                }
            }),
        (any_name(), limit).prop_map(|(name, limit)| UserCommand::SetLimits {
            name,
            limits: UserLimits {
                connections_max: limit,
                channels_max: None,
            },
        }),
        any_name().prop_map(|name| UserCommand::Delete { name }),
    ]
}

fn any_permission() -> impl Strategy<Value = PermissionCommand> {
    let subject = (any_name(), any_vhost(), any_name(), any_pattern());
    (0..4u8, subject).prop_map(|(kind, (user, vhost, exchange, pattern))| match kind {
        0 => PermissionCommand::Set {
            user,
            vhost,
            patterns: PermissionPatterns {
                configure: pattern.clone(),
                write: pattern,
                read: ".*".to_owned(),
            },
        },
        1 => PermissionCommand::Clear { user, vhost },
        2 => PermissionCommand::SetTopic {
            user,
            vhost,
            exchange,
            patterns: TopicPatterns {
                write: pattern.clone(),
                read: pattern,
            },
        },
        _ => PermissionCommand::ClearTopic {
            user,
            vhost,
            exchange: (*exchange != *b"a").then_some(exchange),
        },
    })
}

fn any_policy() -> impl Strategy<Value = PolicyCommand> {
    let what = (any_pattern(), 0..3i64, any_definition());
    let subject = (any::<bool>(), any_vhost(), any_name());
    (0..3u8, subject, what).prop_map(|(kind, (is_user, vhost, name), what)| {
        let scope = if is_user {
            PolicyScope::User
        } else {
            PolicyScope::Operator
        };
        let (pattern, priority, definition) = what;
        if kind == 0 {
            return PolicyCommand::Delete { scope, vhost, name };
        }
        let policy = Policy {
            pattern,
            apply_to: ApplyTo::All,
            priority,
            definition,
        };
        PolicyCommand::Set {
            scope,
            vhost,
            name,
            policy,
        }
    })
}

fn any_parameter() -> impl Strategy<Value = ParameterCommand> {
    (0..4u8, any_vhost(), any_name(), any_name(), 0..3i64).prop_map(
        |(kind, vhost, component, name, number)| {
            let value = ParameterValue::new(Value::I64(number));
            match kind {
                0 => ParameterCommand::Set {
                    vhost,
                    component,
                    name,
                    value,
                },
                1 => ParameterCommand::Clear {
                    vhost,
                    component,
                    name,
                },
                2 => ParameterCommand::SetGlobal { name, value },
                _ => ParameterCommand::ClearGlobal { name },
            }
        },
    )
}

fn any_vhost_command() -> impl Strategy<Value = CatalogCommand> {
    let protect = (any_vhost(), any::<bool>());
    let limit = (any_vhost(), prop::option::of(0..3u64));
    prop_oneof![
        any_vhost().prop_map(|vhost| CatalogCommand::CreateVhost { vhost }),
        any_vhost().prop_map(|vhost| CatalogCommand::DeleteVhost { vhost }),
        protect.prop_map(|(vhost, protect)| {
            let metadata = VhostMetadata {
                description: "text".to_owned(),
                default_queue_type: Some(QueueKind::Quorum),
                protected_from_deletion: protect,
                ..VhostMetadata::default()
            };
            CatalogCommand::Vhost(VhostCommand::SetMetadata { vhost, metadata })
        }),
        limit.prop_map(|(vhost, queues_max)| {
            let limits = VhostLimits {
                connections_max: None,
                queues_max,
            };
            CatalogCommand::Vhost(VhostCommand::SetLimits { vhost, limits })
        }),
    ]
}

fn any_topology() -> impl Strategy<Value = CatalogCommand> {
    let subject = (any_vhost(), any_name());
    (0..7u8, subject).prop_map(|(kind, (vhost, name))| {
        let bound = Binding {
            source: name.clone(),
            ..binding("a", Destination::Queue(name.clone()), "k")
        };
        match kind {
            6 => declare_partitioned(&name, 2 + name[0] % 3, Placement::HERE),
            0 => CatalogCommand::DeclareQueue {
                vhost,
                name,
                id: QueueId(0),
                server_named: false,
                options: queue_options(FieldTable::default()),
                owner: None,
                placement: Placement::HERE,
                partitions: Vec::new(),
            },
            1 => CatalogCommand::DeleteQueue { vhost, name },
            2 => CatalogCommand::DeclareExchange {
                vhost,
                name,
                options: exchange_options("topic"),
                delay_queue: QueueId(0),
                placement: Placement::HERE,
            },
            3 => CatalogCommand::DeleteExchange {
                vhost,
                name,
                if_unused: true,
            },
            4 => CatalogCommand::Bind {
                vhost,
                binding: bound,
            },
            _ => CatalogCommand::Unbind {
                vhost,
                binding: bound,
            },
        }
    })
}

pub(super) fn any_command() -> impl Strategy<Value = CatalogCommand> {
    prop_oneof![
        any_user().prop_map(CatalogCommand::User),
        any_permission().prop_map(CatalogCommand::Permission),
        any_policy().prop_map(CatalogCommand::Policy),
        any_parameter().prop_map(CatalogCommand::Parameter),
        any_vhost_command(),
        any_topology(),
    ]
}

fn snapshot(catalog: &Catalog) -> Vec<u8> {
    let mut bytes = Vec::new();
    catalog.encode_snapshot(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn snapshots_and_replay_agree(
        commands in prop::collection::vec(any_command(), 0..60),
        cut in 0..60usize,
    ) {
        let mut decided = Catalog::new(1);
        let mut log = Vec::new();
        let mut early = snapshot(&decided);
        for (at, command) in commands.iter().enumerate() {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            prop_assert_eq!(&CatalogCommand::decode(&bytes).unwrap(), command);
            let (version, before) = (decided.version(), snapshot(&decided));
            if let Ok(applied) = decided.apply(command) {
                let is_changed = applied.change != Change::Unchanged;
                prop_assert_eq!(decided.version() != version, is_changed);
                prop_assert!(is_changed || snapshot(&decided) == before);
                log.extend(applied.durable.then(|| command.clone()));
                log.extend(applied.consequences);
            } else {
                prop_assert_eq!(snapshot(&decided), before);
                prop_assert_eq!(decided.version(), version);
            }
            decided.check_invariants();
            if at == cut {
                early = snapshot(&decided);
            }
        }
        let all = snapshot(&decided);
        let read = Catalog::decode_snapshot(&all, 2).unwrap();
        read.check_invariants();
        prop_assert_eq!(snapshot(&read), all.clone());
        // A snapshot may be newer than the commands that are replayed upon it.
        for start in [Catalog::new(3), Catalog::decode_snapshot(&early, 4).unwrap(), read] {
            let mut replayed = start;
            for command in &log {
                drop(replayed.replay(command));
            }
            replayed.check_invariants();
            let again = Catalog::decode_snapshot(&snapshot(&replayed), 5).unwrap();
            prop_assert_eq!(topology(&again), topology(&decided));
        }
    }
}

/// Nothing but a frame bounds arguments, and JSON comes in no frame: what would not fit in a
/// record, or could not be read again at a restart, is refused.
#[test]
fn arguments_that_could_not_be_read_again_are_refused() {
    let many = (0..=TABLE_FIELDS_MAX).fold(TableBuilder::new(), |table, i| {
        table.int(&format!("x-{i}"), 1)
    });
    let deep = (0..=TABLE_NESTING_MAX).fold(FieldTable::default(), |inner, _| {
        TableBuilder::new().table("t", &inner).build()
    });
    let large = TableBuilder::new().longstr("x-large", vec![b'a'; TABLE_SIZE_BYTES_MAX]);
    let mut catalog = catalog(&[declare_queue("q")]);
    for (arguments, reason) in [
        (many.build(), "more than 1024 fields"),
        (deep, "nested deeper"),
        (large.build(), "is larger than"),
    ] {
        let arguments = &arguments;
        let commands = [
            declare_queue_as("other", queue_options(arguments.clone())),
            declare_exchange_as(
                "x",
                ExchangeOptions {
                    arguments: arguments.clone(),
                    ..exchange_options("fanout")
                },
            ),
            bind(Binding {
                source: name("amq.fanout"),
                destination: Destination::Queue(name("q")),
                routing_key: name(""),
                arguments: arguments.clone(),
            }),
        ];
        for command in commands {
            let refusal = catalog.apply(&command).unwrap_err();
            assert!(refusal.to_string().contains(reason), "{refusal}");
        }
    }
}

/// Everything but the ids of queues, which differ when a command is replayed twice.
fn topology(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    for vhost in catalog.vhost_names() {
        lines.push(format!("{vhost} {:?}", catalog.vhost_metadata(vhost)));
        let exchanges = catalog.exchanges(vhost);
        lines.extend(exchanges.map(|exchange| format!("{exchange:?}")));
        let bindings = catalog.bindings(vhost);
        lines.extend(bindings.map(|binding| format!("{binding:?}")));
    }
    catalog.configuration(&mut |command| lines.push(format!("{command:?}")));
    let mut queues: Vec<String> = catalog
        .queues()
        .map(|queue| format!("{} {} {:?}", queue.vhost, queue.name, queue.settings))
        .collect();
    queues.sort_unstable();
    lines.extend(queues);
    lines
}
