//! Nodes that get their certificate from another, by token.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use staunch_peer::{
    Authority, Identity, Security,
    authority::{identity_files, write_identity},
    join::{JoinError, join},
    token::{TOKEN_VALID, Token},
};
use staunch_types::Name;

use crate::node::{Node, Plan, authority, identity, name};

/// `n1`, which has the authority's directory.
async fn host(directory: &Path) -> Node {
    let mut plan = Plan::new("n1", identity(directory, "n1")).await;
    plan.config.authority = Some(Arc::new(authority(directory)));
    plan.start()
}

fn token(authority: &Authority, text: &str) -> String {
    Token::make(
        authority,
        &Name::new(text.as_bytes()).unwrap(),
        TOKEN_VALID,
        SystemTime::now(),
    )
    .unwrap()
}

#[track_caller]
fn check_refused(joined: Result<staunch_peer::join::Joined, JoinError>, expected: &str) {
    let error = joined.err().expect("it is refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn a_node_joins_by_token_and_meets_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(directory.path()).await;
    let text = token(&authority(directory.path()), "");
    let address = host.address.to_string();
    let joined = join(&text, &address, "n2", &["localhost".to_owned()])
        .await
        .unwrap();
    let own = directory.path().join("own");
    write_identity(&own, &joined.certificate, &joined.authority, &joined.key).unwrap();
    let identity = Identity::load(&identity_files(&own)).unwrap();
    assert_eq!(*identity.name(), name("n2"));
    let two = Plan::new("n2", Security::Tls(identity)).await;
    host.peers.add(crate::node::member("n2", two.address()));
    let mut two = two.knows("n1", host.address).start();
    host.up().await;
    two.up().await;
    // The token is spent, also for a process that reads the directory anew.
    check_refused(
        join(&text, &address, "n3", &[]).await,
        "has been used already",
    );
}

#[tokio::test]
async fn of_many_who_use_a_token_at_once_one_gets_in() {
    let directory = tempfile::tempdir().unwrap();
    let host = host(directory.path()).await;
    let text = token(&authority(directory.path()), "");
    let tasks: Vec<_> = (2..10)
        .map(|i| {
            let (text, address) = (text.clone(), host.address.to_string());
            tokio::spawn(async move { join(&text, &address, &format!("n{i}"), &[]).await.is_ok() })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += usize::from(task.await.unwrap());
    }
    assert_eq!(admitted, 1);
}

#[tokio::test]
async fn a_name_that_has_a_certificate_is_not_given_away_and_the_token_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let host = host(directory.path()).await;
    let text = token(&authority(directory.path()), "");
    let address = host.address.to_string();
    check_refused(
        join(&text, &address, "n1", &[]).await,
        "node \"n1\" has a certificate already",
    );
    assert!(join(&text, &address, "n2", &[]).await.is_ok());
}

#[tokio::test]
async fn tokens_that_are_no_good_are_refused() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = host(directory.path()).await;
    let ours = authority(directory.path());
    let address = host.address.to_string();
    check_refused(
        join(&token(&ours, "n5"), &address, "n2", &[]).await,
        "the token is for the node \"n5\"",
    );
    let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
    let old = Token::make(&ours, &Name::default(), Duration::from_secs(1), an_hour_ago).unwrap();
    check_refused(
        join(&old, &address, "n2", &[]).await,
        "the token has expired",
    );
    // A token of another authority: the node that answers is not the one it names, so it never
    // gets to see the token.
    check_refused(
        join(&token(&authority(other.path()), ""), &address, "n2", &[]).await,
        "was not issued by this cluster's authority",
    );
    check_refused(join("stj_x", &address, "n2", &[]).await, "no join token");
    check_refused(
        join(&token(&ours, ""), &address, "../n2", &[]).await,
        "is no name",
    );
}

#[tokio::test]
async fn a_node_without_the_authority_lets_nobody_in() {
    let directory = tempfile::tempdir().unwrap();
    let host = Plan::new("n1", identity(directory.path(), "n1"))
        .await
        .start();
    let text = token(&authority(directory.path()), "");
    let refused = join(&text, &host.address.to_string(), "n2", &[]).await;
    check_refused(refused, "TLS with");
}
