"""Queue declare, delete, purge: names, flags, equivalence and errors."""

import re

import pytest
from pika import spec

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. "
    "It could be originally declared on another connection or the exclusive property value "
    "does not match that of the original declaration."
)


def is_missing(channel, queue):
    """Whether the queue is gone; asks on a channel of its own."""
    other = channel.connection.channel(channel.number + 500)
    other.send(spec.Queue.Declare(queue=queue, passive=True))
    number, got = other.connection.receive()
    assert number == other.number
    if isinstance(got, spec.Queue.DeclareOk):
        other.close()
        return False
    assert (got.reply_code, got.reply_text) == (404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")
    other.send(spec.Channel.CloseOk())
    return True


def test_declare_counts_messages_and_consumers(broker, channel):
    queue = broker.queue()
    declared = channel.declare(queue, durable=True)
    assert (declared.queue, declared.message_count, declared.consumer_count) == (queue, 0, 0)
    channel.fill(queue, b"a", b"b", b"c")
    declared = channel.declare(queue, durable=True)
    assert (declared.message_count, declared.consumer_count) == (3, 0)
    channel.qos(1)
    channel.consume(queue)
    # One is out with the consumer: only what is ready counts.
    declared = channel.declare(queue, passive=True)
    assert (declared.message_count, declared.consumer_count) == (2, 1)


def test_server_named_queue(channel):
    name = channel.declare("", exclusive=True).queue
    assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name)
    assert channel.declare("", exclusive=True).queue != name


