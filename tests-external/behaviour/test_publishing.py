"""Confirms, returns, bodies of every size, and properties that come back byte for byte."""

import struct

import pytest
from pika import spec

PERSISTENT = b"".join(spec.BasicProperties(delivery_mode=2).encode())
MIB = 1 << 20


@pytest.fixture
def queue(broker, channel):
    name = broker.queue()
    channel.declare(name, durable=True)
    return name


def no_route(returned):
    method = returned.method
    return (method.reply_code, method.reply_text) == (312, "NO_ROUTE")


def test_every_publish_is_confirmed(channel, queue):
    channel.confirm()
    for i in range(500):
        channel.publish("", queue, str(i).encode(), PERSISTENT)
    channel.confirmed(500)
    assert channel.drain(queue) == [str(i).encode() for i in range(500)]


def test_confirms_of_transient_and_persistent_messages(broker, channel, queue):
    transient = broker.queue()
    channel.declare(transient)
    channel.confirm()
    for target in (queue, transient):
        channel.publish("", target, b"t")
        channel.publish("", target, b"p", PERSISTENT)
    channel.confirmed(4)
    assert channel.drain(queue) == channel.drain(transient) == [b"t", b"p"]


def test_confirm_of_a_message_to_many_queues(broker, channel):
    exchange = broker.exchange()
    channel.exchange(exchange, "fanout")
    queues = [broker.queue() for _ in range(5)]
    for i, name in enumerate(queues):
        channel.declare(name, durable=i % 2 == 0)
        channel.bind(name, exchange)
    channel.confirm()
    channel.publish(exchange, "", b"m", PERSISTENT)
    ack = channel.connection.event(spec.Basic.Ack, 1)
    assert (ack.delivery_tag, ack.multiple) == (1, False)
    assert [channel.count(name) for name in queues] == [1] * 5


def test_confirm_select_again_changes_nothing(channel, queue):
    channel.confirm()
    channel.publish("", queue, b"m")
    channel.confirmed(1)
    channel.confirm()
    channel.send(spec.Confirm.Select(nowait=True))
    channel.publish("", queue, b"m")
    assert channel.connection.event(spec.Basic.Ack, 1).delivery_tag == 2


def test_confirms_count_from_the_select(channel, queue):
    channel.publish("", queue, b"before")
    channel.confirm()
    channel.publish("", queue, b"after")
    assert channel.connection.event(spec.Basic.Ack, 1).delivery_tag == 1


def test_confirms_of_two_channels_are_apart(broker, queue):
    raw = broker.connect()
    one, two = raw.channel(1), raw.channel(2)
    one.confirm()
    two.confirm()
    one.publish("", queue, b"1")
    assert raw.event(spec.Basic.Ack, 1).delivery_tag == 1
    two.publish("", queue, b"2")
    assert raw.event(spec.Basic.Ack, 2).delivery_tag == 1


def test_unroutable_message_is_confirmed(channel):
    channel.confirm()
    channel.publish("", "staunch.no.q", b"lost", PERSISTENT)
    channel.publish("amq.direct", "staunch.no.key", b"lost", PERSISTENT)
    channel.confirmed(2)


def test_mandatory_returns_before_the_confirm(channel, queue):
    channel.confirm()
    properties = b"".join(spec.BasicProperties(content_type="a/b", headers={"x": "y"}).encode())
    channel.publish("amq.direct", "staunch.no.key", b"lost", properties, mandatory=True)
    returned = channel.connection.event(spec.Basic.Return, 1)
    assert no_route(returned)
    assert returned.method.exchange == "amq.direct"
    assert returned.method.routing_key == "staunch.no.key"
    assert (returned.properties, returned.body) == (properties, b"lost")
    assert channel.connection.event(spec.Basic.Ack, 1).delivery_tag == 1
    # A message that finds a queue is not returned.
    channel.publish("", queue, b"m", mandatory=True)
    assert channel.connection.event(spec.Basic.Ack, 1).delivery_tag == 2


def test_mandatory_without_confirms(channel):
    channel.publish("", "staunch.no.q", b"lost", mandatory=True)
    returned = channel.connection.event(spec.Basic.Return, 1)
    assert no_route(returned)
    assert returned.body == b"lost"


def test_mandatory_with_a_large_body(channel):
    body = bytes(range(256)) * 4096
    channel.publish("", "staunch.no.q", body, mandatory=True, chunk=100000)
    assert channel.connection.event(spec.Basic.Return, 1).body == body


def test_immediate_is_not_implemented(channel, queue):
    channel.publish("", queue, b"m", immediate=True)
    assert channel.connection.connection_close() == (540, "NOT_IMPLEMENTED - immediate=true")


# Around the room that one body frame has when frame_max is 4096 or 8192, and around one and two
# frames of the usual 131072.
SIZES = [0, 1, 4087, 4088, 4089, 8183, 8184, 8185, 16368, 16369, 131063, 131064, 131065, 262129, MIB]


