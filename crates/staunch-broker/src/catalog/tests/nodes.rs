//! What the nodes of a cluster agree on: the same commands make the same catalog everywhere.

use super::replay::any_command;
use super::*;
use crate::queue::Origin;

const FIRST_LIFE: Origin = Origin(70);
const SECOND_LIFE: Origin = Origin(30);

fn started(node: u64, previous: Option<Origin>, life: Origin) -> CatalogCommand {
    CatalogCommand::Node(NodeCommand::Started {
        node: NodeId(node),
        name: name(&format!("n{node}")),
        address: name("127.0.0.1:1"),
        previous,
        life,
    })
}

fn lost(node: u64, life: Origin) -> CatalogCommand {
    let node = NodeId(node);
    CatalogCommand::Node(NodeCommand::Lost { node, life })
}

fn begin(count: u64) -> CatalogCommand {
    let nodes = (1..=count).map(|node| (name(&format!("n{node}")), name("")));
    CatalogCommand::Node(NodeCommand::Begin {
        cluster: 9,
        nodes: nodes.collect(),
        founder: NodeId(1),
        is_witness: false,
        life: FIRST_LIFE,
    })
}

fn join(node: u64, previous: Option<(NodeId, Origin)>, life: Origin) -> CatalogCommand {
    CatalogCommand::Node(NodeCommand::Join {
        name: name(&format!("n{node}")),
        address: name("127.0.0.1:2"),
        previous,
        is_witness: false,
        life,
    })
}

fn place(queue: u64, changes: u32, members: &[u64]) -> CatalogCommand {
    CatalogCommand::Node(NodeCommand::Place {
        queue: QueueId(queue),
        changes,
        members: members.iter().copied().map(NodeId).collect(),
    })
}

fn any_node_command() -> impl Strategy<Value = CatalogCommand> {
    let life = (1..4u64).prop_map(Origin);
    let previous = prop::option::of((1..4u64).prop_map(Origin));
    (0..10u8, 1..4u64, previous, life).prop_map(|(kind, node, previous, life)| match kind {
        0 | 1 => started(node, previous, life),
        2 => lost(node, life),
        3 => CatalogCommand::Node(NodeCommand::Found),
        4 => begin(3),
        5 => join(node, previous.map(|life| (NodeId(node), life)), life),
        6 => CatalogCommand::Node(NodeCommand::Leave { node: NodeId(node) }),
        7 => CatalogCommand::Node(NodeCommand::Remove { node: NodeId(node) }),
        8 => place(node, 0, &[node, 3]),
        _ => CatalogCommand::Node(NodeCommand::Retire {
            queue: QueueId(node),
        }),
    })
}

/// Queues as several nodes keep them, durable or not.
fn any_placed_queue() -> impl Strategy<Value = CatalogCommand> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    ("a|b|c|d", flags, 1..4u64).prop_map(|(queue, (durable, exclusive, replicated), node)| {
        if durable && exclusive && replicated {
            let members = Placement::replicated(vec![NodeId(node), NodeId(4)]);
            return declare_partitioned(queue.as_bytes(), 3, members);
        }
        let options = QueueOptions {
            durable,
            exclusive,
            ..queue_options(FieldTable::default())
        };
        let mut command = declare_queue_as(&queue, options);
        if let CatalogCommand::DeclareQueue { placement, id, .. } = &mut command {
            *id = QueueId(node);
            *placement = if replicated && durable && !exclusive {
                Placement::replicated(vec![NodeId(node), NodeId(4)])
            } else {
                Placement::at(NodeId(node))
            };
        }
        command
    })
}

fn any_exchange() -> impl Strategy<Value = CatalogCommand> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    ("a|b|c", flags, 1..4u64).prop_map(|(exchange, (durable, auto_delete, delays), node)| {
        let options = ExchangeOptions {
            durable,
            auto_delete,
            ..exchange_options("fanout")
        };
        let options = if delays {
            ExchangeOptions {
                kind: name("x-delayed-message"),
                arguments: TableBuilder::new()
                    .longstr("x-delayed-type", "fanout")
                    .build(),
                ..options
            }
        } else {
            options
        };
        let mut command = declare_exchange_as(&exchange, options);
        if let CatalogCommand::DeclareExchange { placement, .. } = &mut command {
            *placement = Placement::at(NodeId(node));
        }
        command
    })
}

