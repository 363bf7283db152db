"""A bare AMQP connection: sends any frame, in any order, and shows everything that comes back.

pika's generated codec does the encoding of methods; nothing here hides, retries or repairs, which
is what the tests of broken peers and of exact replies need.
"""

import collections
import socket
import struct

from pika import frame as frames
from pika import spec

HEADER = b"AMQP\x00\x00\x09\x01"
TIMEOUT_SECONDS = 15
NO_PROPERTIES = b"\x00\x00"

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}

WITH_CONTENT = (spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return)
UNASKED = (spec.Basic.Ack, spec.Basic.Nack, spec.Basic.Cancel)


class Closed(Exception):
    """The broker closed the TCP connection."""


class Message:
    """A delivery, get-ok or return with its content; `properties` are the bytes as received."""

    def __init__(self, method, properties, body, body_frames):
        self.method = method
        self.properties = properties
        self.body = body
        self.body_frames = body_frames

    def __repr__(self):
        return f"<Message {self.method} {self.body[:40]!r}>"


def frame(kind, channel, payload, end=b"\xce"):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def content_header(size, properties=NO_PROPERTIES, class_id=60):
    """The payload of a content header; `properties` are the flags and values as bytes."""
    return struct.pack(">HHQ", class_id, 0, size) + properties


def marshal(channel, method):
    return frames.Method(channel, method).marshal()


