//! Logging in, entering a virtual host, and the limits on both.

use staunch_broker::{
    CatalogCommand, HashAlgorithm, PasswordHash, PermissionCommand, PermissionPatterns,
    UserCommand, UserLimits, VhostCommand, VhostLimits, password::SALT_SIZE_BYTES,
};
use staunch_node::{
    AdminAnswer, AdminId, AdminRequest, Input, NodeConfig, NodeLimits, OnRefusal,
    VERIFICATIONS_WAITING_MAX,
};

use crate::{
    script::{Script, check, check_with, name},
    world::roomy,
};

/// A user with this password, hashed in this way.
pub(crate) fn user(called: &str, password: &str, algorithm: HashAlgorithm) -> CatalogCommand {
    let salt = [7; SALT_SIZE_BYTES];
    CatalogCommand::User(UserCommand::Put {
        name: name(called),
        password: Some(PasswordHash::hash(algorithm, password.as_bytes(), &salt)),
        tags: Vec::new(),
    })
}

/// What a user may configure, write and read in the default virtual host.
pub(crate) fn permit(user: &str, patterns: [&str; 3]) -> CatalogCommand {
    let [configure, write, read] = patterns.map(str::to_owned);
    CatalogCommand::Permission(PermissionCommand::Set {
        user: name(user),
        vhost: name("/"),
        patterns: PermissionPatterns {
            configure,
            write,
            read,
        },
    })
}