fn whole(catalog: &Catalog) -> Vec<u8> {
    let mut bytes = Vec::new();
    catalog.encode_whole(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn nodes_with_other_limits_make_the_same_of_the_same_commands(
        commands in prop::collection::vec(
            prop_oneof![any_command(), any_node_command(), any_placed_queue(), any_exchange()],
            0..80,
        ),
        cut in 0..80usize,
    ) {
        let narrow = CatalogLimits {
            vhosts_max: 1,
            exchanges_max: 1,
            queues_max: 0,
            bindings_max: 0,
            users_max: 0,
            policies_max: 0,
            parameters_max: 0,
            default_queue_type: QueueKind::Quorum,
        };
        let mut one = Catalog::new(1);
        let mut other = Catalog::with_limits(2, narrow);
        for (at, command) in commands.iter().enumerate() {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            prop_assert_eq!(&CatalogCommand::decode(&bytes).unwrap(), command);
            if at == cut {
                // One is started again from its checkpoint.
                one = Catalog::decode_whole(&whole(&one), 3).unwrap();
                prop_assert_eq!(&whole(&one), &whole(&other));
            }
            let before = whole(&one);
            let result = one.apply_replicated(command);
            prop_assert_eq!(&result, &other.apply_replicated(command));
            if result.is_err() {
                prop_assert_eq!(&before, &whole(&one));
            }
            one.check_invariants();
        }
        other.check_invariants();
        prop_assert_eq!(whole(&one), whole(&other));
        let read = Catalog::decode_whole(&whole(&one), 4).unwrap();
        read.check_invariants();
        prop_assert_eq!(whole(&read), whole(&one));
    }
}

#[test]
fn a_proposal_counts_once_in_its_turn_and_in_the_life_that_is_known() {
    let mut catalog = Catalog::new(1);
    assert!(!catalog.admit(FIRST_LIFE, 1, 1), "nobody knows it");
    catalog
        .apply_replicated(&started(1, None, FIRST_LIFE))
        .unwrap();
    assert!(catalog.admit(FIRST_LIFE, 1, 1));
    assert!(!catalog.admit(FIRST_LIFE, 1, 1), "it counted before");
    assert!(!catalog.admit(FIRST_LIFE, 2, 3), "2 comes first");
    assert!(catalog.admit(FIRST_LIFE, 4, 4), "2 and 3 were given up");
    assert!(!catalog.admit(FIRST_LIFE, 2, 2), "for good");
    let again = started(1, Some(FIRST_LIFE), SECOND_LIFE);
    catalog.apply_replicated(&again).unwrap();
    assert!(!catalog.admit(FIRST_LIFE, 5, 5), "that life is over");
    assert!(catalog.admit(SECOND_LIFE, 1, 1));
    // What was said in the first life and comes late does not bring it back.
    let applied = catalog.apply_replicated(&started(1, None, FIRST_LIFE));
    assert_eq!(applied.unwrap().change, Change::Unchanged);
    assert!(catalog.admit(SECOND_LIFE, 2, 2));
}

#[test]
fn what_a_node_kept_in_memory_goes_with_its_life_and_when_it_is_lost() {
    let mut catalog = Catalog::new(1);
    catalog
        .apply_replicated(&started(1, None, FIRST_LIFE))
        .unwrap();
    let placed = |queue: &str, durable, exclusive, placement| {
        let options = QueueOptions {
            durable,
            exclusive,
            ..queue_options(FieldTable::default())
        };
        let mut command = declare_queue_as(queue, options);
        if let CatalogCommand::DeclareQueue { placement: at, .. } = &mut command {
            *at = placement;
        }
        command
    };
    let here = || Placement::at(NodeId(1));
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    let commands = [
        placed("mine", true, true, here()),
        placed("passing", false, false, here()),
        placed("kept", true, false, here()),
        placed("shared", true, false, Placement::replicated(members)),
        placed("elsewhere", false, false, Placement::at(NodeId(2))),
    ];
    for command in &commands {
        catalog.apply_replicated(command).unwrap();
    }
    let again = started(1, Some(FIRST_LIFE), SECOND_LIFE);
    let gone = catalog.apply_replicated(&again).unwrap().queues_deleted;
    let gone: Vec<_> = gone.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(gone, [name("mine"), name("passing")]);
    catalog.apply_replicated(&commands[1]).unwrap();
    let unknown = catalog.apply_replicated(&lost(1, FIRST_LIFE)).unwrap();
    assert_eq!(
        unknown.change,
        Change::Unchanged,
        "that life was over already"
    );
    assert!(catalog.admit(SECOND_LIFE, 1, 1));
    let gone = catalog.apply_replicated(&lost(1, SECOND_LIFE)).unwrap();
    assert_eq!(gone.queues_deleted.len(), 1);
    assert!(
        !catalog.admit(SECOND_LIFE, 2, 2),
        "it is to make itself known"
    );
    let back = started(1, Some(SECOND_LIFE), SECOND_LIFE);
    catalog.apply_replicated(&back).unwrap();
    assert!(!catalog.admit(SECOND_LIFE, 1, 1), "its numbers go on");
    assert!(catalog.admit(SECOND_LIFE, 2, 2));
    catalog.check_invariants();
}

#[test]
fn ids_that_were_used_are_not_used_again() {
    let mut catalog = Catalog::new(1);
    let declare = |queue: &str| {
        let mut command = declare_queue(queue);
        if let CatalogCommand::DeclareQueue { id, .. } = &mut command {
            *id = QueueId(1);
        }
        command
    };
    let first = catalog.apply_replicated(&declare("a")).unwrap().queue;
    catalog.apply_replicated(&delete_queue("a")).unwrap();
    // Proposed by a node that did not know of the first.
    let second = catalog.apply_replicated(&declare("b")).unwrap().queue;
    assert_ne!(first, second);
}

#[test]
fn groups_are_led_by_those_who_lead_the_fewest() {
    let mut catalog = Catalog::new(1);
    let nodes: Vec<_> = (1..=5).map(NodeId).collect();
    let mut led = std::collections::BTreeMap::new();
    let mut kept = std::collections::BTreeMap::new();
    for number in 0..50 {
        let place = catalog.place_group(&nodes, 3, NodeId(2), None);
        assert_eq!(place.members.len(), 3);
        if number == 0 {
            assert_eq!(place.members[0], NodeId(2), "at first here");
        }
        *led.entry(place.members[0]).or_insert(0) += 1;
        for member in &place.members {
            *kept.entry(*member).or_insert(0) += 1;
        }
        let mut command = declare_queue(&format!("q{number}"));
        if let CatalogCommand::DeclareQueue { placement, .. } = &mut command {
            *placement = place;
        }
        catalog.apply_replicated(&command).unwrap();
    }
    assert!(led.values().all(|count| *count == 10), "{led:?}");
    assert!(kept.values().all(|count| *count == 30), "{kept:?}");
    let few = catalog.place_group(&nodes[..2], 3, NodeId(1), None);
    assert_eq!(few.members.len(), 2, "all, if they are fewer");
}

fn join_as(node: u64, previous: Option<(NodeId, Origin)>, is_witness: bool) -> CatalogCommand {
    CatalogCommand::Node(NodeCommand::Join {
        name: name(&format!("n{node}")),
        address: name("127.0.0.1:2"),
        previous,
        is_witness,
        life: SECOND_LIFE,
    })
}

/// Nodes 1 and 2, and the witness 3.
fn two_and_a_witness() -> Catalog {
    let mut catalog = Catalog::new(1);
    catalog.apply_replicated(&begin(3)).unwrap();
    for (node, is_witness) in [(2, false), (3, true)] {
        let invited = Some((NodeId(node), Origin(0)));
        catalog
            .apply_replicated(&join_as(node, invited, is_witness))
            .unwrap();
    }
    assert_eq!(catalog.witnesses(), [NodeId(3)]);
    catalog
}

fn declare_at(catalog: &mut Catalog, queue: &str, members: &[u64]) -> QueueId {
    let mut command = declare_queue(queue);
    if let CatalogCommand::DeclareQueue { placement, .. } = &mut command {
        *placement = Placement::replicated(members.iter().copied().map(NodeId).collect());
    }
    catalog.apply_replicated(&command).unwrap().queue.unwrap()
}

fn members_of(catalog: &Catalog, queue: QueueId) -> Vec<u64> {
    let entry = catalog.queue_by_id(queue).unwrap();
    entry.placement.members.iter().map(|node| node.0).collect()
}

#[test]
fn who_was_replaced_while_a_declaration_was_on_its_way_keeps_nothing() {
    let mut catalog = two_and_a_witness();
    let first = catalog.node(NodeId(1)).unwrap().life;
    let again = join_as(1, Some((NodeId(1), first)), false);
    catalog.apply_replicated(&again).unwrap();
    assert!(catalog.is_removed(NodeId(1)));
    let queue = declare_at(&mut catalog, "q", &[1, 2, 3]);
    assert_eq!(members_of(&catalog, queue), [2, 3]);
    assert_eq!(catalog.queue_by_id(queue).unwrap().placement.changes, 0);
    let alone = [
        Placement::replicated(vec![NodeId(1), NodeId(3)]),
        Placement::at(NodeId(1)),
    ];
    for there in alone {
        let mut command = declare_queue("alone");
        if let CatalogCommand::DeclareQueue { placement, .. } = &mut command {
            *placement = there;
        }
        let refused = catalog.apply_replicated(&command);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("node 1 was to keep it"), "{text}");
        assert_eq!(catalog.kept_count(NodeId(1)), 0);
    }
}

