"""Handshake, tuning, heartbeats, framing errors and closing."""

import re
import struct
import time

import pytest
from pika import spec
from raw import HEADER, Closed, content_header, frame, marshal

QOS = struct.pack(">HHIHB", 60, 10, 0, 1, 0)


def test_server_properties(broker):
    start = broker.socket().start()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {b"PLAIN", b"AMQPLAIN"} <= set(start.mechanisms.split())
    assert start.locales == b"en_US"
    properties = start.server_properties
    assert {"product", "version", "platform", "information", "cluster_name"} <= set(properties)
    assert re.match(r"\d+\.\d+\.\d+", properties["version"])
    for name in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ):
        assert properties["capabilities"][name] is True, name


def test_tune_offers_rabbitmqs_values(broker):
    raw = broker.socket()
    raw.start()
    raw.start_ok(broker.user, broker.password)
    tune = raw.event(spec.Connection.Tune, 0)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize(
    "header",
    [b"AMQP\x00\x00\x09\x02", b"AMQP\x00\x00\x08\x00", b"HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01"],
)
def test_wrong_protocol_header_is_answered_with_the_right_one(broker, header):
    raw = broker.socket()
    raw.send(header)
    answer = b""
    while len(answer) < len(HEADER):
        data = raw.socket.recv(8)
        if not data:
            break
        answer += data
    # RabbitMQ 4 answers what does not look like AMQP 0-x with the header of AMQP 1.0.
    if header.startswith(b"AMQP") or broker.is_rabbitmq_3:
        assert answer == HEADER
    else:
        assert answer in (HEADER, b"AMQP\x03\x01\x00\x00")


def test_amqplain_login(broker):
    # A table without its length, as AMQPLAIN has it.
    def field(name, value):
        name, value = name.encode(), value.encode()
        return bytes([len(name)]) + name + b"S" + struct.pack(">I", len(value)) + value

    response = field("LOGIN", broker.user) + field("PASSWORD", broker.password)
    raw = broker.login(mechanism="AMQPLAIN", response=response.decode("latin-1"))
    raw.tune_ok()
    raw.open()


def test_wrong_password(broker):
    raw = broker.socket()
    raw.start()
    raw.start_ok(broker.user, "wrong")
    assert raw.connection_close() == (
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile.",
    )


def test_unknown_user(broker):
    raw = broker.socket()
    raw.start()
    raw.start_ok("nobody", "guest")
    code, text = raw.connection_close()
    assert code == 403
    assert text.startswith("ACCESS_REFUSED - Login was refused using authentication mechanism")


def test_wrong_password_without_the_capability_ends_the_connection_silently(broker):
    raw = broker.socket()
    raw.start()
    raw.start_ok(broker.user, "wrong", capabilities={"consumer_cancel_notify": True})
    raw.end()


def test_unknown_mechanism_does_not_log_in(broker):
    raw = broker.socket()
    raw.start()
    raw.start_ok(broker.user, broker.password, mechanism="SCRAM-NOT")
    try:
        _, got = raw.receive()
    except Closed:
        return
    assert isinstance(got, spec.Connection.Close)


def test_unknown_vhost(broker):
    raw = broker.login()
    raw.tune_ok()
    raw.method(0, spec.Connection.Open("nowhere"))
    assert raw.connection_close() == (530, "NOT_ALLOWED - vhost nowhere not found")


