//! Messages that exchanges of type `x-delayed-message` hold back (as the plugin of that name for
//! RabbitMQ): header `x-delay` says for how many milliseconds.

use staunch_types::field_table::{TableBuilder, TableRef, Value};
use staunch_types::properties::{Properties, PropertiesBuilder, PropertyList};

/// Header with the delay, in milliseconds.
const DELAY_HEADER: &str = "x-delay";

/// Longest delay, in milliseconds; with a longer one a message is not held back at all.
pub const DELAY_MILLIS_MAX: u64 = 0xffff_ffff;

/// For how long a message is to be held back, in milliseconds.
pub(crate) fn delay_millis(properties: &[u8]) -> Option<u64> {
    let headers = Properties::from_validated(properties).headers()?;
    let millis = u64::try_from(delay_of(headers)?).ok()?;
    (1..=DELAY_MILLIS_MAX).contains(&millis).then_some(millis)
}

/// The properties with which a message goes on when its delay is over: the delay is negated, so
/// that no exchange holds it back again and consumers see that it was. None if it has no delay.
pub fn properties_after_delay(properties: &[u8]) -> Option<PropertyList> {
    let negated = -i64::try_from(delay_millis(properties)?).ok()?;
    let properties = Properties::from_validated(properties);
    let headers = properties.headers()?;
    let builder = TableBuilder::new().copy_except(headers, &[DELAY_HEADER]);
    let headers = match i32::try_from(negated) {
        Ok(negated) => builder.int(DELAY_HEADER, negated),
        Err(_) => builder.long(DELAY_HEADER, negated),
    }
    .build();
    PropertiesBuilder::from_properties(properties)
        .headers(headers.as_table_ref())
        .build()
        .ok()
}

/// The header's number: an integer, a float cut to one, or a text of one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float out of range becomes the nearest integer, which is no delay"
)]
fn delay_of(headers: TableRef<'_>) -> Option<i64> {
    let value = headers.get(DELAY_HEADER)?;
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    if let Value::F64(float) = value {
        return Some(float as i64);
    }
    if let Value::F32(float) = value {
        return Some(float as i64);
    }
    value.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed_by(value: Value<'_>) -> (Option<u64>, Option<String>) {
        let headers = TableBuilder::new()
            .longstr("a", "b")
            .value(DELAY_HEADER, value)
            .build();
        let properties = PropertiesBuilder::new()
            .headers(headers.as_table_ref())
            .delivery_mode(2)
            .build()
            .unwrap();
        let after = properties_after_delay(properties.as_bytes());
        let after = after.map(|after| {
            assert_eq!(after.view().delivery_mode(), Some(2));
            assert_eq!(delay_millis(after.as_bytes()), None, "held back only once");
            format!("{:?}", after.view().headers().unwrap())
        });
        (delay_millis(properties.as_bytes()), after)
    }

    #[test]
    fn a_delay_is_a_number_in_range_in_any_form() {
        let negated = |text: &str| Some(format!("{{\"a\": \"b\", \"x-delay\": {text}}}"));
        for (value, millis, after) in [
            (Value::I32(5_000), Some(5_000), negated("-5000i32")),
            (Value::U8(1), Some(1), negated("-1i32")),
            (Value::LongStr(b"70"), Some(70), negated("-70i32")),
            (Value::F64(2.9), Some(2), negated("-2i32")),
            (
                Value::I64(0xffff_ffff),
                Some(0xffff_ffff),
                negated("-4294967295i64"),
            ),
            (Value::I64(0x1_0000_0000), None, None),
            (Value::I32(0), None, None),
            (Value::I32(-5), None, None),
            (Value::LongStr(b"soon"), None, None),
            (Value::Bool(true), None, None),
            (Value::F64(f64::NAN), None, None),
        ] {
            assert_eq!(delayed_by(value), (millis, after), "{value:?}");
        }
    }
}
