"""Contract C25: memory stays within its budget, whoever publishes, reads slowly or not at all."""

import os
import time

from client import Publisher, take
from node import until

MIB = 1 << 20
LIMIT = "64MiB"
# What the process takes beside the budget: code, stacks, allocator, buffers of connections, and one
# log file of 64 MiB whose survivors are being moved, twice: as read and as written. It does not grow
# with the backlog (1.5 million messages and 500,000 end at the same mark).
BESIDE = 300 * MIB
RSS_MAX = 64 * MIB + BESIDE
# What the log keeps without a message in it: the file it writes to, two made ahead, two kept to be
# used again, one that waits for another before a checkpoint is worth it; the ballast; small things.
SETTLED = (6 * 64 + 80 + 8) * MIB
LOW_ON_MEMORY = "low on memory"


def test_transient_backlog_blocks_publishers_until_it_is_drained(node):
    node.start("--memory-limit", LIMIT)
    channel = node.channel()
    channel.declare("t")
    publisher = Publisher(node.connect(), "t", size=4096, properties=b"\0\0")
    publisher.run(stop=lambda: publisher.client.blocked == LOW_ON_MEMORY)
    late = Publisher(node.connect(), "t", size=4096, window=10, properties=b"\0\0")
    late.run(stop=lambda: late.client.blocked == LOW_ON_MEMORY)
    assert late.confirmed_count == 0
    count = publisher.confirmed_count
    assert count * 4096 < 64 * MIB
    assert node.memory("VmHWM") < RSS_MAX
    taken = take(node.connect(), "t", count)
    assert [number for number, _ in taken] == list(range(count))
    publisher.run(count=10, seconds=15)
    late.run(count=10, seconds=15)
    assert publisher.client.alarms == late.client.alarms == [LOW_ON_MEMORY, None]
    take(node.connect(), "t", publisher.sent - count + late.sent)
    publisher.run(count=100)
    assert node.memory("VmHWM") < RSS_MAX


def test_durable_backlog_beyond_memory_is_spilled_and_given_back(node):
    count = 500_000
    node.start("--memory-limit", LIMIT)
    channel = node.channel()
    channel.declare("d", durable=True)
    publisher = Publisher(node.connect(), "d", window=2000)
    publisher.run(count=count, seconds=240)
    assert publisher.client.alarms == []
    assert channel.count("d") == count
    assert node.memory("VmHWM") < RSS_MAX
    full = node.disk_usage()
    assert full > SETTLED
    taken = take(node.connect(), "d", count, seconds=240)
    assert taken == [(number, False) for number in range(count)]
    assert node.memory("VmHWM") < RSS_MAX
    until(lambda: node.disk_usage() <= SETTLED, 10, f"{full} bytes shrink to {SETTLED}")


def test_client_that_never_reads_is_bounded_and_in_nobodys_way(node):
    node.start("--memory-limit", "128MiB")
    channel = node.channel()
    for name in ("deaf", "other"):
        channel.declare(name, durable=True)
    Publisher(node.connect(), "deaf", size=64 * 1024, window=50).run(count=2000)
    deaf = node.connect()
    consumer = deaf.channel()
    consumer.consume("deaf", no_ack=False)
    # From here on `deaf` never reads. It gets what its socket and the limit take, no more.
    other = Publisher(node.connect(), "other", window=50)
    slowest = 0
    for _ in range(20):
        before = time.monotonic()
        other.run(count=100)
        take(node.connect(), "other", 100)
        slowest = max(slowest, time.monotonic() - before)
    assert slowest < 5
    assert node.memory("VmHWM") < 128 * MIB + BESIDE
    assert channel.count("deaf") > 1000, "far more is on its way than a connection may hold"
    # Contract section 8: who takes none of its output for 60 s is cut off, and what was on its
    # way to it is there for others, marked as perhaps delivered.
    until(lambda: channel.count("deaf") == 2000, 90, "the deaf client is cut off")
    number, redelivered = take(node.connect(), "deaf", 1, ack=False)[0]
    assert (number, redelivered) == (0, True)


def test_publisher_that_never_reads_its_confirms(node):
    node.start("--memory-limit", "128MiB")
    node.channel().declare("q", durable=True)
    deaf = Publisher(node.connect(), "q", window=1 << 20)
    socket = deaf.client.socket
    socket.settimeout(1)
    sent = 0
    deadline = time.monotonic() + 10
    try:
        while time.monotonic() < deadline:
            deaf._encode(None)
            sent += socket.send(deaf.out)
            deaf.out = b""
    except TimeoutError:
        pass
    assert sent > 100 * MIB
    other = Publisher(node.connect(), "q", window=50)
    other.run(count=100, seconds=10)
    assert node.memory("VmHWM") < 128 * MIB + BESIDE


def test_sockets_of_vanished_clients_are_closed(node):
    node.start()
    node.channel().declare("q", durable=True)
    before = len(os.listdir(f"/proc/{node.pid}/fd"))
    clients = [node.connect() for _ in range(100)]
    assert len(os.listdir(f"/proc/{node.pid}/fd")) >= before + 100
    for client in clients:
        client.reset()
    descriptors = lambda: len(os.listdir(f"/proc/{node.pid}/fd"))  # noqa: E731
    until(lambda: descriptors() <= before + 1, 10, "sockets are closed")