@pytest.mark.parametrize(
    "tuning, text",
    [
        (
            {"frame_max": 1024},
            "NOT_ALLOWED - negotiated frame_max = 1024 is lower than the minimum allowed value (4096)",
        ),
        (
            {"frame_max": 200000},
            "NOT_ALLOWED - negotiated frame_max = 200000 is higher than the maximum allowed value (131072)",
        ),
        (
            {"channel_max": 3000},
            "NOT_ALLOWED - negotiated channel_max = 3000 is higher than the maximum allowed value (2047)",
        ),
        (
            {"channel_max": 0},
            "NOT_ALLOWED - negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
    ],
)
def test_tuning_outside_the_limits(broker, tuning, text):
    raw = broker.login()
    raw.tune_ok(**tuning)
    if broker.is_rabbitmq_3:
        # 3.10 waits three seconds and hangs up; 4.x says why.
        raw.end()
    else:
        assert raw.connection_close() == (530, text)


def test_channels_beyond_channel_max(broker):
    raw = broker.connect(channel_max=2)
    raw.channel(1)
    raw.channel(2)
    raw.method(3, spec.Channel.Open())
    assert raw.connection_close() == (
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    )


def test_highest_channel_number(broker):
    raw = broker.connect()
    raw.channel(2047).declare(broker.queue())


def test_bodies_are_split_at_frame_max(broker):
    raw = broker.connect(frame_max=8192)
    channel = raw.channel()
    queue = broker.queue()
    channel.declare(queue)
    body = bytes(range(256)) * 256
    channel.publish("", queue, body, chunk=8192 - 8)
    got = channel.get(queue)
    assert got.body == body
    assert max(got.body_frames) <= 8192 - 8


def test_server_sends_heartbeats(broker):
    raw = broker.connect(heartbeat=1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        kind, channel, payload = raw.receive_frame()
        if kind == 8:
            assert (channel, payload) == (0, b"")
            return
    pytest.fail("no heartbeat within 5 s")


def test_silent_client_is_disconnected(broker):
    raw = broker.connect(heartbeat=1)
    started = time.monotonic()
    with pytest.raises(Closed):
        while True:
            raw.receive_frame()
    assert 1 <= time.monotonic() - started < 6


def test_heartbeat_zero_turns_them_off(broker):
    raw = broker.connect(heartbeat=0)
    raw.socket.settimeout(2.5)
    with pytest.raises(TimeoutError):
        raw.receive_frame()
    raw.socket.settimeout(15)
    raw.channel()


def test_client_heartbeats_are_accepted(broker):
    raw = broker.connect()
    raw.send(frame(8, 0, b""))
    raw.channel()


def test_channel_opened_twice(broker):
    channel = broker.channel()
    assert channel.fatal(spec.Channel.Open()) == (
        504,
        "CHANNEL_ERROR - second 'channel.open' seen",
    )


def test_method_on_a_channel_that_is_not_open(broker):
    raw = broker.connect()
    raw.method(5, spec.Basic.Qos())
    assert raw.connection_close() == (504, "CHANNEL_ERROR - expected 'channel.open'")


def test_channel_method_on_channel_zero(broker):
    raw = broker.connect()
    raw.method(0, spec.Basic.Qos())
    code, text = raw.connection_close()
    assert (code, text.split(" ")[0]) == (504, "CHANNEL_ERROR")


def test_wrong_frame_end(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(1, 1, QOS, end=b"\x00"))
    code, text = raw.connection_close()
    assert code == 501
    assert text == (
        "FRAME_ERROR - type 1, all octets = <<0,60,0,10,0,0,0,0,0,1,0>>: {invalid_frame_end_marker,0}"
    )


def test_unknown_frame_type(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(7, 1, b""))
    assert raw.connection_close() == (
        501,
        "FRAME_ERROR - type 7, all octets = <<>>: unknown_frame",
    )


def test_heartbeat_on_a_channel(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(8, 1, b""))
    assert raw.connection_close() == (505, "UNEXPECTED_FRAME - type 8, all octets = <<>>")


def test_frame_larger_than_negotiated(broker):
    raw = broker.connect(frame_max=8192)
    raw.channel()
    raw.send(struct.pack(">BHI", 1, 1, 8193))
    assert raw.connection_close() == (
        501,
        "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}",
    )


def test_payload_of_frame_max_is_tolerated(broker):
    raw = broker.connect(frame_max=8192)
    channel = raw.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, b"x" * 8192, chunk=8192)
    assert channel.get(queue).body == b"x" * 8192


@pytest.mark.parametrize("class_id, method_id", [(60, 99), (99, 10)])
def test_unknown_method(broker, class_id, method_id):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(1, 1, struct.pack(">HH", class_id, method_id)))
    # RabbitMQ's reader dies on it and just hangs up; a close with a reason is as good.
    try:
        code, _ = raw.connection_close()
    except Closed:
        return
    assert code in (501, 503, 540)


