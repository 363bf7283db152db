//! Where RabbitMQ 3.10, the reference at hand, and 4.2, which Staunch follows, say the same thing
//! in other words: both are brought into one form before they are compared, so that what lies
//! behind can be seen. Each entry is one documented change between those versions.

/// Headers that 4.0 added to dead letters.
const LAST_DEATH: [&str; 3] = [
    "x-last-death-exchange: ",
    "x-last-death-queue: ",
    "x-last-death-reason: ",
];

/// A message as both versions would show it.
pub fn same_form(text: &str) -> String {
    let mut text = text.to_owned();
    for header in LAST_DEATH {
        remove_field(&mut text, header);
    }
    // 3.10 says it on the first delivery too, 4.x only when it is above 0.
    if text.contains("x-delivery-count: LongLongInt(0)") {
        remove_field(&mut text, "x-delivery-count: ");
    }
    // Without those the table may be empty, which is not told from none.
    text.replace(" headers={}", "")
}

/// Removes a field with a simple value from a printed table.
fn remove_field(text: &mut String, name: &str) {
    let Some(start) = text.find(name) else { return };
    let length = text[start..].find([',', '}']).unwrap_or(0);
    let end = start + length;
    if text[end..].starts_with(", ") {
        text.replace_range(start..end + 2, "");
    } else if let Some(before) = text[..start].strip_suffix(", ") {
        let start = before.len();
        text.replace_range(start..end, "");
    } else {
        text.replace_range(start..end, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_versions_differ_in_goes() {
        for (before, after) in [
            (
                "m1 headers={a: Void, x-last-death-queue: \"q\", x-last-death-reason: \"r\"}, 0",
                "m1 headers={a: Void}, 0",
            ),
            ("m1 headers={x-delivery-count: LongLongInt(0)}, 1", "m1, 1"),
            (
                "m1 headers={x-delivery-count: LongLongInt(0), z: Void}",
                "m1 headers={z: Void}",
            ),
            (
                "m1 headers={x-delivery-count: LongLongInt(2)}",
                "m1 headers={x-delivery-count: LongLongInt(2)}",
            ),
        ] {
            assert_eq!(same_form(before), after);
        }
    }
}
