"""The foreign-client round with aio-pika; README.md lists its steps.

Usage: aio_pika_round.py AMQP_URL
"""

import asyncio
import os
import sys
from datetime import datetime, timezone

import aio_pika
from aio_pika.exceptions import (
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    QueueEmpty,
)

MESSAGES = 1000
PREFETCH = 50
QUEUE = f"staunch.round.aio-pika.{os.getpid()}"


def fail(text):
    raise SystemExit(f"aio-pika: {text}")


def expect(what, actual, wanted):
    if actual != wanted:
        fail(f"{what}: expected {wanted!r}, got {actual!r}")


def body(i):
    return f"message {i} ".encode() + b"x" * (i % 300)


async def expect_close(connection, what, error, text, call):
    """Runs `call` on a channel of its own, which the broker must close with `error` and `text`."""
    channel = await connection.channel()
    try:
        await call(channel)
    except error as closed:
        if text not in str(closed):
            fail(f"{what}: expected {text!r}, got {closed!s}")
        return
    fail(f"{what}: the broker did not close the channel")


async def check_errors(connection):
    missing = QUEUE + ".missing"
    await expect_close(
        connection,
        "passive declare of a missing queue",
        ChannelNotFoundEntity,
        f"NOT_FOUND - no queue '{missing}' in vhost '/'",
        lambda channel: channel.declare_queue(missing, passive=True),
    )
    await expect_close(
        connection,
        "inequivalent redeclare",
        ChannelPreconditionFailed,
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{QUEUE}' in vhost '/': "
        "received 'false' but current is 'true'",
        lambda channel: channel.declare_queue(QUEUE, durable=False),
    )


def message(i):
    return aio_pika.Message(
        body(i),
        content_type="text/plain",
        headers={"n": i, "word": "ünïcode"},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        priority=3,
        correlation_id=f"c{i}",
        message_id=f"m{i}",
        timestamp=datetime.fromtimestamp(1_700_000_000 + i, timezone.utc),
        type="round",
        app_id="staunch",
    )


async def publish(exchange):
    """Sends everything, then waits for every confirm: many are in flight, unlike with pika."""
    confirms = [
        asyncio.ensure_future(exchange.publish(message(i), QUEUE)) for i in range(MESSAGES)
    ]
    for confirm in await asyncio.gather(*confirms):
        expect("confirm", type(confirm).__name__, "Ack")


async def check_mandatory(exchange):
    try:
        await exchange.publish(aio_pika.Message(b"lost"), QUEUE + ".missing", mandatory=True)
    except DeliveryError as error:
        returned = error.message
        expect("return", returned.delivery.reply_code, 312)
        expect("return", returned.delivery.reply_text, "NO_ROUTE")
        expect("returned body", bytes(returned.body), b"lost")
        return
    fail("an unroutable mandatory message was not returned")


async def check_get(queue):
    got = await queue.get()
    expect("get", (got.redelivered, got.message_count), (False, MESSAGES - 1))
    expect("get, body", got.body, body(0))
    await got.reject(requeue=True)
    got = await queue.get()
    expect("get again", (got.redelivered, got.message_count), (True, MESSAGES - 1))
    expect("get again, body", got.body, body(0))
    await got.nack(requeue=True)


async def consume(channel, queue):
    await channel.set_qos(prefetch_count=PREFETCH)
    i = 0
    async with queue.iterator(timeout=20) as deliveries:
        async for got in deliveries:
            expect("body", got.body, body(i))
            expect("redelivered", got.redelivered, i == 0)
            expect("routing key", (got.exchange, got.routing_key), ("", QUEUE))
            # The redelivered first message may also tell how often it was tried.
            headers = {k: v for k, v in got.headers.items() if k != "x-delivery-count"}
            expect("headers", headers, {"n": i, "word": "ünïcode"})
            expect("content type", got.content_type, "text/plain")
            expect("delivery mode", (int(got.delivery_mode), got.priority), (2, 3))
            expect("ids", (got.message_id, got.correlation_id), (f"m{i}", f"c{i}"))
            expect("timestamp", got.timestamp.timestamp(), 1_700_000_000 + i)
            expect("type", (got.type, got.app_id), ("round", "staunch"))
            await got.ack()
            i += 1
            if i == MESSAGES:
                break


async def main():
    connection = await aio_pika.connect(sys.argv[1])
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await channel.declare_queue(QUEUE, durable=True)
        expect("declare", queue.declaration_result.message_count, 0)
        await check_errors(connection)
        await publish(channel.default_exchange)
        await check_mandatory(channel.default_exchange)
        again = await channel.declare_queue(QUEUE, passive=True)
        declared = again.declaration_result
        expect("messages after publishing", declared.message_count, MESSAGES)
        await check_get(queue)
        await consume(channel, queue)
        try:
            await queue.get()
            fail("the drained queue still had a message")
        except QueueEmpty:
            pass
        expect("deleted", (await queue.delete()).message_count, 0)
    print("aio-pika: ok")


asyncio.run(main())
