use super::*;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn message(properties: PropertiesBuilder<'_>) -> Message {
    let properties = properties.build().unwrap();
    Message::copied(b"orders", b"new", properties.as_bytes(), b"body")
}

fn plain() -> Message {
    message(PropertiesBuilder::new().delivery_mode(2))
}

/// Dies and is published to exchange `dlx`.
fn dies(message: &Message, queue: &str, reason: Death, seconds: u64) -> Message {
    dies_towards(message, queue, reason, seconds, None)
}

fn dies_towards(
    message: &Message,
    queue: &str,
    reason: Death,
    seconds: u64,
    key: Option<&str>,
) -> Message {
    let departure = Departure {
        queue: &name(queue),
        reason,
        at: UnixMillis(seconds * 1000 + 999),
    };
    dead_letter(
        message,
        &departure,
        &name("dlx"),
        key.map(name).as_ref(),
        usize::MAX,
    )
}

fn properties(message: &Message) -> Properties<'_> {
    Properties::parse(message.properties()).expect("what is built is well-formed")
}

/// The headers as text in their order, the deaths one a line.
fn headers(message: &Message) -> Vec<String> {
    let headers = properties(message).headers().unwrap_or_default();
    let mut lines = Vec::new();
    for (key, value) in headers {
        let key = String::from_utf8_lossy(key);
        match value.as_array().filter(|_| key == DEATHS) {
            Some(deaths) => lines.extend(deaths.iter().map(|death| format!("{death:?}"))),
            None => lines.push(format!("{key}: {value:?}")),
        }
    }
    lines
}

#[track_caller]
fn check(message: &Message, wanted: &[&str]) {
    assert_eq!(headers(message), wanted);
}

#[test]
fn the_first_death_says_everything() {
    let dead = dies(&plain(), "q", Death::Rejected, 7);
    assert_eq!(
        (dead.exchange(), dead.routing_key(), dead.body()),
        (&b"dlx"[..], &b"new"[..], &b"body"[..])
    );
    assert!(dead.has_died());
    assert_eq!(properties(&dead).delivery_mode(), Some(2));
    check(
        &dead,
        &[
            r#"{"count": 1i64, "reason": "rejected", "queue": "q", "time": @7, "exchange": "orders", "routing-keys": ["new"]}"#,
            r#"x-first-death-reason: "rejected""#,
            r#"x-first-death-queue: "q""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "rejected""#,
            r#"x-last-death-queue: "q""#,
            r#"x-last-death-exchange: "orders""#,
        ],
    );
}

#[test]
fn deaths_of_one_kind_are_counted_and_come_first() {
    let dead = dies(&plain(), "a", Death::Expired, 1);
    let dead = dies(&dead, "b", Death::Expired, 2);
    let dead = dies(&dead, "a", Death::Rejected, 3);
    let dead = dies(&dead, "a", Death::Expired, 4);
    check(
        &dead,
        &[
            r#"{"count": 2i64, "reason": "expired", "queue": "a", "time": @1, "exchange": "orders", "routing-keys": ["new"]}"#,
            r#"{"count": 1i64, "reason": "rejected", "queue": "a", "time": @3, "exchange": "dlx", "routing-keys": ["new"]}"#,
            r#"{"count": 1i64, "reason": "expired", "queue": "b", "time": @2, "exchange": "dlx", "routing-keys": ["new"]}"#,
            r#"x-first-death-reason: "expired""#,
            r#"x-first-death-queue: "a""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "expired""#,
            r#"x-last-death-queue: "a""#,
            r#"x-last-death-exchange: "dlx""#,
        ],
    );
}

#[test]
fn the_expiration_goes_into_the_history() {
    let expiring = message(PropertiesBuilder::new().expiration("500").priority(3));
    let dead = dies(&expiring, "q", Death::Expired, 1);
    assert_eq!(properties(&dead).expiration(), None);
    assert_eq!(properties(&dead).priority(), Some(3));
    check(
        &dead,
        &[
            r#"{"original-expiration": "500", "count": 1i64, "reason": "expired", "queue": "q", "time": @1, "exchange": "orders", "routing-keys": ["new"]}"#,
            r#"x-first-death-reason: "expired""#,
            r#"x-first-death-queue: "q""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "expired""#,
            r#"x-last-death-queue: "q""#,
            r#"x-last-death-exchange: "orders""#,
        ],
    );
}

