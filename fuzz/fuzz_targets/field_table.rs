//! Field tables: what is accepted can be walked, printed, compared, copied and written again.

#![no_main]

use std::cmp::Ordering;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use staunch_types::{
    FieldTable,
    field_table::{TABLE_NESTING_MAX, TableBuilder, TableRef, Value},
};

fuzz_target!(|input: &[u8]| {
    // Two tables, cut at a place the input says, to have something to compare.
    let (&[at], rest) = input.split_at(input.len().min(1)) else {
        return;
    };
    let (first, second) = rest.split_at(usize::from(at).min(rest.len()));
    let first = check(first);
    let second = check(second);
    if let (Some(first), Some(second)) = (first, second) {
        let there = first.cmp(&second);
        assert_eq!(second.cmp(&first), there.reverse());
        assert_eq!(there == Ordering::Equal, first == second);
    }
    // Views of bytes that nobody checked are wrong, but end.
    let unchecked = TableRef::from_validated(rest);
    assert!(unchecked.iter().count() <= rest.len());
});

fn check(bytes: &[u8]) -> Option<FieldTable> {
    let table = FieldTable::parse(Bytes::copy_from_slice(bytes)).ok()?;
    let copy = TableBuilder::new().copy_except(table.as_table_ref(), &[]).build();
    assert_eq!(copy.as_bytes(), bytes, "a copy has the same bytes");
    assert_eq!(table.cmp(&table), Ordering::Equal);
    let distinct = table.as_table_ref().without_repeats();
    assert_eq!(distinct, table, "only the first of a key counts");
    FieldTable::parse(distinct.as_bytes().clone()).expect("it is a table still");
    assert!(!format!("{table:?}").is_empty());
    for (key, value) in &table {
        if let Ok(key) = std::str::from_utf8(key) {
            assert!(table.get(key).is_some());
        }
        walk(value, 1);
    }
    Some(table)
}

fn walk(value: Value<'_>, depth: usize) {
    assert!(depth <= TABLE_NESTING_MAX);
    assert!(!value.amqp_type_name().is_empty());
    if let Some(table) = value.as_table() {
        table.iter().for_each(|(_, inner)| walk(inner, depth + 1));
    }
    if let Some(array) = value.as_array() {
        array.iter().for_each(|inner| walk(inner, depth + 1));
    }
}
