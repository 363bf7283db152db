use proptest::prelude::*;

use super::*;
use crate::flow::Flow;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn flow(messages: u64) -> Counters {
    Counters {
        messages_in: messages,
        messages_out: messages / 2,
        bytes_in: messages * 1_000,
        bytes_out: messages * 500,
    }
}

/// `per_second` messages for `span_millis`, recorded every 10 s.
fn steady(history: &mut History, from: u64, span_millis: u64, per_second: u64) {
    let mut at = from;
    while at < from + span_millis {
        history.record(at, at + 10_000, flow(per_second * 10));
        at += 10_000;
    }
}

#[test]
fn pieces_cover_two_weeks_without_gaps_or_overlaps() {
    let mut history = History::new();
    steady(&mut history, DAY, 20 * DAY + 1_230_000, 100);
    let pieces = history.pieces();
    for pair in pieces.windows(2) {
        assert_eq!(pair[0].end_millis, pair[1].start_millis);
    }
    let fourteen_days = 14 * DAY;
    assert!((fourteen_days..=fourteen_days + HOUR).contains(&history.span_millis()));
    for piece in &pieces {
        let amounts = piece.amounts.expect("all of it was counted");
        let rate =
            amounts[Flow::MessagesIn as usize] / seconds(piece.end_millis - piece.start_millis);
        assert!((rate - 100.0).abs() < 0.1, "{piece:?}");
    }
}

#[test]
fn a_full_history_takes_what_is_promised() {
    let mut history = History::new();
    steady(&mut history, DAY, 20 * DAY, 100);
    let mut bytes = Vec::new();
    history.encode(&mut bytes);
    assert_eq!(bytes.len(), HISTORY_BYTES_MAX);
    assert!(bytes.len() <= 8_400, "{}", bytes.len());
    for (ring, max) in history.rings.iter().zip(BUCKETS_MAX) {
        assert_eq!(ring.buckets.len(), max);
    }
}

#[test]
fn a_hole_is_not_counted_as_silence() {
    let mut history = History::new();
    steady(&mut history, DAY, HOUR, 100);
    // Down for 30 minutes.
    steady(&mut history, DAY + HOUR + HOUR / 2, HOUR / 2, 100);
    let rates = history.recent(2 * HOUR);
    assert!((rates.messages_in - 100.0).abs() < 0.2, "{rates:?}");
    assert!(history.pieces().iter().any(|piece| piece.amounts.is_none()));
}

#[test]
fn a_rest_is_counted_as_silence() {
    let mut history = History::new();
    steady(&mut history, DAY, HOUR, 100);
    history.record(DAY + HOUR, DAY + 2 * HOUR, Counters::default());
    let rates = history.recent(2 * HOUR);
    assert!((rates.messages_in - 50.0).abs() < 0.2, "{rates:?}");
}

#[test]
fn what_crosses_a_border_is_split_by_time() {
    let mut history = History::new();
    history.record(DAY, DAY + 5_000, flow(50));
    history.record(DAY + 5_000, DAY + 25_000, flow(2_000));
    let amounts: Vec<_> = history
        .pieces()
        .iter()
        .map(|piece| piece.amounts.unwrap()[0])
        .collect();
    assert_eq!(amounts, [550.0, 1_000.0]);
    assert_eq!(history.end_millis(), DAY + 20_000);
    assert_eq!(history.rings[0].open.amounts.messages_in, 500);
}

#[test]
fn two_months_of_silence_begin_a_new_history() {
    let mut history = History::new();
    steady(&mut history, DAY, HOUR, 100);
    history.record(DAY + HOUR, 60 * DAY, Counters::default());
    assert_eq!(history.span_millis(), 0);
    assert_eq!(history.end_millis(), 60 * DAY);
}

#[test]
fn the_peak_is_what_one_minute_in_a_hundred_passes() {
    let mut history = History::new();
    steady(&mut history, DAY, DAY - HOUR, 100);
    // 40 minutes of the day: more than 1 % of it, less than 5 %.
    steady(&mut history, 2 * DAY - HOUR, 40 * 60_000, 700);
    steady(&mut history, 2 * DAY - HOUR / 3, HOUR / 3, 100);
    let [messages, bytes] = history.peak().expect("a day is known");
    assert!((messages.at - 700.0).abs() < 1.0, "{messages:?}");
    assert!((messages.low - 100.0).abs() < 1.0, "{messages:?}");
    assert!((bytes.at - 700_000.0).abs() < 1_000.0, "{bytes:?}");
    // One minute of the day is not a peak, but might have been.
    let mut history = History::new();
    steady(&mut history, DAY, 30_000, 100);
    assert!(history.peak().is_none());
    steady(&mut history, DAY + 30_000, DAY, 100);
    steady(&mut history, 2 * DAY + 30_000, 120_000, 900);
    let [messages, _] = history.peak().expect("a day is known");
    assert!((messages.at - 100.0).abs() < 1.0, "{messages:?}");
}

