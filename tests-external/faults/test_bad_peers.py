"""Clients that never finish their handshake."""

import time

import pytest
from client import Publisher, take
from pika import spec
from raw import HEADER, Closed, Raw, frame, marshal


def nothing(raw):
    pass


def half_a_header(raw):
    raw.send(HEADER[:5])


def no_start_ok(raw):
    raw.start()


def half_a_frame(raw):
    raw.start()
    raw.send(b"\x01\x00\x00\x00\x00\x10\x00abc")


def no_tune_ok(raw):
    raw.start()
    raw.start_ok("guest", "guest")
    raw.event(spec.Connection.Tune, 0)


def no_open(raw):
    no_tune_ok(raw)
    raw.tune_ok()


def heartbeats_only(raw):
    no_open(raw)
    raw.send(frame(8, 0, b""))


STOPS = [nothing, half_a_header, no_start_ok, half_a_frame, no_tune_ok, no_open, heartbeats_only]


def end_of(raw):
    """Reads until the broker closes the connection."""
    try:
        while True:
            raw.receive_frame()
    except (Closed, TimeoutError) as end:
        return isinstance(end, Closed)


@pytest.mark.parametrize("stop", STOPS)
def test_half_open_connections_disturb_nobody_and_are_closed(node, stop):
    timeout = 3
    node.start("--handshake-timeout", f"{timeout}s")
    node.channel().declare("q", durable=True)
    began = time.monotonic()
    halves = [Raw("127.0.0.1", node.port) for _ in range(100)]
    for half in halves:
        stop(half)
    before = time.monotonic()
    Publisher(node.connect(), "q", window=50).run(count=500)
    taken = take(node.connect(), "q", 500)
    assert [number for number, _ in taken] == list(range(500))
    assert time.monotonic() - before < 5
    for half in halves:
        half.socket.settimeout(max(0.1, began + timeout + 7 - time.monotonic()))
        assert end_of(half), "still open long after the handshake timeout"
        half.close()
    assert node.connect().channel().count("q") == 0


def test_a_frame_before_login_is_limited(node):
    node.start()
    before = node.memory()
    halves = [Raw("127.0.0.1", node.port) for _ in range(20)]
    for half in halves:
        half.start()
        # 16 MiB announced, nothing of it sent: memory is taken as bytes arrive, or not at all.
        half.send(b"\x01\x00\x00\x01\x00\x00\x00")
    for half in halves:
        assert end_of(half)
        half.close()
    assert node.memory() - before < 32 << 20


def test_garbage_ends_only_its_own_connection(node):
    node.start()
    good = node.channel()
    good.declare("q", durable=True)
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
        HEADER + b"\xff" * 4096,
        HEADER + marshal(0, spec.Connection.OpenOk()),
    ):
        raw = Raw("127.0.0.1", node.port)
        raw.send(garbage)
        # Those that are told why have 10 s to agree to it.
        raw.socket.settimeout(20)
        assert end_of(raw)
        raw.close()
    assert good.count("q") == 0
