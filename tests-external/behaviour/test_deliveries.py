"""Consumers, prefetch, get, and what becomes of deliveries: ack, nack, reject, recover, loss."""

import re

import pytest
from pika import spec


def bodies(messages):
    return [message.body for message in messages]


def tags(messages):
    return [message.method.delivery_tag for message in messages]


def flags(messages):
    return [message.method.redelivered for message in messages]


@pytest.fixture
def filled(broker, channel):
    """A queue with the messages 1 to 5."""
    queue = broker.queue()
    channel.declare(queue)
    channel.fill(queue, b"1", b"2", b"3", b"4", b"5")
    return queue


def wait_for_count(channel, queue, count):
    """Waits until the queue shows `count` ready messages, for effects of another connection."""
    for _ in range(2000):
        if channel.count(queue) == count:
            return
    assert channel.count(queue) == count


def test_get(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    assert channel.get(queue) is None
    channel.bind(queue, "amq.direct", "key of " + queue)
    channel.publish("amq.direct", "key of " + queue, b"a")
    channel.publish("", queue, b"b")
    got = channel.get(queue).method
    assert (got.exchange, got.routing_key) == ("amq.direct", "key of " + queue)
    assert (got.delivery_tag, got.redelivered, got.message_count) == (1, False, 1)
    got = channel.get(queue).method
    assert (got.delivery_tag, got.message_count) == (2, 0)
    assert channel.get(queue) is None


def test_get_without_ack(broker, channel, filled):
    reader = broker.channel()
    assert reader.get(filled, no_ack=True).body == b"1"
    reader.close()
    assert channel.drain(filled) == [b"2", b"3", b"4", b"5"]


def test_generated_consumer_tag(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    tag = channel.consume(queue)
    assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag)
    assert channel.consume(queue) != tag


def test_delivery_names_consumer_exchange_and_key(channel, filled):
    assert channel.consume(filled, "mine") == "mine"
    first = channel.delivery().method
    assert (first.consumer_tag, first.exchange, first.routing_key) == ("mine", "", filled)
    assert (first.delivery_tag, first.redelivered) == (1, False)
    rest = channel.deliveries(4)
    assert (bodies(rest), tags(rest)) == ([b"2", b"3", b"4", b"5"], [2, 3, 4, 5])


def test_consumer_tag_in_use(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.consume(queue, "t")
    # The same tag on another channel is another consumer.
    channel.connection.channel(2).consume(queue, "t")
    assert channel.fatal(spec.Basic.Consume(queue=queue, consumer_tag="t")) == (
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
    )


def test_exclusive_consumer(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    refusal = (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
    channel.consume(queue, "t", exclusive=True)
    other = broker.channel()
    assert other.refused(spec.Basic.Consume(queue=queue)) == refusal
    channel.cancel("t")
    other = other.connection.channel()
    other.consume(queue, "u")
    assert channel.refused(spec.Basic.Consume(queue=queue, exclusive=True)) == refusal


def test_consume_nowait(channel, filled):
    channel.send(spec.Basic.Consume(queue=filled, consumer_tag="t", nowait=True))
    assert bodies(channel.deliveries(5)) == [b"1", b"2", b"3", b"4", b"5"]


def test_cancel_keeps_what_was_delivered(channel, filled):
    channel.qos(2)
    channel.consume(filled, "t")
    got = channel.deliveries(2)
    assert channel.cancel("t") == "t"
    assert channel.count(filled) == 3
    channel.ack(tags(got)[0])
    channel.nack(tags(got)[1])
    assert channel.drain(filled) == [b"2", b"3", b"4", b"5"]


def test_cancel_of_an_unknown_tag_is_fine(channel):
    assert channel.cancel("nobody") == "nobody"


def test_cancel_nowait(broker, channel, filled):
    channel.qos(1)
    channel.consume(filled, "t")
    channel.delivery()
    channel.send(spec.Basic.Cancel(consumer_tag="t", nowait=True))
    assert channel.declare(filled, passive=True).consumer_count == 0


def test_consumers_take_turns(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    one, two = broker.channel(), broker.channel()
    for consumer in (one, two):
        consumer.qos(1)
        consumer.consume(queue)
    channel.fill(queue, b"1", b"2", b"3", b"4")
    first = [one.delivery(), two.delivery()]
    assert sorted(bodies(first)) == [b"1", b"2"]
    one.ack(1)
    assert one.delivery().body == b"3"
    two.ack(1)
    assert two.delivery().body == b"4"


def test_deleting_a_queue_cancels_its_consumers(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    consumer = broker.channel()
    consumer.consume(queue, "t")
    channel.delete(queue)
    cancel = consumer.connection.event(spec.Basic.Cancel, consumer.number)
    assert (cancel.consumer_tag, cancel.nowait) == ("t", True)
    # The tag is free again.
    other = broker.queue()
    consumer.declare(other)
    consumer.consume(other, "t")


def test_no_cancel_notification_without_the_capability(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    consumer = broker.connect(capabilities={}).channel()
    consumer.consume(queue, "t")
    channel.delete(queue)
    assert consumer.cancel("t") == "t"
    assert not consumer.connection.pending


def test_automatic_ack(broker, channel, filled):
    consumer = broker.channel()
    consumer.qos(1)
    consumer.consume(filled, "t", no_ack=True)
    # Prefetch does not hold back deliveries that need no ack.
    assert bodies(consumer.deliveries(5)) == [b"1", b"2", b"3", b"4", b"5"]
    consumer.close()
    assert channel.count(filled) == 0


def test_prefetch_of_each_consumer(channel, filled):
    channel.qos(2)
    channel.consume(filled, "one")
    assert bodies(channel.deliveries(2)) == [b"1", b"2"]
    assert channel.count(filled) == 3
    channel.consume(filled, "two")
    got = channel.deliveries(2)
    assert [message.method.consumer_tag for message in got] == ["two", "two"]
    assert channel.count(filled) == 1
    channel.ack(1)
    last = channel.delivery()
    assert (last.method.consumer_tag, last.body) == ("one", b"5")


def test_prefetch_counts_for_consumers_that_come_later(channel, filled):
    channel.qos(1)
    channel.consume(filled, "one")
    channel.qos(3)
    assert channel.delivery().body == b"1"
    assert channel.count(filled) == 4
    channel.consume(filled, "three")
    assert bodies(channel.deliveries(3)) == [b"2", b"3", b"4"]
    assert channel.count(filled) == 1


def test_global_prefetch_is_shared_by_the_channel(channel, filled):
    channel.qos(3, global_qos=True)
    channel.consume(filled, "one")
    channel.consume(filled, "two")
    got = channel.deliveries(3)
    assert sorted(bodies(got)) == [b"1", b"2", b"3"]
    assert channel.count(filled) == 2
    channel.ack(tags(got)[2], multiple=True)
    assert sorted(bodies(channel.deliveries(2))) == [b"4", b"5"]


def test_both_kinds_of_prefetch_hold_at_once(channel, filled):
    # In this order: RabbitMQ lifts the channel's limit when one for consumers is set after it.
    channel.qos(2)
    channel.qos(3, global_qos=True)
    channel.consume(filled, "one")
    assert bodies(channel.deliveries(2)) == [b"1", b"2"]
    channel.consume(filled, "two")
    assert channel.delivery().method.consumer_tag == "two"
    assert channel.count(filled) == 2
    channel.ack(1)
    assert channel.delivery().body == b"4"
    assert channel.count(filled) == 1


def test_get_is_not_held_back_by_prefetch(channel, filled):
    channel.qos(1)
    assert [channel.get(filled).body for _ in range(3)] == [b"1", b"2", b"3"]


def test_prefetch_size_is_not_implemented(channel):
    assert channel.fatal(spec.Basic.Qos(prefetch_size=10)) == (
        540,
        "NOT_IMPLEMENTED - prefetch_size!=0 (10)",
    )


def test_ack_one(broker, channel, filled):
    consumer = broker.channel()
    consumer.consume(filled)
    consumer.deliveries(5)
    consumer.ack(3)
    consumer.close()
    assert channel.drain(filled) == [b"1", b"2", b"4", b"5"]


def test_ack_multiple(broker, channel, filled):
    consumer = broker.channel()
    consumer.consume(filled)
    consumer.deliveries(5)
    consumer.ack(3, multiple=True)
    consumer.close()
    assert channel.drain(filled) == [b"4", b"5"]


def test_ack_zero_multiple_means_all(broker, channel, filled):
    consumer = broker.channel()
    consumer.ack(0, multiple=True)
    consumer.consume(filled)
    consumer.deliveries(5)
    consumer.ack(0, multiple=True)
    consumer.close()
    assert channel.count(filled) == 0


@pytest.mark.parametrize(
    "method",
    [
        spec.Basic.Ack(82),
        spec.Basic.Ack(82, True),
        spec.Basic.Nack(82),
        spec.Basic.Reject(82),
    ],
    ids=["ack", "ack multiple", "nack", "reject"],
)
def test_unknown_delivery_tag(channel, method):
    assert channel.refused(method) == (406, "PRECONDITION_FAILED - unknown delivery tag 82")


def test_ack_twice(broker, channel, filled):
    consumer = broker.channel()
    consumer.get(filled)
    consumer.ack(1)
    assert consumer.refused(spec.Basic.Ack(1)) == (
        406,
        "PRECONDITION_FAILED - unknown delivery tag 1",
    )
    assert channel.count(filled) == 4


def test_delivery_tags_belong_to_their_channel(channel, filled):
    channel.get(filled)
    other = channel.connection.channel(2)
    code, _ = other.refused(spec.Basic.Ack(1))
    assert code == 406
    channel.ack(1)
    assert channel.count(filled) == 4


def test_reject_without_requeue_drops(channel, filled):
    channel.get(filled)
    channel.reject(1, requeue=False)
    assert channel.drain(filled) == [b"2", b"3", b"4", b"5"]


def test_requeue_goes_back_to_where_it_was(channel, filled):
    got = [channel.get(filled) for _ in range(3)]
    assert bodies(got) == [b"1", b"2", b"3"]
    channel.ack(1)
    channel.reject(3)
    channel.nack(2)
    again = [channel.get(filled) for _ in range(4)]
    assert bodies(again) == [b"2", b"3", b"4", b"5"]
    assert flags(again) == [True, True, False, False]


def test_nack_multiple_keeps_the_order(channel, filled):
    channel.consume(filled, "t")
    channel.deliveries(5)
    channel.cancel("t")
    channel.nack(4, multiple=True)
    again = [channel.get(filled) for _ in range(4)]
    assert bodies(again) == [b"1", b"2", b"3", b"4"]
    assert flags(again) == [True] * 4


def test_nack_zero_multiple_without_requeue(channel, filled):
    channel.get(filled)
    channel.get(filled)
    channel.nack(0, multiple=True, requeue=False)
    assert channel.drain(filled) == [b"3", b"4", b"5"]


def test_requeued_message_goes_to_the_waiting_consumer(channel, filled):
    channel.qos(1)
    channel.consume(filled, "t")
    for tag in range(1, 4):
        got = channel.delivery()
        assert (got.method.delivery_tag, got.body) == (tag, b"1")
        assert got.method.redelivered is (tag > 1)
        channel.nack(tag)
    assert channel.delivery().body == b"1"


def test_recover_redelivers_what_is_unacked(channel, filled):
    channel.qos(2)
    channel.consume(filled, "t")
    channel.deliveries(2)
    channel.call(spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    again = channel.deliveries(2)
    assert (bodies(again), flags(again)) == ([b"1", b"2"], [True, True])
    assert tags(again) == [3, 4]
    channel.send(spec.Basic.RecoverAsync(requeue=True))
    again = channel.deliveries(2)
    assert (bodies(again), tags(again)) == ([b"1", b"2"], [5, 6])


def test_recover_without_requeue_is_not_implemented(channel):
    assert channel.fatal(spec.Basic.Recover(requeue=False)) == (
        540,
        "NOT_IMPLEMENTED - requeue=false",
    )


def lose_by_channel_close(consumer):
    consumer.close()


def lose_by_channel_error(consumer):
    consumer.refused(spec.Basic.Ack(82))


def lose_by_connection_close(consumer):
    consumer.connection.call(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)


def lose_by_end_of_tcp(consumer):
    consumer.connection.close()


def lose_by_reset(consumer):
    consumer.connection.reset()


@pytest.mark.parametrize(
    "lose",
    [
        lose_by_channel_close,
        lose_by_channel_error,
        lose_by_connection_close,
        lose_by_end_of_tcp,
        lose_by_reset,
    ],
)
def test_unacked_deliveries_come_back(broker, channel, filled, lose):
    consumer = broker.channel()
    consumer.qos(3)
    consumer.consume(filled)
    assert bodies(consumer.deliveries(3)) == [b"1", b"2", b"3"]
    consumer.ack(2)
    assert consumer.delivery().body == b"4"
    lose(consumer)
    wait_for_count(channel, filled, 4)
    again = [channel.get(filled) for _ in range(4)]
    assert bodies(again) == [b"1", b"3", b"4", b"5"]
    assert flags(again) == [True, True, True, False]


def test_delivery_tags_of_get_and_consume_are_one_sequence(channel, filled):
    assert channel.get(filled).method.delivery_tag == 1
    channel.qos(1)
    channel.consume(filled, "t")
    assert channel.delivery().method.delivery_tag == 2
    assert channel.get(filled).method.delivery_tag == 3
