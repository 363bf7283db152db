"""The bare connection of the behaviour tests, made fit for large numbers and for alarms."""

import select
import struct
import time

from pika import spec
from raw import Closed, Raw, content_header, frame, marshal

# A frame's overhead is 8 bytes.
BODY_SIZE_MAX = 131072 - 8
PERSISTENT = b"".join(spec.BasicProperties(delivery_mode=2).encode())


class Client(Raw):
    """Logged in. connection.blocked and .unblocked are noted wherever they arrive."""

    def __init__(self, port, heartbeat=0, receive_buffer=None):
        super().__init__("127.0.0.1", port)
        # The reasons of connection.blocked, None for connection.unblocked, in order.
        self.alarms = []
        self._bytes = bytearray()
        self._start = 0
        self.start()
        self.start_ok("guest", "guest")
        self.event(spec.Connection.Tune, 0)
        self.tune_ok(heartbeat=heartbeat)
        self.open()

    @property
    def blocked(self):
        return self.alarms[-1] if self.alarms else None

    def _frame_in_buffer(self):
        held = len(self._bytes) - self._start
        if held < 7:
            return None
        kind, channel, size = struct.unpack_from(">BHI", self._bytes, self._start)
        if held < size + 8:
            return None
        start = self._start + 7
        assert self._bytes[start + size] == 0xCE, "bad frame end from the broker"
        payload = bytes(self._bytes[start : start + size])
        self._start = start + size + 1
        return kind, channel, payload

    def receive_frame(self):
        while (got := self._frame_in_buffer()) is None:
            self._fill()
        return got

    def _fill(self):
        del self._bytes[: self._start]
        self._start = 0
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Closed
        self._bytes += data

    def receive(self):
        while True:
            channel, got = super().receive()
            if isinstance(got, spec.Connection.Blocked):
                self.alarms.append(got.reason)
            elif isinstance(got, spec.Connection.Unblocked):
                self.alarms.append(None)
            else:
                return channel, got

    def _has_frame(self):
        held = len(self._bytes) - self._start
        if held < 7:
            return False
        return held >= struct.unpack_from(">I", self._bytes, self._start + 3)[0] + 8

    def _note(self, payload):
        class_id, method_id = struct.unpack(">HH", payload[:4])
        method = spec.methods[class_id << 16 | method_id]()
        method.decode(payload, 4)
        assert isinstance(method, (spec.Connection.Blocked, spec.Connection.Unblocked)), method
        blocked = isinstance(method, spec.Connection.Blocked)
        self.alarms.append(method.reason if blocked else None)


class Publisher:
    """Publishes numbered bodies, so many unconfirmed at most, without ever hanging in a write."""

    def __init__(self, client, queue, size=1024, window=500, properties=PERSISTENT, first=0):
        self.client = client
        self.channel = client.channel(7)
        self.channel.confirm()
        method = spec.Basic.Publish(exchange="", routing_key=queue)
        self.head = marshal(7, method) + frame(2, 7, content_header(size, properties))
        self.pad = b"." * (size - 8)
        self.size = size
        self.window = window
        self.first = first
        self.sent = 0
        self.unconfirmed = set()
        self.closed = False
        self.close = None
        self.out = b""

    def body(self, number):
        return struct.pack(">Q", number) + self.pad

    def message(self, number):
        """Its frames as they are sent."""
        body = self.body(number)
        parts = [body[at : at + BODY_SIZE_MAX] for at in range(0, self.size, BODY_SIZE_MAX)]
        return self.head + b"".join(frame(3, 7, part) for part in parts)

    @property
    def confirmed(self):
        """Numbers of the bodies that are confirmed."""
        sent = range(self.first, self.first + self.sent)
        return [number for number in sent if number - self.first + 1 not in self.unconfirmed]

    @property
    def confirmed_count(self):
        return self.sent - len(self.unconfirmed)

    def run(self, count=None, stop=lambda: False, seconds=120):
        """Until `count` more are confirmed or `stop` says so; without either the end is expected."""
        deadline = time.monotonic() + seconds
        goal = None if count is None else self.sent + count
        self.client.socket.setblocking(False)
        try:
            while not self.closed and not stop() and not self._is_done(goal):
                assert time.monotonic() < deadline, (
                    f"{self.sent} sent, {len(self.unconfirmed)} of them unconfirmed, "
                    f"alarms {self.client.alarms} after {seconds} s"
                )
                self._encode(goal)
                self._step()
        finally:
            self.client.socket.setblocking(True)
            self.client.socket.settimeout(15)
        assert not self.closed or count is None, f"closed: {self.close}"
        return self

    def finish(self, seconds=60):
        """Waits for what is unconfirmed and publishes nothing more."""
        return self.run(count=0, seconds=seconds)

    def _is_done(self, goal):
        return goal is not None and self.sent >= goal and not self.unconfirmed and not self.out

    def _encode(self, goal):
        parts = [self.out]
        size = len(self.out)
        while len(self.unconfirmed) < self.window and (goal is None or self.sent < goal):
            if size > 1 << 18:
                break
            part = self.message(self.first + self.sent)
            parts.append(part)
            size += len(part)
            self.sent += 1
            self.unconfirmed.add(self.sent)
        self.out = b"".join(parts)

    def _step(self):
        socket = self.client.socket
        writes = [socket] if self.out else []
        readable, writable, _ = select.select([socket], writes, [], 0.05)
        try:
            if writable:
                try:
                    self.out = self.out[socket.send(self.out) :]
                except (BrokenPipeError, ConnectionResetError):
                    # What has arrived before is read below.
                    self.out = b""
            if readable:
                self.client._fill()
            while self.client._has_frame():
                self._hear(*self.client._frame_in_buffer())
        except Closed:
            self.closed = True

    def _hear(self, kind, channel, payload):
        assert kind == 1, f"frame type {kind}"
        class_id, method_id = struct.unpack(">HH", payload[:4])
        method = spec.methods[class_id << 16 | method_id]()
        method.decode(payload, 4)
        if isinstance(method, spec.Basic.Ack):
            assert channel == 7
            tag = method.delivery_tag
            covered = {t for t in self.unconfirmed if t <= tag} if method.multiple else {tag}
            assert covered and covered <= self.unconfirmed, f"unexpected confirm {method}"
            self.unconfirmed -= covered
        elif isinstance(method, spec.Connection.Close):
            self.close = method
            self.closed = True
        else:
            assert not isinstance(method, spec.Basic.Nack), f"unexpected {method}"
            self.client._note(payload)


def number_of(body):
    return struct.unpack(">Q", body[:8])[0]


def check_body(body, size):
    assert len(body) == size and body[8:] == b"." * (size - 8), "wrong bytes were delivered"
    return number_of(body)


def take(client, queue, count, seconds=120, ack=True, prefetch=2000):
    """Consumes `count` messages on a channel of its own; gives (number, redelivered) of each."""
    channel = client.channel(9)
    channel.qos(prefetch)
    tag = channel.consume(queue)
    taken = []
    deadline = time.monotonic() + seconds
    while len(taken) < count:
        assert time.monotonic() < deadline, f"{len(taken)} of {count} after {seconds} s"
        got = channel.delivery()
        taken.append((check_body(got.body, len(got.body)), got.method.redelivered))
        last = got.method.delivery_tag
        if ack and (len(taken) == count or len(taken) % (prefetch // 4) == 0):
            channel.ack(last, multiple=True)
    channel.cancel(tag)
    channel.close()
    return taken
