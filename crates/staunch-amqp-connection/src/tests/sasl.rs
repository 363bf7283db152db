use super::*;
use crate::{CloseReason, LOGIN_REFUSED_DELAY, Mechanism, Tls};

fn all_mechanisms() -> Config {
    Config {
        mechanisms: vec![
            Mechanism::External,
            Mechanism::Plain,
            Mechanism::AmqPlain,
            Mechanism::Anonymous,
        ],
        ..Config::default()
    }
}

fn tls(certificate_user: Option<&'static str>) -> Transport {
    let version = "TLSv1.3";
    Transport {
        address: Some(([192, 0, 2, 7], 50_000).into()),
        local_address: Some(([192, 0, 2, 1], 5_671).into()),
        is_loopback: false,
        tls: Some(Tls {
            version,
            certificate_user: certificate_user.map(Name::from_static),
        }),
    }
}

/// A machine that waits for `connection.start-ok`, and the mechanisms it offers.
fn started(config: Config, transport: Transport) -> (Bench, String) {
    let mut bench = Bench::new(Config::default());
    bench.connection = Connection::new(config, transport, 42, bench.now);
    bench.bytes(b"AMQP\0\0\x09\x01");
    let mut bytes = Vec::new();
    bench.connection.take_output(&mut bytes);
    bench.connection.handle_written();
    let (frame, _) = decode_frame(&bytes, 0).unwrap().unwrap();
    let Ok(Method::ConnectionStart(start)) = Method::decode(frame.payload) else {
        panic!("{frame:?} is not connection.start");
    };
    let offered = String::from_utf8(start.mechanisms.to_vec()).unwrap();
    (bench, offered)
}

#[track_caller]
fn check(mechanism: &str, response: &[u8], output: &str, requests: &str) {
    let (mut bench, _) = started(all_mechanisms(), Transport::loopback());
    bench.method(0, start_ok(&client_properties(), mechanism, response));
    bench.check(output, requests);
}

#[test]
fn mechanisms_are_offered_as_configured() {
    let offered = |config, transport| started(config, transport).1;
    let plain = Transport::loopback;
    assert_eq!(offered(Config::default(), plain()), "PLAIN AMQPLAIN");
    assert_eq!(offered(Config::default(), tls(Some("u"))), "PLAIN AMQPLAIN");
    let all = "EXTERNAL PLAIN AMQPLAIN ANONYMOUS";
    assert_eq!(offered(all_mechanisms(), tls(None)), all);
    let unencrypted = "PLAIN AMQPLAIN ANONYMOUS";
    assert_eq!(offered(all_mechanisms(), plain()), unencrypted);
}

#[test]
fn who_a_response_says_it_is() {
    let guest = |mechanism| format!("login \"guest\" {mechanism} Password(Secret(..))");
    check("PLAIN", b"\0guest\0pw", "", &guest("PLAIN"));
    check("PLAIN", b"guest\0guest\0pw", "", &guest("PLAIN"));
    let table = TableBuilder::new()
        .longstr("LOGIN", "guest")
        .longstr("PASSWORD", "pw")
        .build();
    check("AMQPLAIN", table.as_bytes(), "", &guest("AMQPLAIN"));
    check("ANONYMOUS", b"trace", "", "login \"\" ANONYMOUS Anonymous");
}

#[test]
fn a_certificate_names_the_user() {
    let (mut bench, _) = started(all_mechanisms(), tls(Some("CN=billing")));
    bench.method(0, start_ok(&client_properties(), "EXTERNAL", b""));
    let mut requests = Vec::new();
    bench.connection.take_requests(&mut requests);
    let [Request::Login(login)] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(
        print_request(&requests[0]),
        "login \"CN=billing\" EXTERNAL Certificate\n"
    );
    assert!(!login.loopback);
    let peer = &login.peer;
    assert_eq!(peer.address, Some(([192, 0, 2, 7], 50_000).into()));
    assert_eq!(peer.local_address, Some(([192, 0, 2, 1], 5_671).into()));
    assert_eq!(peer.tls, Some("TLSv1.3"));
    assert_eq!(peer.client_properties, client_properties());
}

fn refused(mechanism: &str) -> String {
    format!(
        "0 connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism \
         {mechanism}. For details see the broker logfile. (0.0)"
    )
}

#[test]
fn some_claims_are_refused_without_asking_the_node() {
    // Acting for somebody else.
    check(
        "PLAIN",
        b"admin\0guest\0pw",
        &refused("PLAIN"),
        "CloseConnection",
    );
    let long = [&b"\0"[..], &[b'u'; 256], b"\0pw"].concat();
    check("PLAIN", &long, &refused("PLAIN"), "CloseConnection");
    let (mut bench, _) = started(all_mechanisms(), tls(None));
    bench.method(0, start_ok(&client_properties(), "EXTERNAL", b""));
    bench.check(&refused("EXTERNAL"), "CloseConnection");

    let (mut bench, _) = started(all_mechanisms(), tls(None));
    bench.method(0, start_ok(&FieldTable::default(), "EXTERNAL", b""));
    bench.check("", "CloseConnection");
    assert!(!bench.connection.is_closed());
    bench.pass(LOGIN_REFUSED_DELAY.as_secs());
    assert!(bench.connection.is_closed());
    let reason = bench.connection.close_reason();
    assert_eq!(reason, Some(&CloseReason::LoginRefused));
}

#[test]
fn mechanisms_that_were_not_offered() {
    let check = |mechanism: &str, text: &str| {
        let (mut bench, _) = started(Config::default(), Transport::loopback());
        bench.method(0, start_ok(&client_properties(), mechanism, b""));
        let output = format!("0 connection.close 503 COMMAND_INVALID - {text} (10.11)");
        bench.check(&output, "CloseConnection");
    };
    check("GSSAPI", "unknown authentication mechanism 'GSSAPI'");
    check("plain", "unknown authentication mechanism 'plain'");
    check("EXTERNAL", "invalid authentication mechanism 'EXTERNAL'");
    check("ANONYMOUS", "invalid authentication mechanism 'ANONYMOUS'");
}

#[test]
fn malformed_responses_are_not_shown() {
    let check = |mechanism: &str, response: &[u8]| {
        let output = format!(
            "0 connection.close 502 SYNTAX_ERROR - response of authentication mechanism \
             {mechanism} is malformed (10.11)"
        );
        check(mechanism, response, &output, "CloseConnection");
    };
    for response in [&b""[..], b"guest", b"\0secret", b"\0a\0secret\0c"] {
        check("PLAIN", response);
    }
    let without_password = TableBuilder::new().longstr("LOGIN", "guest").build();
    let with_number = TableBuilder::new()
        .longstr("LOGIN", "guest")
        .bool("PASSWORD", true)
        .build();
    for response in [without_password.as_bytes(), with_number.as_bytes()] {
        check("AMQPLAIN", response);
    }
    check("AMQPLAIN", b"\x05LOGINS\0\0\0\x09gu");
}

#[test]
fn credentials_are_never_printed() {
    let (mut bench, _) = started(all_mechanisms(), Transport::loopback());
    bench.method(
        0,
        start_ok(&client_properties(), "PLAIN", b"\0guest\0hunter2"),
    );
    let machine = format!("{:?}", bench.connection);
    let mut requests = Vec::new();
    bench.connection.take_requests(&mut requests);
    assert!(!machine.contains("hunter2") && !format!("{requests:?}").contains("hunter2"));
}
