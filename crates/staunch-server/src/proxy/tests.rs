use super::*;

/// Feeds the bytes as a socket would that gives no more than is asked for, and says how many were
/// read.
fn feed(bytes: &[u8]) -> (usize, Result<Option<Header>, String>) {
    let mut size = 0;
    loop {
        match parse(&bytes[..size]) {
            Err(error) => return (size, Err(error.to_string())),
            Ok(Progress::Done(header)) => return (size, Ok(Some(header))),
            Ok(Progress::Wants(more)) => {
                assert!(more > 0, "a parser that wants nothing never ends");
                if size + more > bytes.len() {
                    return (size, Ok(None));
                }
                size += more;
            }
        }
    }
}

fn proxied(source: &str, destination: &str) -> Header {
    Header::Proxied {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short");
    let mut bytes = SIGNATURE_V2.to_vec();
    bytes.extend([command, family]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// 192.0.2.1:56324 to 198.51.100.7:5672.
const ADDRESSES_V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x16, 0x28];

#[test]
fn good_headers_are_taken_to_their_last_byte_and_no_further() {
    let mut ipv6 = Vec::new();
    ipv6.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    ipv6.extend([0; 15]);
    ipv6.extend([1, 0x00, 0x01, 0x00, 0x02]);
    let with_values = [&ADDRESSES_V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    let v4 = proxied("192.0.2.1:56324", "198.51.100.7:5672");
    let cases = [
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 5672\r\n".to_vec(),
            v4,
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(),
            proxied("[2001:db8::1]:1", "[::1]:2"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Header::Local),
        (
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
            Header::Local,
        ),
        (v2(0x21, 0x11, &ADDRESSES_V4), v4),
        (v2(0x21, 0x11, &with_values), v4),
        (v2(0x21, 0x21, &ipv6), proxied("[2001:db8::1]:1", "[::1]:2")),
        (v2(0x20, 0x00, &[]), Header::Local),
        (v2(0x20, 0x11, &ADDRESSES_V4), Header::Local),
        (v2(0x21, 0x00, &[]), Header::Local),
    ];
    for (bytes, header) in cases {
        let followed = [&bytes[..], b"AMQP\0\0\x09\x01"].concat();
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(
            feed(&followed),
            (bytes.len(), Ok(Some(header))),
            "{shown:?}"
        );
        // Any part of it alone is no header yet, and no mistake.
        for size in 0..bytes.len() {
            let progress = parse(&bytes[..size]);
            assert!(
                matches!(progress, Ok(Progress::Wants(_))),
                "{shown:?} to {size}"
            );
        }
    }
}

#[test]
fn wrong_headers_are_refused_as_soon_as_they_are_wrong() {
    let cases: [(&[u8], &str); 12] = [
        (b"AMQP\0\0\x09\x01", "does not begin"),
        (b"\x16\x03\x01\x02\x00\x01", "does not begin"),
        (b"GET / HTTP/1.1\r\n", "does not begin"),
        (b"\r\n\r\n\0\r\nQUIX\n", "does not begin"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n", "wrong port"),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 5672\r\n",
            "wrong port",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 70000 5672\r\n",
            "wrong port",
        ),
        (b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", "wrong address"),
        (
            b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
            "unknown address family",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
            "after the ports",
        ),
        (&[b'P'; 6], "does not begin"),
        (b"PROXY TCP4 \xff2.0.2.1 198.51.100.7 1 2\r\n", "not ASCII"),
    ];
    for (bytes, message) in cases {
        let (_, result) = feed(&[bytes, &[0; 200]].concat());
        let error = result.expect_err("a wrong header is refused");
        assert!(
            error.contains(message),
            "{:?}: {error}",
            String::from_utf8_lossy(bytes)
        );
    }
    for (bytes, message) in [
        (v2(0x31, 0x11, &ADDRESSES_V4), "version or command"),
        (v2(0x22, 0x11, &ADDRESSES_V4), "version or command"),
        (v2(0x21, 0x12, &ADDRESSES_V4), "family or transport"),
        (v2(0x21, 0x11, &ADDRESSES_V4[..11]), "too short"),
        (v2(0x21, 0x21, &ADDRESSES_V4), "too short"),
    ] {
        let error = feed(&bytes).1.expect_err("a wrong header is refused");
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn both_versions_have_a_longest_header() {
    let endless = [&b"PROXY "[..], &[b'x'; 500]].concat();
    let (size, result) = feed(&endless);
    assert!(result.expect_err("too long").contains("107"));
    assert!(size <= SIZE_BYTES_MAX_V1 + 1, "{size} bytes were read");
    let longest = vec![0; SIZE_BYTES_MAX_V2 - FIXED_SIZE_BYTES_V2];
    assert_eq!(feed(&v2(0x20, 0, &longest)).1, Ok(Some(Header::Local)));
    let longer = vec![0; longest.len() + 1];
    let (size, result) = feed(&v2(0x20, 0, &longer));
    assert!(result.expect_err("too long").contains("4096"));
    assert_eq!(size, FIXED_SIZE_BYTES_V2, "its body is not read at all");
}
