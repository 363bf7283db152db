//! Tests of field tables; the differential ones are in `staunch-amqp-codec`.

use super::*;

#[test]
fn built_table_reads_back() {
    let inner = TableBuilder::new().bool("basic.nack", true).build();
    let array = ArrayBuilder::new().longstr("a").long(7).table(&inner);
    let table = TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .int("x-max-length", 5)
        .value("n", Value::F64(1.5))
        .table("capabilities", &inner)
        .array("list", &array)
        .build();
    let table = FieldTable::parse(table.as_bytes().clone()).unwrap();
    assert_eq!(
        table.get("x-queue-type").and_then(Value::as_str),
        Some("quorum")
    );
    assert_eq!(table.get("x-max-length").and_then(Value::as_i64), Some(5));
    assert_eq!(table.get("absent"), None);
    assert_eq!(
        format!("{table:?}"),
        r#"{"x-queue-type": "quorum", "x-max-length": 5i32, "n": 1.5f64, "capabilities": {"basic.nack": true}, "list": ["a", 7i64, {"basic.nack": true}]}"#
    );
}

#[test]
fn equality_is_by_meaning() {
    let a = TableBuilder::new().int("n", 5).longstr("s", "x").build();
    let b = TableBuilder::new()
        .longstr("s", "x")
        .long("n", 5)
        .int("n", 6)
        .build();
    assert_eq!(a, b);
    assert_ne!(
        a,
        TableBuilder::new()
            .longstr("s", "x")
            .longstr("n", "5")
            .build()
    );
    assert_ne!(a, FieldTable::default());
    let nan = TableBuilder::new()
        .value("f", Value::F64(f64::NAN))
        .bool("b", true)
        .build();
    let nan_reordered = TableBuilder::new()
        .bool("b", true)
        .value("f", Value::F64(f64::NAN))
        .build();
    assert_eq!(nan, nan_reordered);
}

#[test]
fn limits_hold() {
    let mut table = FieldTable::default();
    for _ in 1..TABLE_NESTING_MAX {
        table = TableBuilder::new().table("t", &table).build();
    }
    assert!(TableRef::parse(table.as_bytes()).is_ok());
    table = TableBuilder::new().table("t", &table).build();
    assert_eq!(TableRef::parse(table.as_bytes()), Err(TableError::TooDeep));

    let wide = [0, b'V'].repeat(TABLE_FIELDS_MAX);
    assert!(TableRef::parse(&wide).is_ok());
    let too_wide = [0, b'V'].repeat(TABLE_FIELDS_MAX + 1);
    assert_eq!(TableRef::parse(&too_wide), Err(TableError::TooManyFields));
    let mut builder = TableBuilder::new();
    assert_eq!(
        builder.try_value(&[b'k'; 256], Value::Void),
        Err(TableError::KeyTooLong)
    );
}

#[test]
fn malformed_tables_are_refused() {
    for (bytes, error) in [
        (&b"\x05ab"[..], TableError::Truncated),
        (b"\x01a", TableError::Truncated),
        (b"\x01aI\0\0", TableError::Truncated),
        (b"\x01aS\0\0\0\x05abc", TableError::Truncated),
        (b"\x01aU\0\0", TableError::UnknownType(b'U')),
        (b"\x01aF\0\0\0\x02\x05x", TableError::Truncated),
        (b"\x01aA\0\0\0\x01q", TableError::UnknownType(b'q')),
    ] {
        assert_eq!(
            TableRef::parse(bytes),
            Err(error),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn copies_all_but_some_fields() {
    let table = TableBuilder::new()
        .int("a", 1)
        .int("b", 2)
        .int("c", 3)
        .build();
    let copy = TableBuilder::new()
        .copy_except(table.as_table_ref(), &["b"])
        .build();
    assert_eq!(copy, TableBuilder::new().int("a", 1).int("c", 3).build());
}

#[test]
fn slices_share_their_owner() {
    let owner = Bytes::from_static(b"....\x01aV..");
    let shared = TableRef::parse(&owner[4..7]).unwrap().slice_of(&owner);
    assert_eq!(shared.as_bytes().as_ptr(), owner[4..].as_ptr());
    let elsewhere = b"\x01aV".to_vec();
    assert_eq!(
        TableRef::parse(&elsewhere).unwrap().slice_of(&owner),
        shared
    );
}