#[test]
fn a_witness_is_a_member_beside_two_others_only() {
    let catalog = two_and_a_witness();
    let check = |among: &[u64], size, primary, expected: &[u64]| {
        let among: Vec<_> = among.iter().copied().map(NodeId).collect();
        let placed = catalog.place_group(&among, size, NodeId(3), primary);
        let expected: Vec<_> = expected.iter().copied().map(NodeId).collect();
        assert_eq!(placed.members, expected, "{size} of {among:?}");
    };
    check(&[1, 2, 3], 3, None, &[1, 2, 3]);
    check(&[1, 2, 3], 3, Some(NodeId(2)), &[2, 1, 3]);
    check(&[1, 2, 3], 5, None, &[1, 2, 3]);
    check(&[1, 2, 3], 2, None, &[1, 2]);
    check(&[1, 2, 3], 1, None, &[1]);
    check(&[1, 3], 3, None, &[1]);
    check(&[1, 2, 3, 4], 3, None, &[1, 2, 4]);
}

#[test]
fn a_witness_keeps_nothing_on_its_own() {
    let mut catalog = two_and_a_witness();
    let queue = declare_at(&mut catalog, "q", &[1, 2, 3]);
    for members in [&[3][..], &[1, 3], &[3, 1, 2], &[1, 3, 2]] {
        let refused = catalog.apply_replicated(&place(queue.0, 0, members));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("node 3 is a witness"), "{text}");
    }
    let remove = |node| CatalogCommand::Node(NodeCommand::Remove { node: NodeId(node) });
    catalog.apply_replicated(&remove(1)).unwrap();
    assert_eq!(members_of(&catalog, queue), [2, 3]);
    catalog.apply_replicated(&remove(2)).unwrap();
    assert!(catalog.queue_by_id(queue).is_none(), "nobody has it");
}

