//! Who may do what.

use staunch_broker::{
    CatalogCommand, HashAlgorithm, PermissionCommand, TopicPatterns, UserCommand,
};

use crate::{
    login::{apply, permit, user},
    script::{Script, check, name},
    world::roomy,
};

/// A client `u` whose user may do this, on channels 1 to 9.
fn restricted(patterns: [&str; 3]) -> Script {
    let mut script = Script::new(roomy());
    apply(
        &mut script,
        vec![user("u", "p", HashAlgorithm::Sha256), permit("u", patterns)],
    );
    script.check(
        "u arrive
         u login u p remote
         > u login accepted: u
         u vhost /
         > u vhost opened
         u open 1
         u open 2
         u open 3
         u open 4
         u open 5
         u open 6
         u open 7
         u open 8
         u open 9
         g connect
         g open 1
         g/1 queue q
         > g/1 queue: 0 ready, 0 consumers
         g/1 exchange x topic
         > g/1 exchange declared",
    );
    script
}

#[test]
fn each_operation_needs_what_rabbitmq_says() {
    restricted(["^mine", "^mine", "^mine"]).check(
        "u/1 queue q
         > u/1 DeclareQueue refused: configure access to queue 'q' in vhost '/' refused for user 'u'
         u/2 exchange x topic
         > u/2 DeclareExchange refused: configure access to exchange 'x' in vhost '/' refused for user 'u'
         u/3 delete-queue q
         > u/3 DeleteQueue refused: configure access to queue 'q' in vhost '/' refused for user 'u'
         u/4 delete-exchange x
         > u/4 DeleteExchange refused: configure access to exchange 'x' in vhost '/' refused for user 'u'
         u/5 purge q
         > u/5 PurgeQueue refused: read access to queue 'q' in vhost '/' refused for user 'u'
         u/6 get q
         > u/6 Get refused: read access to queue 'q' in vhost '/' refused for user 'u'
         u/7 consume q as c
         > u/7 Consume refused: read access to queue 'q' in vhost '/' refused for user 'u'
         u/8 publish x/k m
         > u/8 Publish refused: write access to exchange 'x' in vhost '/' refused for user 'u'
         u/9 publish q m
         > u/9 Publish refused: write access to exchange 'amq.default' in vhost '/' refused for user 'u'",
    );
}

#[test]
fn a_binding_needs_writing_at_its_end_and_reading_at_its_source() {
    restricted(["", "^q$", "^mine"]).check(
        "u/1 bind x other
         > u/1 BindQueue refused: write access to queue 'other' in vhost '/' refused for user 'u'
         u/2 bind x q
         > u/2 BindQueue refused: read access to exchange 'x' in vhost '/' refused for user 'u'
         u/3 unbind x q
         > u/3 UnbindQueue refused: read access to exchange 'x' in vhost '/' refused for user 'u'",
    );
}

#[test]
fn asking_passively_needs_nothing() {
    restricted(["", "", ""]).check(
        "u/1 queue q passive
         > u/1 queue: 0 ready, 0 consumers
         u/2 exchange x topic passive
         > u/2 exchange declared",
    );
}

#[test]
fn dead_letters_and_alternates_need_reading_here_and_writing_there() {
    restricted(["^mine", "^mine", "^mine-r"]).check(
        "u/1 queue mine-w x-dead-letter-exchange=x
         > u/1 DeclareQueue refused: read access to queue 'mine-w' in vhost '/' refused for user 'u'
         u/2 queue mine-r x-dead-letter-exchange=x
         > u/2 DeclareQueue refused: write access to exchange 'x' in vhost '/' refused for user 'u'
         u/3 queue mine-r x-dead-letter-exchange=mine-x
         > u/3 queue: 0 ready, 0 consumers
         u/4 exchange mine-w fanout alternate-exchange=x
         > u/4 DeclareExchange refused: read access to exchange 'mine-w' in vhost '/' refused for user 'u'
         u/5 exchange mine-r fanout alternate-exchange=x
         > u/5 DeclareExchange refused: write access to exchange 'x' in vhost '/' refused for user 'u'
         u/6 exchange mine-r fanout alternate-exchange=mine-x
         > u/6 exchange declared",
    );
}

#[test]
fn a_permission_counts_from_the_moment_it_changes() {
    let mut script = restricted(["", "amq.default", "^q$"]);
    script.check(
        "u/1 publish q m1..m2
         u/1 get q no-ack
         > u/1 got m1, 1 more
         g/1 publish q m3",
    );
    apply(&mut script, vec![permit("u", ["", "", "^q$"])]);
    script.check(
        "u/1 get q no-ack
         > u/1 got m2, 1 more
         u/1 publish q m4
         > u/1 Publish refused: write access to exchange 'amq.default' in vhost '/' refused for user 'u'",
    );
    apply(&mut script, vec![permit("u", [".*", ".*", ".*"])]);
    script.check("u/2 publish q m5 by=u");
    apply(&mut script, vec![permit("guest", ["", "", ""])]);
    script.check(
        "g/1 publish q m6
         > g/1 Publish refused: write access to exchange 'amq.default' in vhost '/' refused for user 'guest'
         u/2 get q no-ack
         > u/2 got m3, 1 more",
    );
}

#[test]
fn routing_keys_of_a_topic_exchange_can_be_restricted() {
    let mut script = restricted([".*", ".*", ".*"]);
    let set = PermissionCommand::SetTopic {
        user: name("u"),
        vhost: name("/"),
        exchange: name("x"),
        patterns: TopicPatterns {
            write: "^{username}\\.".to_owned(),
            read: "^all\\.".to_owned(),
        },
    };
    apply(&mut script, vec![CatalogCommand::Permission(set)]);
    script.check(
        "u/1 bind x q all.k
         > u/1 bound
         u/1 bind x q k
         > u/1 BindQueue refused: read access to topic 'k' in exchange 'x' in vhost '/' refused for user 'u'
         u/2 publish x/u.k m1
         u/2 publish x/v.k m2
         > u/2 Publish refused: write access to topic 'v.k' in exchange 'x' in vhost '/' refused for user 'u'
         u/3 publish amq.topic/v.k m3
         u/3 publish x/u.k m4 CC=u.l
         u/3 publish x/u.k m5 CC=u.l,v.k
         > u/3 Publish refused: write access to topic 'v.k' in exchange 'x' in vhost '/' refused for user 'u'
         u/4 publish x/u.k m6 BCC=v.k
         > u/4 Publish refused: write access to topic 'v.k' in exchange 'x' in vhost '/' refused for user 'u'",
    );
}

#[test]
fn who_publishes_in_the_name_of_others_must_be_an_impersonator() {
    check(
        "a connect
         a open 1
         a/1 publish nowhere m1 by=guest
         a/1 publish nowhere m2 by=other
         > a/1 Publish refused: user_id property set to 'other' but authenticated user was 'guest'",
    );
    let mut script = Script::new(roomy());
    script.line("a connect");
    script.line("a open 1");
    let tagged = UserCommand::Put {
        name: name("guest"),
        password: None,
        tags: vec![name("impersonator")],
    };
    apply(&mut script, vec![CatalogCommand::User(tagged)]);
    script.check("a/1 publish nowhere m1 by=other");
}
