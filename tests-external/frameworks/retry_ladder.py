"""The retry ladder that Spring and others build of dead letters, with pika.

    retry_ladder.py URL

A listener rejects a message; the work queue's dead-letter exchange takes it to a queue whose TTL
is the pause, and whose own dead-letter exchange brings it back. The listener counts its tries in
`x-death` and parks the message after the third. Ends with 0 only if every message took exactly
that road and every `x-death` is what RabbitMQ writes.
"""

import sys
import uuid

import pika

MESSAGES = 50
TRIES = 3
PAUSE_MILLISECONDS = 200
SECONDS_MAX = 60


def main() -> None:
    """The program: classic and quorum work queues."""
    for queue_type in ("classic", "quorum"):
        ladder = Ladder(sys.argv[1], queue_type)
        try:
            ladder.climb()
        finally:
            ladder.tear_down()
        print(f"retry ladder, {queue_type}: {MESSAGES} messages, {ladder.tries} tries")


class Ladder:
    """One set of queues and its listener."""

    def __init__(self, url: str, queue_type: str):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        name = f"ladder-{queue_type}-{uuid.uuid4().hex[:8]}"
        self.work, self.retry, self.parked = f"{name}.work", f"{name}.retry", f"{name}.parked"
        self.tries = 0
        self.seen: dict[str, int] = {}
        self.parking = 0
        channel = self.channel
        for exchange in (self.work, self.retry):
            channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(self.work, durable=True, arguments={
            "x-queue-type": queue_type,
            "x-dead-letter-exchange": self.retry,
            "x-dead-letter-routing-key": "again",
        })
        channel.queue_declare(self.retry, durable=True, arguments={
            "x-message-ttl": PAUSE_MILLISECONDS,
            "x-dead-letter-exchange": self.work,
        })
        channel.queue_declare(self.parked, durable=True)
        channel.queue_bind(self.work, self.work, "#")
        channel.queue_bind(self.retry, self.retry, "#")
        channel.confirm_delivery()

    def climb(self) -> None:
        """Publishes, listens until all are parked, and looks at the end."""
        for number in range(MESSAGES):
            self.channel.basic_publish(
                self.work, f"order.{number}", f"body {number}".encode(),
                pika.BasicProperties(
                    message_id=str(number), delivery_mode=2, headers={"customer": number},
                ),
                mandatory=True,
            )
        self.channel.basic_qos(prefetch_count=10)
        self.connection.call_later(SECONDS_MAX, self.channel.stop_consuming)
        self.channel.basic_consume(self.work, self.listen)
        self.channel.start_consuming()
        assert self.parking == MESSAGES, f"{self.parking} parked, {self.tries} tries"
        assert self.seen == {str(number): TRIES for number in range(MESSAGES)}
        for queue, count in ((self.work, 0), (self.retry, 0), (self.parked, MESSAGES)):
            found = self.channel.queue_declare(queue, passive=True).method.message_count
            assert found == count, f"{queue}: {found} messages"

    def listen(self, channel, method, properties, body) -> None:
        """Rejects until the tries are used up, then parks."""
        self.tries += 1
        number = properties.message_id
        tried = self.seen.get(number, 0)
        self.seen[number] = tried + 1
        assert body == f"body {number}".encode()
        assert not method.redelivered
        self.check_headers(method, properties, number, tried)
        if tried + 1 < TRIES:
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        channel.basic_publish("", self.parked, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)
        self.parking += 1
        if self.parking == MESSAGES:
            channel.stop_consuming()

    def check_headers(self, method, properties, number: str, tried: int) -> None:
        """What the message says of its road so far, to the letter."""
        headers = dict(properties.headers)
        assert headers.pop("customer") == int(number)
        if tried == 0:
            assert method.routing_key == f"order.{number}"
            assert not any(key.startswith("x-") for key in headers), headers
            return
        assert method.routing_key == "again"
        deaths = headers.pop("x-death")
        times = [death.pop("time") for death in deaths]
        assert all(times)
        # The last death comes first.
        assert deaths == [
            {
                "count": tried, "reason": "expired", "queue": self.retry,
                "exchange": self.retry, "routing-keys": ["again"],
            },
            {
                "count": tried, "reason": "rejected", "queue": self.work,
                "exchange": self.work,
                "routing-keys": [f"order.{number}"],
            },
        ], deaths
        assert headers["x-first-death-queue"] == self.work
        assert headers["x-first-death-reason"] == "rejected"
        assert headers["x-first-death-exchange"] == self.work

    def tear_down(self) -> None:
        """Deletes everything."""
        for queue in (self.work, self.retry, self.parked):
            self.channel.queue_delete(queue)
        for exchange in (self.work, self.retry):
            self.channel.exchange_delete(exchange)
        self.connection.close()


if __name__ == "__main__":
    main()