#[test]
fn the_layout_is_pinned() {
    let mut history = History::new();
    history.record(DAY, DAY + 15_000, flow(3_000));
    let mut bytes = Vec::new();
    history.encode(&mut bytes);
    assert_eq!(bytes[0], 1);
    assert_eq!(bytes[1..9], (DAY + 10_000).to_le_bytes());
    // The open bucket: amounts, busiest minute, parts.
    assert_eq!(bytes[9..17], 1_000_u64.to_le_bytes());
    assert_eq!(bytes[41..57], [0; 16]);
    assert_eq!(bytes[57..61], [0; 4]);
    // One bucket of 2,000 messages in, 1,000 out, and their bytes.
    assert_eq!(bytes[61..63], [1, 0]);
    assert_eq!(bytes[63..67], [0xd0, 0x07, 0xe8, 0x03]);
    assert_eq!(bytes.len(), 9 + 4 * 54 + 8);
}

#[test]
fn other_versions_are_refused() {
    let mut bytes = Vec::new();
    History::new().encode(&mut bytes);
    bytes[0] = 2;
    assert_eq!(
        History::decode(&bytes),
        Err(HistoryError::UnknownVersion(2))
    );
    bytes[0] = 1;
    bytes.push(0);
    assert_eq!(History::decode(&bytes), Err(HistoryError::TrailingBytes(1)));
    assert_eq!(History::decode(&bytes[..20]), Err(HistoryError::Truncated));
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(
        records in prop::collection::vec((0_u64..200_000, 0_u64..4_000_000, 0_u64..1_000_000), 0..60),
    ) {
        let mut history = History::new();
        let mut at = DAY;
        for (hole, span, messages) in records {
            history.record(at + hole, at + hole + span, flow(messages));
            at += hole + span;
        }
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        prop_assert!(bytes.len() <= HISTORY_BYTES_MAX);
        prop_assert_eq!(History::decode(&bytes), Ok(history));
    }

    /// Nothing is lost: what was recorded is in the buckets that are kept, if all of them are.
    #[test]
    fn amounts_are_kept(records in prop::collection::vec((1_u64..60_000, 0_u64..100_000), 1..60)) {
        let mut history = History::new();
        let (mut at, mut total) = (DAY, 0);
        for (span, messages) in records {
            history.record(at, at + span, flow(messages));
            at += span;
            total += messages;
        }
        let kept: f64 = history.pieces().iter().map(|piece| piece.amounts.unwrap()[0]).sum();
        let open = real(history.rings[0].open.amounts.messages_in);
        prop_assert!((kept + open - real(total)).abs() <= real(total) * 0.002 + 1.0);
    }

    /// Damaged bytes are an error or a history that answers; never a panic.
    #[test]
    fn any_bytes_are_read_without_a_panic(
        messages in 0_u64..1_000_000, at in 0_usize..1_000, with: u8, cut in 0_usize..1_000,
    ) {
        let mut history = History::new();
        steady(&mut history, DAY, HOUR, messages);
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        let length = bytes.len();
        bytes[at % length] = with;
        bytes.truncate(length - cut % 3);
        if let Ok(mut history) = History::decode(&bytes) {
            history.record(2 * DAY, 2 * DAY + HOUR, flow(100));
            prop_assert!(history.recent(HOUR).messages_in.is_finite());
            let peaks = history.peak().into_iter().flatten();
            prop_assert!(peaks.into_iter().all(|peak| peak.at.is_finite() && peak.low <= peak.high));
        }
    }

    #[test]
    fn clocks_that_jump_do_no_harm(moments in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20)) {
        let mut history = History::new();
        for (from, to) in moments {
            history.record(from, to, flow(10));
            prop_assert!(history.recent(HOUR).messages_in.is_finite());
        }
    }
}
