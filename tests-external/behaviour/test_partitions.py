"""Queues with partitions: one queue to its clients, ordered per routing key."""

import pytest
from pika import spec

PARTITIONS = {"x-queue-type": "quorum", "x-partitions": 4}
KEYS = [f"customer-{number}" for number in range(12)]


@pytest.fixture
def queue(broker, channel):
    if broker.is_rabbitmq_3:
        pytest.skip("an extension of Staunch")
    queue = broker.queue()
    channel.declare(queue, durable=True, arguments=PARTITIONS)
    exchange = broker.exchange()
    channel.exchange(exchange, "topic")
    channel.bind(queue, exchange, "#")
    return queue, exchange


def publish_rounds(channel, exchange, rounds):
    """Publishes a message for each key in each round; how many."""
    tag = 0
    for number in rounds:
        for key in KEYS:
            tag += 1
            channel.publish(exchange, key, b"%d" % number)
    return tag


def by_key(messages):
    taken = {}
    for message in messages:
        taken.setdefault(message.method.routing_key, []).append(int(message.body))
    return taken


def test_order_per_key_over_two_consumers(broker, channel, queue):
    queue, exchange = queue
    consumers = [broker.channel(), broker.channel()]
    for consumer in consumers:
        consumer.consume(queue, tag="tag")
    channel.confirm()
    channel.confirmed(publish_rounds(channel, exchange, range(10)))
    messages = []
    owners = {}
    while len(messages) < 10 * len(KEYS):
        for at, consumer in enumerate(consumers):
            for message in received(consumer):
                messages.append(message)
                owners.setdefault(message.method.routing_key, set()).add(at)
                consumer.ack(message.method.delivery_tag, multiple=True)
    assert by_key(messages) == {key: list(range(10)) for key in KEYS}
    assert all(len(at) == 1 for at in owners.values()), "a key has one consumer"
    assert {at for ats in owners.values() for at in ats} == {0, 1}, "both have some"
    for consumer in consumers:
        consumer.cancel("tag")
    declared = channel.declare(queue, passive=True)
    assert (declared.message_count, declared.consumer_count) == (0, 0)


def received(channel):
    """Deliveries that are there, or come soon."""
    raw = channel.connection
    before = raw.socket.gettimeout()
    raw.socket.settimeout(0.2)
    found = []
    try:
        while len(found) < 20:
            _, got = raw.pending.popleft() if raw.pending else raw.receive()
            found.append(got)
    except TimeoutError:
        pass
    finally:
        raw.socket.settimeout(before)
    return found


def test_gets_counts_purge_and_delete(channel, queue):
    queue, exchange = queue
    channel.confirm()
    last = publish_rounds(channel, exchange, range(2))
    channel.confirmed(last)
    assert channel.count(queue) == 24
    got = [channel.get(queue) for _ in range(24)]
    assert by_key(got) == {key: [0, 1] for key in KEYS}
    channel.nack(0, multiple=True)
    assert channel.count(queue) == 24
    part = sum(channel.count(f"{queue}#{number}") for number in range(4))
    assert part == 24
    assert channel.purge(queue) == 24
    assert channel.delete(queue) == 0
    refused = channel.refused(spec.Queue.Declare(queue=f"{queue}#0", passive=True))
    assert refused[0] == 404


def test_what_is_refused(broker, queue):
    queue, _ = queue
    other = {**PARTITIONS, "x-partitions": 5}
    declare = spec.Queue.Declare(queue=queue, durable=True, arguments=other)
    code, text = broker.channel().refused(declare)
    assert code == 406 and "x-partitions" in text
    code, text = broker.channel().refused(spec.Queue.Delete(queue=f"{queue}#1"))
    assert code == 406 and f"is a partition of queue '{queue}'" in text
    many = {**PARTITIONS, "x-partitions": 65}
    declare = spec.Queue.Declare(queue=broker.queue(), durable=True, arguments=many)
    code, _ = broker.channel().refused(declare)
    assert code == 406
