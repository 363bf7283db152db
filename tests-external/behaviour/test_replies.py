"""Direct reply-to: replies without a queue."""

import pytest
from pika import spec

REPLIES = "amq.rabbitmq.reply-to"


def properties(**given):
    return b"".join(spec.BasicProperties(**given).encode())


def decoded(message):
    found = spec.BasicProperties()
    found.decode(message.properties)
    return found


@pytest.fixture
def asked(broker):
    """A channel that consumes replies, one that has its request, and the way back."""
    client, server = broker.channel(), broker.channel()
    client.consume(REPLIES, "replies", no_ack=True)
    queue = broker.queue()
    server.declare(queue)
    client.publish("", queue, b"request", properties(reply_to=REPLIES))
    client.connection.call(1, spec.Channel.Flow(active=True), spec.Channel.FlowOk)
    request = server.get(queue, no_ack=True)
    way = decoded(request).reply_to
    assert way.startswith(REPLIES + ".") and len(way) > len(REPLIES) + 10
    return client, server, way


def test_a_reply_comes_to_the_channel_that_asked(asked):
    client, server, way = asked
    server.publish("", way, b"reply", properties(correlation_id="5"))
    delivery = client.delivery()
    assert delivery.body == b"reply"
    assert (delivery.method.consumer_tag, delivery.method.routing_key) == ("replies", way)
    assert (delivery.method.exchange, delivery.method.redelivered) == ("", False)
    assert decoded(delivery).correlation_id == "5"


def test_a_reply_name_may_be_among_the_further_keys(broker, asked):
    client, server, way = asked
    queue = broker.queue()
    server.declare(queue)
    server.confirm()
    server.publish("", queue, b"both", properties(headers={"CC": [way]}))
    assert client.delivery().body == b"both"
    server.publish("", "nowhere", b"one", properties(headers={"BCC": [way, way]}))
    server.publish("", way, b"last", properties(headers={"CC": [way]}))
    server.confirmed(3)
    assert [delivery.body for delivery in client.deliveries(2)] == [b"one", b"last"]
    assert server.drain(queue) == [b"both"]


def test_a_reply_name_is_declared_passively_while_it_lives(broker, asked):
    if broker.is_rabbitmq_3:
        pytest.skip("3.10 closes the connection with 541")
    client, _, way = asked
    found = client.call(spec.Queue.Declare(queue=way, passive=True), spec.Queue.DeclareOk)
    assert (found.message_count, found.consumer_count) == (0, 1)
    client.cancel("replies")
    code, _ = broker.channel().refused(spec.Queue.Declare(queue=way, passive=True))
    assert code == 404


@pytest.mark.parametrize(
    ("prepare", "method", "text"),
    [
        ([], spec.Basic.Consume(queue=REPLIES, no_ack=False),
         "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
        ([spec.Basic.Consume(queue=REPLIES, no_ack=True)],
         spec.Basic.Consume(queue=REPLIES, no_ack=True),
         "PRECONDITION_FAILED - reply consumer already set"),
    ],
)
def test_mistakes_are_told(channel, prepare, method, text):
    for step in prepare:
        channel.call(step, spec.Basic.ConsumeOk)
    assert channel.refused(method) == (406, text)


def test_a_request_needs_a_consumer_of_replies(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue, b"", properties(reply_to=REPLIES))
    refused = channel.connection.event(spec.Channel.Close)
    assert (refused.reply_code, refused.reply_text) == (
        406, "PRECONDITION_FAILED - fast reply consumer does not exist",
    )
