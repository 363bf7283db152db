//! The commands that speak with a node, as users type them: what `sessions/*.md` shows is typed to
//! the real binary beside a node of its own, and must come out. `UPDATE_SESSIONS=1` writes down
//! what comes out instead.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod session;

use session::{play, play_with};

#[test]
fn reading() {
    play("reading");
}

#[test]
fn json() {
    play("json");
}

#[test]
fn errors() {
    play("errors");
}

#[test]
fn contexts() {
    play("contexts");
}

#[test]
fn messages() {
    play("messages");
}

#[test]
fn dead_letters() {
    play("dead-letters");
}

#[test]
fn rabbit() {
    play("rabbit");
}

#[test]
fn routing() {
    play("routing");
}

#[test]
fn horizon() {
    play_with("horizon", &[]);
}

#[test]
fn doctor() {
    play("doctor");
}

#[test]
fn doctor_alarm() {
    play_with("doctor-alarm", &["--disk-free-limit", "1000TiB"]);
}

#[test]
fn doctor_room() {
    play_with("doctor-room", &["--collect-statistics-interval", "1s"]);
}

#[test]
fn local() {
    play("local");
}

#[test]
fn bench() {
    play("bench");
}

#[test]
fn clients() {
    play("clients");
}

#[test]
fn events() {
    play("events");
}
