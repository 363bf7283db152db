"""What a client meets that does not do one thing at a time: it writes on behind its own mistake, or
writes before it reads. Through pika, because the point is what a real client makes of it."""

import pika
import pytest

BIG = 12 << 20


def connect(broker):
    credentials = pika.PlainCredentials(broker.user, broker.password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(broker.host, broker.port, credentials=credentials)
    )


def test_the_reason_arrives_although_the_client_writes_on(broker):
    for _ in range(5):
        connection = connect(broker)
        channel = connection.channel()
        method = pika.spec.Basic.Publish(routing_key="nowhere", immediate=True)
        content = (pika.BasicProperties(), b"x" * 10_000)
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
            for _ in range(50):
                channel._impl._send_method(method, content)
            connection.process_data_events(time_limit=10)
        assert closed.value.reply_code == 540


def test_a_client_that_writes_before_it_reads(broker):
    connection = connect(broker)
    channel = connection.channel()
    queue = broker.queue()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"a" * BIG)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, lambda *_: None)
    # The first message is on its way and unread; the second is written all the same.
    channel.basic_publish("", queue, b"b" * BIG)
    connection.close()