@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
@pytest.mark.parametrize("size", SIZES)
def test_bodies(broker, queue, size, frame_max):
    channel = broker.connect(frame_max=frame_max).channel()
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    channel.confirm()
    channel.publish("", queue, body, PERSISTENT, chunk=frame_max - 8)
    channel.confirmed(1)
    got = channel.get(queue)
    assert got.body == body
    assert all(part <= frame_max - 8 for part in got.body_frames)
    channel.nack(1)
    channel.consume(queue, "t")
    got = channel.delivery()
    assert got.body == body
    assert all(part <= frame_max - 8 for part in got.body_frames)


def test_body_in_many_small_frames(channel, queue):
    channel.publish("", queue, b"0123456789" * 100, chunk=7)
    assert channel.get(queue).body == b"0123456789" * 100


def test_largest_body(broker, queue):
    channel = broker.channel()
    body = b"0123456789abcdef" * MIB
    assert len(body) == 16 * MIB
    channel.confirm()
    channel.publish("", queue, body, PERSISTENT, chunk=131064)
    channel.confirmed(1)
    assert channel.get(queue).body == body


def test_body_beyond_the_limit(broker, queue, channel):
    # RabbitMQ 3.10 allows 128 MiB unless `max_message_size` says otherwise; rabbitmq/check sets
    # it to what 4.2 has.
    publisher = broker.channel()
    publisher.publish("", queue, b"x" * (16 * MIB + 1), chunk=131064)
    assert publisher.connection.channel_close(1) == (
        406,
        "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216",
    )
    assert channel.count(queue) == 0


def short(text):
    return bytes([len(text)]) + text


def long(data):
    return struct.pack(">I", len(data)) + data


def every_field_type():
    """A header table with one value of every type that RabbitMQ reads, as bytes."""
    inner = short(b"in") + b"I" + struct.pack(">i", -7)
    values = [
        b"t\x01",
        b"t\x00",
        b"b" + struct.pack(">b", -100),
        b"B" + struct.pack(">B", 200),
        b"s" + struct.pack(">h", -30000),
        b"u" + struct.pack(">H", 60000),
        b"I" + struct.pack(">i", -2_000_000_000),
        b"i" + struct.pack(">I", 4_000_000_000),
        b"l" + struct.pack(">q", -(1 << 62)),
        b"f" + struct.pack(">f", 1.5),
        b"d" + struct.pack(">d", -2.25),
        b"D" + struct.pack(">BI", 2, 12345),
        b"S" + long("ünïcode \0 text".encode()),
        b"S" + long(b"\xff\xfe not utf-8"),
        b"S" + long(b"long " * 1000),
        b"T" + struct.pack(">Q", 1_700_000_000),
        b"F" + long(inner),
        b"F" + long(b""),
        b"A" + long(b"I" + struct.pack(">i", 1) + b"S" + long(b"two") + b"F" + long(inner) + b"V"),
        b"A" + long(b""),
        b"V",
        b"x" + long(bytes(range(256))),
    ]
    return long(b"".join(short(b"field %d" % i) + value for i, value in enumerate(values)))


def all_properties():
    """Flags and values of a message that has every property."""
    return struct.pack(">H", 0xFFFC) + b"".join(
        [
            short(b"text/plain; charset=utf-8"),
            short(b"gzip"),
            every_field_type(),
            b"\x02",
            b"\x09",
            short(b"correlation"),
            short(b"reply.to"),
            short(b"600000"),
            short(b"message-id"),
            struct.pack(">Q", 0xFFFFFFFF),
            short(b"type \xc3\xbc"),
            short(b"guest"),
            short(b"app"),
            short(b"cluster"),
        ]
    )


def encoded(**properties):
    return b"".join(spec.BasicProperties(**properties).encode())


@pytest.mark.parametrize(
    "properties",
    [
        b"\x00\x00",
        encoded(content_type=""),
        encoded(delivery_mode=1),
        encoded(delivery_mode=2),
        encoded(priority=0),
        encoded(headers={}),
        encoded(message_id="m" * 255),
        encoded(timestamp=0),
        struct.pack(">H", 0x2000) + every_field_type(),
        all_properties(),
    ],
    ids=[
        "none",
        "empty content type",
        "transient",
        "persistent",
        "priority 0",
        "empty headers",
        "long message id",
        "timestamp 0",
        "every field type",
        "all",
    ],
)
def test_properties_come_back_byte_for_byte(channel, queue, properties):
    channel.confirm()
    channel.publish("", queue, b"m", properties)
    channel.confirmed(1)
    got = channel.get(queue)
    assert (got.properties, got.body) == (properties, b"m")
    channel.nack(1)
    channel.consume(queue, "t")
    again = channel.delivery()
    assert again.method.redelivered is True
    # A redelivery may tell how often it was tried; nothing else may change.
    if b"x-delivery-count" not in again.properties:
        assert again.properties == properties


def test_order_of_one_channel(broker, channel, queue):
    consumer = broker.channel()
    consumer.qos(100)
    consumer.consume(queue, "t")
    channel.confirm()
    for i in range(2000):
        channel.publish("", queue, b"%d" % i, PERSISTENT if i % 3 else b"\x00\x00")
    channel.confirmed(2000)
    for i in range(2000):
        got = consumer.delivery()
        assert (got.body, got.method.delivery_tag) == (b"%d" % i, i + 1)
        consumer.ack(i + 1)
