"""The foreign-client round with pika; README.md lists its steps. Usage: pika_round.py AMQP_URL"""

import os
import sys

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

MESSAGES = 1000
PREFETCH = 50
QUEUE = f"staunch.round.pika.{os.getpid()}"


def expect(what, actual, wanted):
    if actual != wanted:
        sys.exit(f"pika: {what}: expected {wanted!r}, got {actual!r}")


def body(i):
    return f"message {i} ".encode() + b"x" * (i % 300)


def expect_close(connection, what, code, text, call):
    """Runs `call` on a channel of its own, which the broker must close with `code` and `text`."""
    channel = connection.channel()
    try:
        call(channel)
    except ChannelClosedByBroker as closed:
        expect(what, (closed.reply_code, closed.reply_text), (code, text))
        return
    sys.exit(f"pika: {what}: the broker did not close the channel")


def check_errors(connection):
    missing = QUEUE + ".missing"
    expect_close(
        connection,
        "passive declare of a missing queue",
        404,
        f"NOT_FOUND - no queue '{missing}' in vhost '/'",
        lambda channel: channel.queue_declare(missing, passive=True),
    )
    expect_close(
        connection,
        "inequivalent redeclare",
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{QUEUE}' in vhost '/': "
        "received 'false' but current is 'true'",
        lambda channel: channel.queue_declare(QUEUE, durable=False),
    )


def publish(channel):
    for i in range(MESSAGES):
        properties = pika.BasicProperties(
            content_type="text/plain",
            headers={"n": i, "word": "ünïcode"},
            delivery_mode=2,
            priority=3,
            correlation_id=f"c{i}",
            message_id=f"m{i}",
            timestamp=1_700_000_000 + i,
            type="round",
            app_id="staunch",
        )
        channel.basic_publish("", QUEUE, body(i), properties)


def check_mandatory(channel):
    try:
        channel.basic_publish("", QUEUE + ".missing", b"lost", mandatory=True)
    except UnroutableError as error:
        (returned,) = error.messages
        method = returned.method
        expect("return", (method.reply_code, method.reply_text), (312, "NO_ROUTE"))
        expect("returned key", method.routing_key, QUEUE + ".missing")
        expect("returned body", returned.body, b"lost")
        return
    sys.exit("pika: an unroutable mandatory message was not returned")


def check_get(channel):
    method, _, got = channel.basic_get(QUEUE)
    expect("get", (method.redelivered, method.message_count, got), (False, MESSAGES - 1, body(0)))
    channel.basic_reject(method.delivery_tag, requeue=True)
    method, _, got = channel.basic_get(QUEUE)
    expect("get again", (method.redelivered, method.message_count), (True, MESSAGES - 1))
    expect("get again, body", got, body(0))
    channel.basic_nack(method.delivery_tag, requeue=True)


def consume(channel):
    channel.basic_qos(prefetch_count=PREFETCH)
    i = 0
    for method, properties, got in channel.consume(QUEUE, inactivity_timeout=20):
        if method is None:
            sys.exit(f"pika: nothing was delivered for 20 s after {i} messages")
        expect("body", got, body(i))
        expect("redelivered", method.redelivered, i == 0)
        expect("routing key", (method.exchange, method.routing_key), ("", QUEUE))
        # The redelivered first message may also tell how often it was tried.
        headers = {k: v for k, v in properties.headers.items() if k != "x-delivery-count"}
        expect("headers", headers, {"n": i, "word": "ünïcode"})
        expect("content type", properties.content_type, "text/plain")
        expect("delivery mode", (properties.delivery_mode, properties.priority), (2, 3))
        expect("ids", (properties.message_id, properties.correlation_id), (f"m{i}", f"c{i}"))
        expect("timestamp", properties.timestamp, 1_700_000_000 + i)
        expect("type", (properties.type, properties.app_id), ("round", "staunch"))
        channel.basic_ack(method.delivery_tag)
        i += 1
        if i == MESSAGES:
            break
    channel.cancel()


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    declared = channel.queue_declare(QUEUE, durable=True)
    expect("declare", (declared.method.queue, declared.method.message_count), (QUEUE, 0))
    check_errors(connection)
    channel.confirm_delivery()
    publish(channel)
    check_mandatory(channel)
    declared = channel.queue_declare(QUEUE, passive=True)
    expect("messages after publishing", declared.method.message_count, MESSAGES)
    check_get(channel)
    consume(channel)
    method, _, _ = channel.basic_get(QUEUE)
    expect("get from the drained queue", method, None)
    expect("deleted", channel.queue_delete(QUEUE).method.message_count, 0)
    connection.close()
    print("pika: ok")


main()
