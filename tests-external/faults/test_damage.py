"""Contract C20 and C26: what a data directory looks like after others have been at it."""

import os
import struct
import subprocess

import pytest
from client import Publisher, take
from disk import chunks, crc32c, fingerprint, first_young, flip, listed_segments, overwrite
from node import START_SECONDS, Node
from raw import Closed

EXIT_REFUSED = 65
EXIT_DAMAGED = 74


def refuse(node, *said):
    """The node must end with 65, say all of `said`, and change nothing."""
    before = fingerprint(node.data_dir)
    node.spawn()
    try:
        code = node.wait(20)
    except subprocess.TimeoutExpired:
        node.kill()
        raise AssertionError(f"not refused:\n{node.log()}") from None
    assert code == EXIT_REFUSED, f"exit code {code}:\n{node.log()}"
    for text in said:
        assert str(text) in node.log(), f"{text} is not in {node.log()}"
    assert fingerprint(node.data_dir) == before, "a refused directory was modified"


@pytest.fixture
def filled(node):
    """A node, stopped by SIGKILL, with 200 confirmed messages, each in a chunk of its own."""
    node.start()
    node.channel().declare("q", durable=True)
    Publisher(node.connect(), "q", size=1000, window=1).run(count=200)
    node.kill()
    return node


@pytest.fixture(scope="module")
def everything(binary, tmp_path_factory):
    """A node, stopped, whose directory has every kind of file."""
    made = Node(binary, tmp_path_factory.mktemp("everything"))
    try:
        made.start("--memory-limit", "64MiB")
        made.channel().declare("q", durable=True)
        publisher = Publisher(made.connect(), "q", size=1 << 20, window=20)
        publisher.run(stop=lambda: made.files("segment-0") and made.files("checkpoint-0"))
        publisher.finish()
        made.messages = publisher.sent
        assert made.terminate() == 0
        yield made
    finally:
        made.clean_up()
        for path in made.data_dir.iterdir():
            path.unlink()


def needed(node, kind):
    """A file of this kind that the log cannot do without."""
    checkpoint = node.files("checkpoint-")[-1]
    if kind == "segment":
        return node.data_dir / listed_segments(checkpoint)[0]
    if kind == "young":
        return node.data_dir / first_young(checkpoint)
    return checkpoint


def last_written(node):
    """The young file with the last chunks, and those."""
    for path in reversed(node.files("young-")):
        if found := chunks(path):
            return path, found
    raise AssertionError("no chunks")


def check_all(node, count=200):
    node.start()
    taken = take(node.connect(), "q", count)
    assert [number for number, _ in taken] == list(range(count))
    assert node.channel().count("q") == 0


def test_two_processes_on_one_directory(node, nodes):
    node.start()
    node.channel().declare("q", durable=True)
    publisher = Publisher(node.connect(), "q")
    publisher.run(count=10)
    second = nodes(node.data_dir)
    second.spawn()
    assert second.wait(START_SECONDS) not in (0, 101)
    assert "another process has this data directory open" in second.log()
    assert str(node.data_dir) in second.log()
    publisher.run(count=10)
    assert node.channel().count("q") == 20
    node.kill()
    # The lock ends with its process, whatever ended it.
    second.start()
    assert second.channel().count("q") == 20


@pytest.mark.parametrize("field", ["version", "features"])
@pytest.mark.parametrize("kind", ["young", "segment", "checkpoint"])
def test_a_newer_format_is_refused(everything, kind, field):
    path = needed(everything, kind)
    with path.open("rb") as file:
        old = file.read(64)
    new = bytearray(old)
    if field == "version":
        new[8:12] = struct.pack("<I", 999)
    else:
        new[16:24] = struct.pack("<Q", 1 << 7)
    new[60:64] = struct.pack("<I", crc32c(bytes(new[:60])))
    assert struct.pack("<I", crc32c(old[:60])) == old[60:64], "the test computes the checksum"
    overwrite(path, 0, new)
    try:
        refuse(everything, path.name, "999" if field == "version" else "0x80")
    finally:
        overwrite(path, 0, old)


@pytest.mark.parametrize("kind", ["young", "segment", "checkpoint"])
@pytest.mark.parametrize("offset", [0, 9, 30, 63])
def test_a_flipped_bit_in_a_header_is_refused(everything, kind, offset):
    path = needed(everything, kind)
    flip(path, offset, 3)
    try:
        refuse(everything, path.name)
    finally:
        flip(path, offset, 3)