/// Applies changes as an operator; all of them are good.
#[track_caller]
pub(crate) fn apply(script: &mut Script, commands: Vec<CatalogCommand>) {
    let on_refusal = OnRefusal::GoOn;
    let request = AdminRequest::Apply {
        commands,
        on_refusal,
    };
    script.world.give(Input::Admin(AdminId(9), request));
    script.world.run_jobs();
    let (_, answer) = script.world.answers.pop().expect("it was answered");
    let AdminAnswer::Applied(results) = answer else {
        panic!("changes were asked for");
    };
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn the_first_user_is_there_and_stays_what_it_was_made() {
    let mut script = Script::new(roomy());
    script.check(
        "a arrive
         a login guest guest loopback
         > a login accepted: guest
         a vhost /
         > a vhost opened",
    );
    let changed = user("guest", "other", HashAlgorithm::Sha512);
    apply(&mut script, vec![changed]);
    script.check(
        "crash 1
         a arrive
         a login guest guest loopback
         > a login refused
         b arrive
         b login guest other loopback
         > b login accepted: guest",
    );
}

#[test]
fn a_node_without_a_first_user_lets_nobody_in() {
    let config = NodeConfig {
        first_user: None,
        ..roomy()
    };
    check_with(
        config,
        "a arrive
         a login guest guest loopback
         > a login refused",
    );
}

#[test]
fn a_wrong_name_password_or_place_is_refused() {
    check(
        "a arrive
         a login guest wrong loopback
         > a login refused
         a login guest guest remote
         > a login refused
         a login nobody guest loopback
         > a login refused
         a anonymous
         > a login refused
         a certificate nobody
         > a login refused
         a certificate guest
         > a login refused
         a close
         > a closed",
    );
}

#[test]
fn a_certificate_or_nothing_is_proof_enough_where_it_is_allowed() {
    let config = NodeConfig {
        anonymous_user: Some(name("guest")),
        loopback_users: [].into(),
        ..roomy()
    };
    check_with(
        config,
        "a arrive
         a anonymous
         > a login accepted: guest
         b arrive
         b certificate guest
         > b login accepted: guest
         b vhost /
         > b vhost opened
         b update-secret
         > b secret updated",
    );
}

#[test]
fn a_slow_hash_is_checked_elsewhere_and_its_user_may_go_meanwhile() {
    let config = NodeConfig {
        password_hashing: HashAlgorithm::Argon2id,
        ..roomy()
    };
    let mut script = Script::new(config);
    let slow = user("slow", "secret", HashAlgorithm::Argon2id);
    let quick = user("quick", "secret", HashAlgorithm::Sha256);
    apply(&mut script, vec![slow, quick]);
    script.check(
        "manual
         a arrive
         a login slow secret remote
         b arrive
         b login slow wrong remote
         c arrive
         c login nobody secret remote
         d arrive
         d login quick secret remote
         > d login accepted: quick
         e arrive
         e login slow secret remote",
    );
    assert!(script.world.verify() && script.world.verify() && script.world.verify());
    let told = script.line("");
    assert_eq!(
        told,
        [
            "a login accepted: slow",
            "b login refused",
            "c login refused"
        ]
    );
    let delete = UserCommand::Delete { name: name("slow") };
    let commands = vec![CatalogCommand::User(delete)];
    let on_refusal = OnRefusal::Stop;
    let request = AdminRequest::Apply {
        commands,
        on_refusal,
    };
    script.world.give(Input::Admin(AdminId(1), request));
    assert!(script.world.verify());
    let told = script.line("");
    assert_eq!(
        told,
        ["a forced: user 'slow' is deleted", "e login refused"]
    );
}

#[test]
fn logins_beyond_a_limit_are_refused_while_passwords_wait_to_be_checked() {
    let config = NodeConfig {
        password_hashing: HashAlgorithm::Argon2id,
        ..roomy()
    };
    let mut script = Script::new(config);
    script.check("manual");
    for number in 0..VERIFICATIONS_WAITING_MAX {
        script.check(&format!(
            "a{number} arrive
             a{number} login nobody secret remote"
        ));
    }
    script.check(
        "b arrive
         b login nobody secret remote
         > b Login refused: 1024 logins wait for their passwords to be checked",
    );
    assert!(script.world.verify());
    assert_eq!(script.line(""), ["a0 login refused"]);
    script.check(
        "c arrive
         c login nobody secret remote",
    );
}

#[test]
fn a_virtual_host_must_be_there_and_open_to_the_user() {
    let mut script = Script::new(roomy());
    apply(&mut script, vec![user("u", "p", HashAlgorithm::Sha256)]);
    script.check(
        "a arrive
         a login u p remote
         > a login accepted: u
         a vhost missing
         > a vhost refused: vhost missing not found
         a vhost /
         > a vhost refused: access to vhost '/' refused for user 'u'",
    );
    apply(&mut script, vec![permit("u", ["", "", ""])]);
    script.check(
        "a vhost /
         > a vhost opened",
    );
}

#[test]
fn connections_are_limited_by_node_virtual_host_and_user() {
    let config = NodeConfig {
        limits: NodeLimits {
            connections_max: Some(3),
            channels_max: None,
        },
        ..roomy()
    };
    let mut script = Script::new(config);
    let limits = UserLimits {
        connections_max: Some(1),
        channels_max: None,
    };
    apply(
        &mut script,
        vec![
            user("u", "p", HashAlgorithm::Sha256),
            permit("u", [".*", ".*", ".*"]),
            CatalogCommand::User(UserCommand::SetLimits {
                name: name("u"),
                limits,
            }),
        ],
    );
    script.check(
        "a arrive
         a login u p remote
         > a login accepted: u
         a vhost /
         > a vhost opened
         b arrive
         b login u p remote
         > b login accepted: u
         b vhost /
         > b vhost refused: connection refused for user 'u': user connection limit (1) is reached
         a close
         > a closed
         b vhost /
         > b vhost opened",
    );
    let limits = VhostLimits {
        connections_max: Some(2),
        queues_max: None,
    };
    let vhost = name("/");
    let command = CatalogCommand::Vhost(VhostCommand::SetLimits { vhost, limits });
    apply(&mut script, vec![command]);
    script.check(
        "c connect
         d arrive
         d login guest guest loopback
         > d login accepted: guest
         d vhost /
         > d vhost refused: access to vhost '/' refused for user 'guest': connection limit (2) is reached",
    );
    let limits = VhostLimits::default();
    let vhost = name("/");
    let command = CatalogCommand::Vhost(VhostCommand::SetLimits { vhost, limits });
    apply(&mut script, vec![command]);
    script.check(
        "d vhost /
         > d vhost opened
         e arrive
         e login guest guest loopback
         > e login accepted: guest
         e vhost /
         > e vhost refused: connection refused: node connection limit (3) is reached",
    );
}

#[test]
fn channels_are_limited_by_node_and_user() {
    let config = NodeConfig {
        limits: NodeLimits {
            connections_max: None,
            channels_max: Some(3),
        },
        ..roomy()
    };
    let mut script = Script::new(config);
    let limits = UserLimits {
        connections_max: None,
        channels_max: Some(2),
    };
    let command = UserCommand::SetLimits {
        name: name("guest"),
        limits,
    };
    apply(&mut script, vec![CatalogCommand::User(command)]);
    script.check(
        "a connect
         b connect
         a open 1
         b open 1
         b open 2
         > b OpenChannel refused: number of channels opened for user 'guest' has reached the maximum allowed user limit of (2)
         a/1 close
         > a/1 closed
         b open 2",
    );
    let command = UserCommand::SetLimits {
        name: name("guest"),
        limits: UserLimits::default(),
    };
    apply(&mut script, vec![CatalogCommand::User(command)]);
    script.check(
        "a open 1
         a open 2
         > a OpenChannel refused: number of channels opened on node 'staunch@test' has reached the maximum allowed limit of (3)
         b close
         > b closed
         a open 2",
    );
}

#[test]
fn connections_go_with_their_user_and_their_virtual_host() {
    let mut script = Script::new(roomy());
    apply(
        &mut script,
        vec![
            user("u", "p", HashAlgorithm::Sha256),
            permit("u", [".*", ".*", ".*"]),
        ],
    );
    script.check(
        "a connect
         b arrive
         b login u p remote
         > b login accepted: u
         b vhost /
         > b vhost opened
         b open 1
         b/1 queue q durable
         > b/1 queue: 0 ready, 0 consumers
         b/1 publish q m1",
    );
    let delete = UserCommand::Delete { name: name("u") };
    apply(&mut script, vec![CatalogCommand::User(delete)]);
    assert_eq!(script.line(""), ["b forced: user 'u' is deleted"]);
    let delete = CatalogCommand::DeleteVhost { vhost: name("/") };
    apply(&mut script, vec![delete]);
    assert_eq!(
        script.line(""),
        [
            "a forced: vhost '/' is deleted",
            "b forced: vhost '/' is deleted"
        ]
    );
    script.check(
        "b close
         > b closed
         a close
         > a closed",
    );
}