def test_method_that_only_the_server_sends(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(1, 1, struct.pack(">HH", 60, 11)))
    assert raw.connection_close() == (503, "COMMAND_INVALID - unimplemented method")


def test_truncated_method(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(1, 1, struct.pack(">HHH", 50, 10, 0)))
    code, text = raw.connection_close()
    assert (code, text.split(" ")[0]) in ((501, "FRAME_ERROR"), (502, "SYNTAX_ERROR"))


@pytest.mark.parametrize("kind, payload", [(2, content_header(1)), (3, b"x")])
def test_content_without_publish(broker, kind, payload):
    raw = broker.connect()
    raw.channel()
    raw.send(frame(kind, 1, payload))
    assert raw.connection_close() == (
        505,
        "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
    )


def test_method_in_the_middle_of_content(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(marshal(1, spec.Basic.Publish(routing_key="nowhere")) + frame(1, 1, QOS))
    assert raw.connection_close() == (
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, "
        "got non content header frame instead",
    )


def test_content_header_of_another_class(broker):
    raw = broker.connect()
    raw.channel()
    raw.send(
        marshal(1, spec.Basic.Publish(routing_key="nowhere"))
        + frame(2, 1, content_header(1, class_id=50))
    )
    assert raw.connection_close() == (
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
    )


def test_content_of_two_channels_may_interleave(broker):
    raw = broker.connect()
    one, two = raw.channel(1), raw.channel(2)
    queue = broker.queue()
    one.declare(queue)
    publish = spec.Basic.Publish(routing_key=queue)
    raw.send(marshal(1, publish) + marshal(2, publish))
    raw.send(frame(2, 2, content_header(3)) + frame(2, 1, content_header(4)))
    raw.send(frame(3, 1, b"on") + frame(3, 2, b"two"))
    # The second channel has the whole message before the first one.
    assert two.get(queue, no_ack=True).body == b"two"
    raw.send(frame(3, 1, b"e!"))
    assert one.get(queue, no_ack=True).body == b"one!"


def test_frames_may_arrive_byte_by_byte(broker):
    raw = broker.connect()
    for byte in marshal(1, spec.Channel.Open()):
        raw.send(bytes([byte]))
    raw.event(spec.Channel.OpenOk, 1)


def test_channel_flow(broker):
    channel = broker.channel()
    assert channel.call(spec.Channel.Flow(True), spec.Channel.FlowOk).active is True
    assert channel.fatal(spec.Channel.Flow(False)) == (540, "NOT_IMPLEMENTED - active=false")


def test_channel_number_is_free_again_after_close(broker):
    channel = broker.channel()
    channel.close()
    channel.connection.channel(1).declare(broker.queue())


def test_channel_error_leaves_the_other_channels_alone(broker):
    raw = broker.connect()
    raw.channel(1)
    two = raw.channel(2)
    queue = broker.queue()
    missing = broker.queue()
    # What follows the mistake on its channel is ignored until close-ok.
    raw.send(
        marshal(1, spec.Queue.Declare(queue=missing, passive=True))
        + marshal(1, spec.Queue.Declare(queue=queue))
        + marshal(1, spec.Basic.Qos())
    )
    close = raw.event(spec.Channel.Close, 1)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 50, 10)
    raw.method(1, spec.Channel.CloseOk())
    code, _ = two.refused(spec.Queue.Declare(queue=queue, passive=True))
    assert code == 404
    raw.channel(1).declare(queue)


def test_connection_close_is_answered(broker):
    raw = broker.connect()
    raw.channel()
    raw.call(0, spec.Connection.Close(200, "goodbye", 0, 0), spec.Connection.CloseOk)


def test_connection_error_closes_the_connection(broker):
    raw = broker.connect()
    raw.channel()
    raw.method(1, spec.Basic.Qos(prefetch_size=10))
    close = raw.event(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)")
    assert (close.class_id, close.method_id) == (60, 10)
    raw.method(0, spec.Connection.CloseOk())
    raw.end()