#[test]
fn more_keys_stay_unless_a_key_replaces_them() {
    let keys = ArrayBuilder::new().longstr("k1").longstr("k2");
    let table = TableBuilder::new()
        .array("CC", &keys)
        .longstr("mine", "1")
        .build();
    let published = message(PropertiesBuilder::new().headers(table.as_table_ref()));
    let kept = dies(&published, "q", Death::MaxLength, 1);
    check(
        &kept,
        &[
            r#"CC: ["k1", "k2"]"#,
            r#"mine: "1""#,
            r#"{"count": 1i64, "reason": "maxlen", "queue": "q", "time": @1, "exchange": "orders", "routing-keys": ["new", "k1", "k2"]}"#,
            r#"x-first-death-reason: "maxlen""#,
            r#"x-first-death-queue: "q""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "maxlen""#,
            r#"x-last-death-queue: "q""#,
            r#"x-last-death-exchange: "orders""#,
        ],
    );
    let replaced = dies_towards(&published, "q", Death::DeliveryLimit, 1, Some("dead"));
    assert_eq!(replaced.routing_key(), b"dead");
    check(
        &replaced,
        &[
            r#"mine: "1""#,
            r#"{"count": 1i64, "reason": "delivery_limit", "queue": "q", "time": @1, "exchange": "orders", "routing-keys": ["new", "k1", "k2"]}"#,
            r#"x-first-death-reason: "delivery_limit""#,
            r#"x-first-death-queue: "q""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "delivery_limit""#,
            r#"x-last-death-queue: "q""#,
            r#"x-last-death-exchange: "orders""#,
        ],
    );
}

#[test]
fn a_history_that_a_client_wrote_is_replaced() {
    let forged = dies(&plain(), "q", Death::Rejected, 1);
    let republished = message(
        PropertiesBuilder::new().headers(properties(&forged).headers().unwrap_or_default()),
    );
    assert!(!is_cycle(&republished, b"q"));
    let dead = dies(&republished, "p", Death::Expired, 2);
    check(
        &dead,
        &[
            r#"{"count": 1i64, "reason": "expired", "queue": "p", "time": @2, "exchange": "orders", "routing-keys": ["new"]}"#,
            r#"x-first-death-reason: "expired""#,
            r#"x-first-death-queue: "p""#,
            r#"x-first-death-exchange: "orders""#,
            r#"x-last-death-reason: "expired""#,
            r#"x-last-death-queue: "p""#,
            r#"x-last-death-exchange: "orders""#,
        ],
    );
}

#[test]
fn a_cycle_without_a_rejection_is_one() {
    let dead = dies(&plain(), "a", Death::Expired, 1);
    assert!(is_cycle(&dead, b"a"));
    assert!(!is_cycle(&dead, b"b"));
    let dead = dies(&dead, "b", Death::MaxLength, 2);
    assert!(is_cycle(&dead, b"a") && is_cycle(&dead, b"b"));
}

#[test]
fn a_rejection_since_ends_a_cycle() {
    let rejected = dies(&plain(), "a", Death::Rejected, 1);
    assert!(!is_cycle(&rejected, b"a"));
    // Rejected in b, after it died in a.
    let dead = dies(&plain(), "a", Death::Expired, 1);
    let dead = dies(&dead, "b", Death::Rejected, 2);
    assert!(!is_cycle(&dead, b"a"));
    // Rejected in a long ago; since then it has died by itself.
    let dead = dies(&rejected, "b", Death::Expired, 2);
    assert!(is_cycle(&dead, b"b"));
    assert!(!is_cycle(&dead, b"a"), "it died there only by rejection");
}

/// The history may be any part of a message, and a message as large as can be.
#[test]
fn a_dead_letter_that_would_be_too_large_remembers_its_last_deaths() {
    let long = "k".repeat(20_000);
    let copies = ArrayBuilder::new().longstr(&*long);
    let headers = TableBuilder::new().array("CC", &copies).build();
    let mut letter = message(PropertiesBuilder::new().headers(headers.as_table_ref()));
    let size_bytes_max = letter.stored_size_bytes() + ROOM_SIZE_BYTES;
    let mut queues = Vec::new();
    for round in 0..40 {
        let queue = format!("{round}-{}", "q".repeat(240));
        let departure = Departure {
            queue: &name(&queue),
            reason: Death::Expired,
            at: UnixMillis(0),
        };
        letter = dead_letter(&letter, &departure, &name("dlx"), None, size_bytes_max);
        queues.insert(0, queue);
        assert!(letter.stored_size_bytes() <= size_bytes_max);
        let remembered: Vec<_> = deaths(&letter)
            .map(|death| String::from_utf8(string(death, "queue").unwrap().to_vec()).unwrap())
            .collect();
        assert!(remembered.len() >= queues.len().min(4), "after {round}");
        assert_eq!(remembered, queues[..remembered.len()]);
    }
    let keys = deaths(&letter)
        .next()
        .and_then(|it| it.get(ROUTING_KEYS)?.as_array());
    let keys: Vec<_> = keys.unwrap().iter().filter_map(bytes).collect();
    assert_eq!(keys, [b"new"]);
    assert_eq!(
        properties(&letter)
            .headers()
            .unwrap()
            .get(FIRST_QUEUE)
            .unwrap()
            .as_str(),
        Some(&*queues[39])
    );
}