#[test]
fn who_comes_back_as_another_kind_of_node_takes_no_places() {
    let mut catalog = two_and_a_witness();
    let queue = declare_at(&mut catalog, "q", &[1, 2, 3]);
    let known = Some((NodeId(3), SECOND_LIFE));
    catalog.apply_replicated(&join_as(3, known, false)).unwrap();
    assert_eq!(members_of(&catalog, queue), [1, 2]);
    assert_eq!(catalog.witnesses(), []);
    let known = Some((NodeId(2), SECOND_LIFE));
    catalog.apply_replicated(&join_as(2, known, false)).unwrap();
    assert_eq!(members_of(&catalog, queue), [1, 5]);
}

#[test]
fn placements_that_cannot_be_are_not_read() {
    for members in [vec![NodeId(1), NodeId(1)], vec![NodeId(0)], vec![]] {
        let mut command = declare_queue("q");
        if let CatalogCommand::DeclareQueue { placement, .. } = &mut command {
            *placement = Placement::replicated(members);
        }
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        assert!(CatalogCommand::decode(&bytes).is_err());
    }
}

/// A cluster of three, all of which have joined.
fn cluster_of_three() -> Catalog {
    let mut catalog = Catalog::new(1);
    let commands = [
        begin(3),
        join(2, Some((NodeId(2), Origin(0))), Origin(72)),
        join(3, Some((NodeId(3), Origin(0))), Origin(73)),
    ];
    for command in commands {
        let applied = catalog.apply_replicated(&command).unwrap();
        assert_eq!(applied.change, Change::Created);
    }
    catalog
}