class Raw:
    """A TCP connection to the broker. Channel numbers are the caller's choice."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        # Deliveries, returns and confirms that arrived while a reply was awaited.
        self.pending = collections.deque()

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the TCP connection with RST, as a peer that vanished would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def method(self, channel, method):
        self.send(marshal(channel, method))

    def receive_frame(self):
        """The next frame as (kind, channel, payload)."""
        while True:
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
                if len(self.buffer) >= size + 8:
                    payload = self.buffer[7 : 7 + size]
                    assert self.buffer[7 + size] == 0xCE, "bad frame end from the broker"
                    self.buffer = self.buffer[size + 8 :]
                    return kind, channel, payload
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed
            self.buffer += data

    def receive(self):
        """The next method, with its content if it has one, as (channel, event)."""
        kind, channel, payload = self.receive_frame()
        while kind == 8:
            kind, channel, payload = self.receive_frame()
        assert kind == 1, f"expected a method frame, got type {kind}"
        class_id, method_id = struct.unpack(">HH", payload[:4])
        method = spec.methods[class_id << 16 | method_id]()
        method.decode(payload, 4)
        if not isinstance(method, WITH_CONTENT):
            return channel, method
        return channel, self.receive_content(channel, method)

    def receive_content(self, channel, method):
        kind, number, header = self.receive_frame()
        assert (kind, number) == (2, channel), "a method must be followed by its content"
        class_id, weight, size = struct.unpack(">HHQ", header[:12])
        assert (class_id, weight) == (60, 0)
        body, sizes = [], []
        while sum(sizes) < size:
            kind, number, payload = self.receive_frame()
            assert (kind, number) == (3, channel), "a content header must be followed by its body"
            body.append(payload)
            sizes.append(len(payload))
        assert sum(sizes) == size
        return Message(method, header[12:], b"".join(body), sizes)

    def call(self, channel, method, reply):
        """Sends `method` and waits for `reply`; what comes in between is kept for `event`."""
        self.method(channel, method)
        while True:
            number, got = self.receive()
            if isinstance(got, Message) and not isinstance(got.method, reply):
                self.pending.append((number, got))
            elif isinstance(got, UNASKED):
                self.pending.append((number, got))
            else:
                break
        inner = got.method if isinstance(got, Message) else got
        assert isinstance(inner, reply), f"{method.NAME} was answered by {inner}"
        assert number == channel
        return got

    def event(self, method, channel=None):
        """The next delivery, return, confirm or close must be of type `method`; returns it."""
        number, got = self.pending.popleft() if self.pending else self.receive()
        inner = got.method if isinstance(got, Message) else got
        assert isinstance(inner, method), f"expected {method.NAME}, got {inner}"
        assert channel is None or number == channel
        return got

    def connection_close(self):
        """The broker must close the connection now; returns (code, text)."""
        close = self.event(spec.Connection.Close, 0)
        self.method(0, spec.Connection.CloseOk())
        return close.reply_code, close.reply_text

    def channel_close(self, channel):
        """The broker must close the channel now; returns (code, text)."""
        close = self.event(spec.Channel.Close, channel)
        self.method(channel, spec.Channel.CloseOk())
        return close.reply_code, close.reply_text

    def end(self):
        """Nothing but the end of the TCP connection may follow."""
        try:
            got = self.receive()
        except Closed:
            return
        raise AssertionError(f"expected the end of the connection, got {got}")

    def start(self):
        self.send(HEADER)
        return self.event(spec.Connection.Start, 0)

    def start_ok(self, user, password, capabilities=None, mechanism="PLAIN", response=None):
        if response is None:
            response = f"\0{user}\0{password}"
        properties = {"capabilities": CAPABILITIES if capabilities is None else capabilities}
        self.method(0, spec.Connection.StartOk(properties, mechanism, response, "en_US"))

    def tune_ok(self, channel_max=2047, frame_max=131072, heartbeat=0):
        self.method(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat))

    def open(self, vhost="/"):
        return self.call(0, spec.Connection.Open(vhost), spec.Connection.OpenOk)

    def channel(self, number=1):
        self.call(number, spec.Channel.Open(), spec.Channel.OpenOk)
        return Channel(self, number)


class Channel:
    """An open channel: one method per AMQP method, replies returned, errors asserted."""

    def __init__(self, connection, number):
        self.connection = connection
        self.number = number

    def call(self, method, reply):
        return self.connection.call(self.number, method, reply)

    def send(self, method):
        self.connection.method(self.number, method)

    def refused(self, method):
        """Sends `method`, for which the broker must close the channel; returns (code, text)."""
        self.send(method)
        return self.connection.channel_close(self.number)

    def fatal(self, method):
        """Sends `method`, for which the broker must close the connection: (code, text)."""
        self.send(method)
        return self.connection.connection_close()

    def close(self):
        self.call(spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)

    def declare(self, queue, **options):
        return self.call(spec.Queue.Declare(queue=queue, **options), spec.Queue.DeclareOk)

    def count(self, queue):
        """Ready messages. RabbitMQ answers ahead of publishes that are not confirmed yet."""
        return self.declare(queue, passive=True).message_count

    def bind(self, queue, exchange, key="", arguments=None):
        method = spec.Queue.Bind(
            queue=queue, exchange=exchange, routing_key=key, arguments=arguments
        )
        return self.call(method, spec.Queue.BindOk)

    def unbind(self, queue, exchange, key="", arguments=None):
        method = spec.Queue.Unbind(
            queue=queue, exchange=exchange, routing_key=key, arguments=arguments
        )
        return self.call(method, spec.Queue.UnbindOk)

    def purge(self, queue):
        return self.call(spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk).message_count

    def delete(self, queue, **options):
        method = spec.Queue.Delete(queue=queue, **options)
        return self.call(method, spec.Queue.DeleteOk).message_count

    def exchange(self, exchange, kind="direct", **options):
        method = spec.Exchange.Declare(exchange=exchange, type=kind, **options)
        return self.call(method, spec.Exchange.DeclareOk)

    def exchange_delete(self, exchange, **options):
        method = spec.Exchange.Delete(exchange=exchange, **options)
        return self.call(method, spec.Exchange.DeleteOk)

    def exchange_bind(self, destination, source, key=""):
        method = spec.Exchange.Bind(destination=destination, source=source, routing_key=key)
        return self.call(method, spec.Exchange.BindOk)

    def exchange_unbind(self, destination, source, key=""):
        method = spec.Exchange.Unbind(destination=destination, source=source, routing_key=key)
        return self.call(method, spec.Exchange.UnbindOk)

    def publish(self, exchange, key, body, properties=NO_PROPERTIES, chunk=4000, **options):
        method = spec.Basic.Publish(exchange=exchange, routing_key=key, **options)
        parts = [
            marshal(self.number, method),
            frame(2, self.number, content_header(len(body), properties)),
        ]
        for start in range(0, len(body), chunk):
            parts.append(frame(3, self.number, body[start : start + chunk]))
        self.connection.send(b"".join(parts))

    def confirm(self):
        self.call(spec.Confirm.Select(), spec.Confirm.SelectOk)

    def confirmed(self, upto):
        """Waits until every publish from the first one up to tag `upto` is confirmed."""
        open_tags = set(range(1, upto + 1))
        while open_tags:
            ack = self.connection.event(spec.Basic.Ack, self.number)
            if ack.multiple:
                covered = {tag for tag in open_tags if tag <= ack.delivery_tag}
            else:
                covered = {ack.delivery_tag}
            assert covered <= open_tags, f"confirm {ack} for a tag that is not outstanding"
            open_tags -= covered

    def fill(self, queue, *bodies):
        """Publishes `bodies` and waits until the queue shows them, on a channel of its own."""
        other = self.connection.channel(self.number + 1000)
        other.confirm()
        for body in bodies:
            other.publish("", queue, body)
        other.confirmed(len(bodies))
        other.close()

    def get(self, queue, no_ack=False):
        """A Message, or None when the queue is empty."""
        reply = (spec.Basic.GetOk, spec.Basic.GetEmpty)
        got = self.call(spec.Basic.Get(queue=queue, no_ack=no_ack), reply)
        return got if isinstance(got, Message) else None

    def drain(self, queue):
        """Takes everything out of the queue; returns the bodies."""
        bodies = []
        while (got := self.get(queue, no_ack=True)) is not None:
            bodies.append(got.body)
        return bodies

    def qos(self, prefetch_count, global_qos=False):
        method = spec.Basic.Qos(prefetch_count=prefetch_count, global_qos=global_qos)
        self.call(method, spec.Basic.QosOk)

    def consume(self, queue, tag="", **options):
        method = spec.Basic.Consume(queue=queue, consumer_tag=tag, **options)
        return self.call(method, spec.Basic.ConsumeOk).consumer_tag

    def cancel(self, tag):
        return self.call(spec.Basic.Cancel(consumer_tag=tag), spec.Basic.CancelOk).consumer_tag

    def delivery(self):
        return self.connection.event(spec.Basic.Deliver, self.number)

    def deliveries(self, count):
        return [self.delivery() for _ in range(count)]

    def ack(self, tag, multiple=False):
        self.send(spec.Basic.Ack(tag, multiple))

    def nack(self, tag, multiple=False, requeue=True):
        self.send(spec.Basic.Nack(tag, multiple, requeue))

    def reject(self, tag, requeue=True):
        self.send(spec.Basic.Reject(tag, requeue))
