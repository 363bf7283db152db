//! What operators ask.

use staunch_broker::{ApplyTo, CatalogCommand, Change, Policy, PolicyCommand, PolicyScope};
use staunch_node::{AdminAnswer, AdminId, AdminRequest, Input, OnRefusal};
use staunch_types::{ExchangeOptions, FieldTable, QueueId, field_table::TableBuilder};

use crate::{
    script::{Script, name},
    world::roomy,
};

fn exchange(called: &str, kind: &str) -> CatalogCommand {
    CatalogCommand::DeclareExchange {
        vhost: name("/"),
        name: name(called),
        options: ExchangeOptions {
            kind: name(kind),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        },
        delay_queue: QueueId(0),
        placement: staunch_broker::Placement::HERE,
    }
}

fn ask(script: &mut Script, request: AdminRequest) {
    script.world.give(Input::Admin(AdminId(1), request));
}

fn answer(script: &mut Script) -> AdminAnswer {
    let (id, answer) = script.world.answers.pop().expect("an answer came");
    assert_eq!(id, AdminId(1));
    answer
}

#[test]
fn changes_are_answered_when_they_are_on_disk() {
    let mut script = Script::new(roomy());
    let commands = vec![exchange("x", "fanout")];
    let on_refusal = OnRefusal::Stop;
    ask(
        &mut script,
        AdminRequest::Apply {
            commands,
            on_refusal,
        },
    );
    assert!(script.world.answers.is_empty());
    script.world.run_jobs();
    assert!(
        matches!(answer(&mut script), AdminAnswer::Applied(results) if results == [Ok(Change::Created)])
    );
    script.check(
        "crash 1
         a connect
         a open 1
         a/1 exchange x fanout passive
         > a/1 exchange declared",
    );
}

#[test]
fn what_follows_a_refused_change_is_tried_as_asked() {
    for (on_refusal, tried) in [(OnRefusal::Stop, 1), (OnRefusal::GoOn, 2)] {
        let mut script = Script::new(roomy());
        let commands = vec![exchange("x", "odd"), exchange("y", "topic")];
        ask(
            &mut script,
            AdminRequest::Apply {
                commands,
                on_refusal,
            },
        );
        script.world.run_jobs();
        let AdminAnswer::Applied(results) = answer(&mut script) else {
            panic!("changes were asked for");
        };
        assert_eq!(results.len(), tried);
        assert!(results[0].is_err() && results[1..].iter().all(Result::is_ok));
    }
}

#[test]
fn lists_say_what_is_there_and_a_connection_can_be_closed_by_name() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2",
    );
    ask(&mut script, AdminRequest::ListQueues { vhost: None });
    let AdminAnswer::Queues(queues) = answer(&mut script) else {
        panic!("queues were asked for");
    };
    assert_eq!((queues.len(), queues[0].ready_count), (1, 2));
    ask(&mut script, AdminRequest::ListConnections);
    let AdminAnswer::Connections(connections) = answer(&mut script) else {
        panic!("connections were asked for");
    };
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].channel_count, 1);
    ask(
        &mut script,
        AdminRequest::CloseConnection {
            name: connections[0].name.clone(),
            reason: "Closed via management plugin".to_owned(),
        },
    );
    assert!(matches!(answer(&mut script), AdminAnswer::Closing(1)));
    assert_eq!(script.line(""), ["a forced: Closed via management plugin"]);
}

/// A queue that nobody has used for a day and that is given a second has it from now on.
#[test]
fn a_policy_that_lets_queues_expire_counts_from_when_it_is_set() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         wait-ms 86400000",
    );
    let command = PolicyCommand::Set {
        scope: PolicyScope::User,
        vhost: name("/"),
        name: name("p"),
        policy: Policy {
            pattern: "^q$".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: TableBuilder::new().int("expires", 1_000).build(),
        },
    };
    let commands = vec![CatalogCommand::Policy(command)];
    let on_refusal = OnRefusal::Stop;
    ask(
        &mut script,
        AdminRequest::Apply {
            commands,
            on_refusal,
        },
    );
    script.world.run_jobs();
    script.check(
        "wait-ms 900
         a/1 get q no-ack
         > a/1 got m, 0 more
         wait-ms 1100
         a/1 queue q durable passive
         > a/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}
