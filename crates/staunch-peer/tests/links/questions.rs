//! Questions and answers beside the frames of the links' owner.

use std::time::{Duration, Instant};

use bytes::Bytes;
use staunch_peer::{
    ANSWER_SIZE_BYTES_MAX, Patience, PeerHandle, QUESTION_SIZE_BYTES_MAX, Question, Unanswered,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::node::{Node, PATIENCE, frame, pair};

/// Longer than any test.
const LONG: Patience = Patience {
    silence: PATIENCE,
    all: PATIENCE,
};

/// Two nodes that are connected; what the first asks is put into the channel, which holds two.
async fn asking() -> (Node, Node, mpsc::Receiver<Question>) {
    let (sender, questions) = mpsc::channel(2);
    let (mut one, mut two) = pair(|plan| plan.config.questions = Some(sender.clone())).await;
    one.up().await;
    two.up().await;
    (one, two, questions)
}

fn ask(peer: &PeerHandle, question: &[u8]) -> JoinHandle<Result<Vec<u8>, Unanswered>> {
    let (peer, question) = (peer.clone(), question.to_vec());
    tokio::spawn(async move { peer.ask(&question, LONG).await })
}

#[tokio::test]
async fn questions_are_answered_in_any_order_and_large_answers_in_pieces() {
    let (one, _two, mut questions) = asking().await;
    let peer = one.peer("n2");
    let (first, second) = (ask(&peer, b"first"), ask(&peer, b"second"));
    let mut asked = vec![
        questions.recv().await.unwrap(),
        questions.recv().await.unwrap(),
    ];
    asked.sort_by_key(|question| question.body.clone());
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    for (question, answer) in asked.into_iter().rev().zip([&b""[..], &large]) {
        assert_eq!(question.peer, crate::node::name("n1"));
        question.reply.send(answer).await;
    }
    assert_eq!(second.await.unwrap().unwrap(), b"");
    assert!(first.await.unwrap().unwrap() == large);
}

#[tokio::test]
async fn a_large_answer_holds_up_no_frames_of_the_owner() {
    let (mut one, two, mut questions) = asking().await;
    let peer = one.peer("n2");
    let answer = ask(&peer, b"much");
    let question = questions.recv().await.unwrap();
    let sending = tokio::spawn(async move {
        let answer = vec![7; ANSWER_SIZE_BYTES_MAX];
        question.reply.send(&answer).await;
    });
    let back = two.peer("n1");
    let session = back.status().session.unwrap();
    for i in 0..100_u8 {
        back.send(session, frame(&[i])).unwrap();
        assert_eq!(one.payload().await, [i].as_slice());
    }
    assert_eq!(answer.await.unwrap().unwrap().len(), ANSWER_SIZE_BYTES_MAX);
    sending.await.unwrap();
}

#[tokio::test]
async fn who_is_silent_busy_or_gone_has_no_answer() {
    let (one, two, mut questions) = asking().await;
    let peer = one.peer("n2");
    let brief = Patience {
        silence: Duration::from_millis(50),
        ..LONG
    };
    let started = Instant::now();
    let silent = peer.ask(b"anybody?", brief).await;
    assert_eq!(silent, Err(Unanswered::Silent));
    assert!(started.elapsed() < PATIENCE);
    // An answer that comes too late is passed over.
    let late = questions.recv().await.unwrap();
    assert_eq!(late.body, Bytes::from_static(b"anybody?"));
    late.reply.send(b"late").await;
    // Two wait; a third is too much.
    let waiting = [ask(&peer, b"1"), ask(&peer, b"2")];
    while questions.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.ask(b"3", LONG).await, Err(Unanswered::Refused));
    let large = vec![0; QUESTION_SIZE_BYTES_MAX + 1];
    assert_eq!(peer.ask(&large, LONG).await, Err(Unanswered::TooMuch));
    let first = questions.recv().await.unwrap();
    let too_large = vec![0; ANSWER_SIZE_BYTES_MAX + 1];
    first.reply.send(&too_large).await;
    two.peers.stop().await;
    let mut ends = Vec::new();
    for asked in waiting {
        ends.push(asked.await.unwrap().unwrap_err());
    }
    assert!(ends.contains(&Unanswered::Refused), "{ends:?}");
    assert!(ends.contains(&Unanswered::Down), "{ends:?}");
    assert_eq!(peer.ask(b"4", LONG).await, Err(Unanswered::Down));
}

#[tokio::test]
async fn who_takes_no_questions_is_asked_none() {
    let (mut one, mut two) = pair(|_| {}).await;
    one.up().await;
    two.up().await;
    let peer = one.peer("n2");
    assert_eq!(peer.ask(b"1", LONG).await, Err(Unanswered::Unable));
}