fn declare_placed(catalog: &mut Catalog, queue: &str, placement: Placement) -> QueueId {
    let mut command = declare_queue(queue);
    if let CatalogCommand::DeclareQueue {
        placement: place, ..
    } = &mut command
    {
        *place = placement;
    }
    catalog.apply_replicated(&command).unwrap().queue.unwrap()
}

#[test]
fn an_id_is_never_used_twice() {
    let mut catalog = cluster_of_three();
    let shared = Placement::replicated(vec![NodeId(2), NodeId(3)]);
    let shared = declare_placed(&mut catalog, "shared", shared);
    let own = declare_placed(&mut catalog, "own", Placement::at(NodeId(2)));
    // It is back without its data.
    let again = join(2, Some((NodeId(2), Origin(72))), Origin(82));
    let applied = catalog.apply_replicated(&again).unwrap();
    assert_eq!(applied.queues_moved, [shared, own]);
    assert!(catalog.is_removed(NodeId(2)));
    assert_eq!(catalog.node_named(&name("n2")).unwrap().0, NodeId(4));
    let placement = &catalog.queue_by_id(shared).unwrap().placement;
    assert_eq!(placement.members, [NodeId(4), NodeId(3)]);
    assert_eq!(placement.changes, 1);
    let placement = &catalog.queue_by_id(own).unwrap().placement;
    assert_eq!(placement.home(), Some(NodeId(4)));
    // Neither a second request nor the old process brings anybody back.
    for late in [
        again,
        started(2, Some(Origin(72)), Origin(99)),
        started(2, None, Origin(99)),
    ] {
        let before = whole(&catalog);
        assert_eq!(
            catalog.apply_replicated(&late).unwrap().change,
            Change::Unchanged
        );
        assert_eq!(whole(&catalog), before);
    }
    catalog.check_invariants();
}

#[test]
fn what_a_removed_node_alone_has_kept_goes_with_it() {
    let mut catalog = cluster_of_three();
    let shared = Placement::replicated(vec![NodeId(1), NodeId(2), NodeId(3)]);
    let shared = declare_placed(&mut catalog, "shared", shared);
    declare_placed(&mut catalog, "own", Placement::at(NodeId(2)));
    let remove = CatalogCommand::Node(NodeCommand::Remove { node: NodeId(2) });
    let applied = catalog.apply_replicated(&remove).unwrap();
    assert_eq!(applied.queues_deleted.len(), 1);
    assert_eq!(applied.queues_moved, [shared]);
    let placement = &catalog.queue_by_id(shared).unwrap().placement;
    assert_eq!(placement.members, [NodeId(1), NodeId(3)]);
    assert!(catalog.queue(b"/", b"own").is_none());
    catalog.check_invariants();
}

#[test]
fn a_queue_is_placed_by_who_knows_where_it_is() {
    let mut catalog = cluster_of_three();
    let shared = Placement::replicated(vec![NodeId(1), NodeId(2)]);
    let queue = declare_placed(&mut catalog, "q", shared);
    let members = |catalog: &Catalog| {
        let placement = &catalog.queue_by_id(queue).unwrap().placement;
        placement
            .members
            .iter()
            .map(|node| node.0)
            .collect::<Vec<_>>()
    };
    catalog
        .apply_replicated(&place(queue.0, 0, &[1, 3]))
        .unwrap();
    assert_eq!(members(&catalog), [1, 3]);
    // Somebody else has decided before.
    let late = catalog
        .apply_replicated(&place(queue.0, 0, &[2, 3]))
        .unwrap();
    assert_eq!(late.change, Change::Unchanged);
    for nonsense in [&[1, 1][..], &[], &[1, 7]] {
        let refused = catalog.apply_replicated(&place(queue.0, 1, nonsense));
        assert!(
            matches!(refused, Err(Refusal::Precondition(_))),
            "{refused:?}"
        );
    }
    // Who is about to leave is given nothing.
    let leave = CatalogCommand::Node(NodeCommand::Leave { node: NodeId(2) });
    catalog.apply_replicated(&leave).unwrap();
    assert!(
        catalog
            .apply_replicated(&place(queue.0, 1, &[1, 2]))
            .is_err()
    );
    assert_eq!(members(&catalog), [1, 3]);
    catalog.check_invariants();
}
