"""Contract C21: below the free-space limit publishers wait, everything else goes on."""

import pytest
from client import Publisher, take
from disk import MIB

LOW_ON_DISK = "low on disk"
SIZE = 16 * 1024
RESUME_SECONDS = 15


@pytest.fixture
def node(disk, nodes):
    return nodes(disk.path / "data")


def publish_until_blocked(node, first=0):
    publisher = Publisher(node.connect(), "q", size=SIZE, window=100, first=first)
    publisher.run(stop=lambda: publisher.client.blocked == LOW_ON_DISK)
    return publisher


def start(node, limit):
    node.start("--disk-free-limit", limit)
    channel = node.channel()
    channel.declare("q", durable=True)
    return channel


def test_publishers_wait_and_go_on_when_the_backlog_is_consumed(node):
    start(node, "100MiB")
    publisher = publish_until_blocked(node)
    # A publisher that comes later is told as well.
    late = publish_until_blocked(node)
    assert late.confirmed_count == 0
    count = publisher.confirmed_count
    assert count > 1000
    taken = take(node.connect(), "q", count)
    assert [number for number, _ in taken] == list(range(count))
    # What was held back goes on without being published again.
    publisher.run(count=100, seconds=RESUME_SECONDS)
    late.run(count=100, seconds=RESUME_SECONDS)
    assert publisher.client.alarms == late.client.alarms == [LOW_ON_DISK, None]
    rest = publisher.sent - count + late.sent
    found = [number for number, _ in take(node.connect(), "q", rest)]
    assert sorted(found) == sorted([*range(count, publisher.sent), *range(late.sent)])


def test_publishers_go_on_when_another_file_is_removed(node, disk):
    channel = start(node, "100MiB")
    publisher = Publisher(node.connect(), "q", size=SIZE, window=100)
    publisher.run(count=200)
    ballast = disk.fill(leave=50 * MIB)
    publisher.run(stop=lambda: publisher.client.blocked == LOW_ON_DISK)
    confirmed = publisher.confirmed_count
    # Declaring, binding and deleting are no publishing.
    channel.declare("other", durable=True)
    channel.bind("other", "amq.topic", "a.#")
    channel.delete("other")
    # Nor are consuming and acking.
    taken = take(node.connect(), "q", 150)
    assert taken == [(number, False) for number in range(150)]
    assert publisher.client.blocked == LOW_ON_DISK
    ballast.unlink()
    publisher.run(count=100, seconds=RESUME_SECONDS)
    assert publisher.client.alarms == [LOW_ON_DISK, None]
    assert publisher.confirmed_count > confirmed
    assert channel.count("q") == publisher.sent - 150


@pytest.mark.parametrize("limit", ["100MiB", "0"])
def test_no_space_at_all_loses_nothing_and_the_node_stays_up(node, disk, limit):
    start(node, limit)
    publisher = Publisher(node.connect(), "q", size=SIZE, window=100)
    publisher.run(count=200)
    ballast = disk.fill()
    assert disk.free() < MIB
    publisher.run(stop=lambda: publisher.client.blocked == LOW_ON_DISK, seconds=60)
    assert node.process.poll() is None
    # Acks are written to the reserve.
    assert take(node.connect(), "q", 150) == [(number, False) for number in range(150)]
    promised = publisher.confirmed
    # A crash on the full disk must not need space to come back.
    node.kill()
    node.start("--disk-free-limit", limit)
    channel = node.channel()
    late = publish_until_blocked(node, first=1_000_000)
    assert late.confirmed_count == 0
    left = channel.count("q")
    found = [number for number, _ in take(node.connect(), "q", left)]
    assert found == sorted(set(found))
    assert set(promised) - set(range(150)) <= set(found)
    assert not set(range(150)) & set(found), "acked messages came back"
    ballast.unlink()
    late.run(count=100, seconds=RESUME_SECONDS)
    assert channel.count("q") == late.sent


def test_a_node_starts_and_drains_on_a_full_disk_and_stops_cleanly(node, disk):
    start(node, "100MiB")
    Publisher(node.connect(), "q", size=SIZE, window=100).run(count=1000)
    assert node.terminate() == 0
    ballast = disk.fill()
    node.start("--disk-free-limit", "100MiB")
    taken = take(node.connect(), "q", 1000)
    assert taken == [(number, False) for number in range(1000)]
    assert node.terminate() == 0
    ballast.unlink()
    node.start("--disk-free-limit", "100MiB")
    assert node.channel().count("q") == 0
    Publisher(node.connect(), "q", size=SIZE).run(count=10, seconds=RESUME_SECONDS)