def test_a_flipped_bit_in_a_checkpoint_is_refused(everything):
    path = needed(everything, "checkpoint")
    size = path.stat().st_size
    for offset in {64, 80, 112, size // 2, size - 5, size - 1}:
        flip(path, offset)
        try:
            refuse(everything, path.name)
        finally:
            flip(path, offset)


def test_a_flipped_bit_in_a_segments_footer_is_refused(everything):
    path = needed(everything, "segment")
    size = path.stat().st_size
    for offset in (size - 64, size - 40, size - 1, size - 64 - 20, size - 64 - 33):
        flip(path, offset)
        try:
            refuse(everything, path.name)
        finally:
            flip(path, offset)


@pytest.mark.parametrize("kind", ["segment", "young"])
def test_a_missing_or_short_file_is_refused(everything, kind):
    path = needed(everything, kind)
    hidden = path.parent.parent / "hidden"
    path.rename(hidden)
    try:
        refuse(everything, path.name)
    finally:
        hidden.rename(path)
    if kind == "segment":
        with path.open("r+b") as file:
            file.seek(-4096, os.SEEK_END)
            tail = file.read()
            file.seek(-4096, os.SEEK_END)
            file.truncate()
        try:
            refuse(everything, path.name)
        finally:
            with path.open("ab") as file:
                file.write(tail)


def test_a_flipped_bit_in_a_message_is_never_delivered(everything):
    """Bodies in segments are not read at the start, so this shows when they are wanted."""
    node = everything
    path = needed(node, "segment")
    offset = path.stat().st_size // 2
    flip(path, offset)
    try:
        node.spawn()
        try:
            while not node.is_ready():
                pass
        except AssertionError:
            # Seen at the start: as good.
            assert node.wait(START_SECONDS) == EXIT_REFUSED
        else:
            node.pid = node.process.pid
            client = node.connect()
            channel = client.channel(3)
            channel.consume("q", no_ack=False)
            with pytest.raises((Closed, OSError)):
                # `take` would check the bytes of each as well; here the end must come by itself.
                for number in range(node.messages):
                    got = channel.delivery()
                    body = got.body
                    assert struct.unpack(">Q", body[:8])[0] == number, "wrong bytes"
                    assert body.count(b".") == len(body) - 8, "wrong bytes"
                pytest.fail("all were delivered")
            assert node.wait(20) == EXIT_DAMAGED
        assert path.name in node.log() and "damaged at byte" in node.log()
    finally:
        flip(path, offset)
        node.kill()
    # With the bit as it was, everything is there.
    node.start("--memory-limit", "64MiB")
    assert node.channel().count("q") == node.messages
    assert node.terminate() == 0


def test_undamaged_everything_is_delivered(everything):
    everything.start("--memory-limit", "64MiB")
    taken = take(everything.connect(), "q", everything.messages, prefetch=40)
    assert [number for number, _ in taken] == list(range(everything.messages))
    assert everything.terminate() == 0


@pytest.mark.parametrize("place", ["chunk header", "record header", "body", "padding"])
def test_a_flipped_bit_in_the_middle_of_the_log_is_refused(filled, place):
    path, found = last_written(filled)
    offset, size, records = found[len(found) // 2]
    assert records == 1
    at = {"chunk header": 16, "record header": 70, "body": 400, "padding": size - 1}[place]
    flip(path, offset + at)
    if place == "padding":
        # It must be ignored when read (docs/format.md).
        check_all(filled)
        return
    refuse(filled, path.name, offset)
    flip(path, offset + at)
    check_all(filled)


@pytest.mark.parametrize("garbage", ["zeros", "ones", "noise", "an old chunk", "half a chunk"])
def test_garbage_behind_the_last_chunk_changes_nothing(filled, garbage):
    path, found = last_written(filled)
    offset, size, _ = found[-1]
    with path.open("rb") as file:
        file.seek(found[3][0])
        old = file.read(found[3][1])
    data = {
        "zeros": b"\0" * 8192,
        "ones": b"\xff" * 8192,
        "noise": bytes((i * 7919 >> 3) & 0xFF for i in range(65536)),
        "an old chunk": old,
        "half a chunk": old[:512],
    }[garbage]
    overwrite(path, offset + size, data)
    check_all(filled)


def test_a_file_cut_behind_the_last_chunk_changes_nothing(filled):
    path, found = last_written(filled)
    offset, size, _ = found[-1]
    os.truncate(path, offset + size)
    check_all(filled)
    # And the log goes on from there.
    Publisher(filled.connect(), "q", size=1000).run(count=100)
    filled.kill()
    check_all(filled, 100)


@pytest.mark.parametrize("how", ["flip", "zero", "cut"])
def test_a_torn_last_write_is_cut_and_all_before_it_is_kept(filled, how):
    path, found = last_written(filled)
    offset, size, records = found[-1]
    if how == "flip":
        flip(path, offset + 300)
    elif how == "zero":
        overwrite(path, offset + size - 512, b"\0" * 512)
    else:
        os.truncate(path, offset + size - 512)
    filled.start()
    # Only the last write can be torn: the file cannot say that it was promised (docs/format.md).
    left = filled.channel().count("q")
    assert left >= 200 - records
    taken = take(filled.connect(), "q", left)
    assert [number for number, _ in taken] == list(range(left))
    assert "cut unconfirmed tail" in filled.log() and path.name in filled.log()


def test_remains_of_a_crash_are_removed_and_strangers_left_alone(filled):
    (filled.data_dir / "segment-0000000000000099.temp").write_bytes(b"half")
    (filled.data_dir / "segment-0000000000000098").write_bytes(b"named by no checkpoint")
    stranger = filled.data_dir / "notes of the operator.txt"
    stranger.write_text("mine")
    check_all(filled)
    assert stranger.read_text() == "mine" and stranger.name in filled.log()
    assert not filled.files("segment-00000000000000")


def test_modes_of_directory_and_files(filled):
    assert filled.data_dir.stat().st_mode & 0o777 == 0o700
    for path in filled.data_dir.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path.name