def test_empty_name_means_the_last_declared(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.bind("", "amq.direct", queue)
    channel.publish("amq.direct", queue, b"m")
    assert channel.get("").body == b"m"
    # Without a routing key either, the queue's own name is the key.
    channel.bind("", "amq.direct")
    channel.publish("amq.direct", queue, b"n")
    assert channel.drain("") == [b"n"]
    channel.delete("")
    assert is_missing(channel, queue)


@pytest.mark.parametrize(
    "method",
    [
        spec.Queue.Bind(queue="", exchange="amq.direct", routing_key="a"),
        spec.Queue.Purge(queue=""),
        spec.Queue.Delete(queue=""),
        spec.Basic.Get(queue=""),
        spec.Basic.Consume(queue=""),
    ],
    ids=["bind", "purge", "delete", "get", "consume"],
)
def test_empty_name_without_a_declared_queue(channel, method):
    assert channel.refused(method) == (404, "NOT_FOUND - no previously declared queue")


@pytest.mark.parametrize(
    "method",
    [
        spec.Queue.Declare(queue="staunch.no.q", passive=True),
        spec.Queue.Purge(queue="staunch.no.q"),
        spec.Basic.Get(queue="staunch.no.q"),
        spec.Basic.Consume(queue="staunch.no.q"),
    ],
    ids=["passive declare", "purge", "get", "consume"],
)
def test_missing_queue(channel, method):
    assert channel.refused(method) == (404, "NOT_FOUND - no queue 'staunch.no.q' in vhost '/'")


def test_delete_of_a_missing_queue_is_fine(channel):
    assert channel.delete("staunch.no.q") == 0


def test_reserved_prefix(channel):
    assert channel.refused(spec.Queue.Declare(queue="amq.mine")) == (
        403,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
    )


@pytest.mark.parametrize("suffix", ["", " with spaces", "/#*.", "ünïcode-☃"])
def test_names(broker, channel, suffix):
    queue = broker.queue() + suffix
    assert channel.declare(queue, exclusive=True).queue == queue
    channel.publish("", queue, b"m")
    got = channel.get(queue)
    assert (got.method.routing_key, got.body) == (queue, b"m")


def test_line_breaks_are_taken_out_of_names(broker, channel):
    queue = broker.queue()
    assert channel.declare(queue + "\r\n", exclusive=True).queue == queue


def test_name_of_255_bytes(broker, channel):
    queue = broker.queue().ljust(255, "x")
    channel.declare(queue, exclusive=True)
    channel.publish("", queue, b"m")
    assert channel.get(queue).method.routing_key == queue


@pytest.mark.parametrize(
    "original, again, text",
    [
        ({"durable": True}, {}, "'durable' for {}: received 'false' but current is 'true'"),
        ({}, {"durable": True}, "'durable' for {}: received 'true' but current is 'false'"),
        ({}, {"auto_delete": True}, "'auto_delete' for {}: received 'true' but current is 'false'"),
        (
            {"arguments": {"x-max-length": 10}},
            {},
            "'x-max-length' for {}: received none but current is the value '10' of type 'signedint'",
        ),
        (
            {},
            {"arguments": {"x-max-length": 10}},
            "'x-max-length' for {}: received the value '10' of type 'signedint' but current is none",
        ),
        (
            {"arguments": {"x-max-length": 10}},
            {"arguments": {"x-max-length": 11}},
            "'x-max-length' for {}: received '11' but current is '10'",
        ),
    ],
)
def test_inequivalent_redeclare(broker, channel, original, again, text):
    queue = broker.queue()
    channel.declare(queue, **original)
    channel.declare(queue, **original)
    assert channel.refused(spec.Queue.Declare(queue=queue, **again)) == (
        406,
        "PRECONDITION_FAILED - inequivalent arg " + text.format(f"queue '{queue}' in vhost '/'"),
    )


def test_equivalent_arguments(broker, channel):
    queue = broker.queue()
    channel.declare(queue, arguments={"x-queue-type": "classic", "x-max-length": 10, "mine": 1})
    # The classic type is the default, widths of integers do not matter, unknown names neither.
    channel.declare(queue, arguments={"x-max-length": 10})
    channel.declare(queue, arguments={"x-max-length": 10, "mine": 2, "x-unknown": "y"})


def test_unknown_queue_type(broker, channel):
    method = spec.Queue.Declare(queue=broker.queue(), arguments={"x-queue-type": "nope"})
    code, text = channel.refused(method)
    assert code == 406
    assert "unsupported queue type 'nope'" in text


def test_passive_declare_ignores_everything_else(broker, channel):
    queue = broker.queue()
    channel.declare(queue, durable=True)
    channel.declare(queue, passive=True, auto_delete=True, arguments={"x-max-length": 1})


def test_exclusive_queue_is_locked_for_other_connections(broker, channel):
    queue = broker.queue()
    channel.declare(queue, exclusive=True)
    channel.declare(queue, exclusive=True)
    other = broker.channel()
    for method in (
        spec.Queue.Declare(queue=queue, exclusive=True),
        spec.Queue.Declare(queue=queue, passive=True),
        spec.Queue.Bind(queue=queue, exchange="amq.direct", routing_key="a"),
        spec.Queue.Purge(queue=queue),
        spec.Queue.Delete(queue=queue),
        spec.Basic.Get(queue=queue),
        spec.Basic.Consume(queue=queue),
    ):
        assert other.refused(method) == (405, LOCKED.format(queue)), method.NAME
        other = other.connection.channel()
    # Publishing to it is open to all.
    other.confirm()
    other.publish("", queue, b"m")
    other.confirmed(1)
    assert channel.get(queue).body == b"m"


def test_exclusive_is_part_of_the_declaration(broker, channel):
    shared, own = broker.queue(), broker.queue()
    channel.declare(shared)
    channel.declare(own, exclusive=True)
    assert channel.refused(spec.Queue.Declare(queue=shared, exclusive=True)) == (
        405,
        LOCKED.format(shared),
    )
    channel = channel.connection.channel()
    assert channel.refused(spec.Queue.Declare(queue=own)) == (405, LOCKED.format(own))


def test_exclusive_queue_goes_with_its_connection(broker, channel):
    queue = broker.queue()
    owner = broker.channel()
    owner.declare(queue, exclusive=True, durable=True)
    owner.connection.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    assert is_missing(channel, queue)


def test_auto_delete_queue_goes_with_its_last_consumer(broker, channel):
    queue = broker.queue()
    channel.declare(queue, auto_delete=True)
    other = channel.connection.channel(2)
    channel.consume(queue, "one")
    other.consume(queue, "two")
    channel.cancel("one")
    assert not is_missing(channel, queue)
    other.close()
    assert is_missing(channel, queue)


def test_auto_delete_queue_without_consumers_stays(broker, channel):
    queue = broker.queue()
    owner = broker.channel()
    owner.declare(queue, auto_delete=True)
    owner.connection.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
    assert not is_missing(channel, queue)


def test_purge_takes_only_what_is_ready(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.fill(queue, b"a", b"b", b"c")
    tag = channel.get(queue).method.delivery_tag
    assert channel.purge(queue) == 2
    assert channel.purge(queue) == 0
    channel.reject(tag)
    assert channel.drain(queue) == [b"a"]


def test_delete_counts_ready_messages(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.fill(queue, b"a", b"b", b"c")
    channel.get(queue)
    assert channel.delete(queue) == 2
    assert is_missing(channel, queue)


def test_delete_if_empty(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.fill(queue, b"a")
    assert channel.refused(spec.Queue.Delete(queue=queue, if_empty=True)) == (
        406,
        f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty",
    )
    channel = channel.connection.channel()
    channel.purge(queue)
    channel.delete(queue, if_empty=True)
    assert is_missing(channel, queue)


def test_delete_if_unused(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    consumer = broker.channel()
    consumer.consume(queue, "t")
    assert channel.refused(spec.Queue.Delete(queue=queue, if_unused=True)) == (
        406,
        f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use",
    )
    consumer.cancel("t")
    channel = channel.connection.channel()
    channel.delete(queue, if_unused=True)
    assert is_missing(channel, queue)


def test_deleted_queue_comes_back_empty_and_unbound(broker, channel):
    queue = broker.queue()
    channel.declare(queue, durable=True)
    channel.bind(queue, "amq.direct", queue)
    channel.fill(queue, b"a")
    channel.delete(queue)
    assert channel.declare(queue, durable=True).message_count == 0
    channel.publish("amq.direct", queue, b"b")
    assert channel.drain(queue) == []


def test_nowait_delete_and_purge(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.fill(queue, b"a")
    channel.send(spec.Queue.Purge(queue=queue, nowait=True))
    assert channel.count(queue) == 0
    channel.send(spec.Queue.Delete(queue=queue, nowait=True))
    code, _ = channel.refused(spec.Queue.Declare(queue=queue, passive=True))
    assert code == 404
