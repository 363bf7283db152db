"""Contract C19: the first failed write or sync ends the node; nothing that depends on it is sent."""

import pytest
from client import Publisher, take
from node import until
from raw import Closed

EXIT_DISK_FAILED = 74


class Fault:
    """An armed or unarmed fault of the shim."""

    def __init__(self, shim, directory, call, file, skip=0, times=0):
        self.armed = directory / "armed"
        self.noted = directory / "noted"
        self.environment = {
            "LD_PRELOAD": str(shim),
            "FAULT_CALL": call,
            "FAULT_FILE": file,
            "FAULT_ARMED": str(self.armed),
            "FAULT_LOG": str(self.noted),
            "FAULT_SKIP": str(skip),
            "FAULT_TIMES": str(times),
        }

    def arm(self):
        self.armed.touch()

    def notes(self):
        return self.noted.read_text().splitlines() if self.noted.exists() else []


def check_the_end(node, operation, file):
    """The node ends by itself with 74, and says which operation failed on which file."""
    assert node.wait(10) == EXIT_DISK_FAILED
    log = node.log()
    assert f"{operation} of {file}" in log and "Input/output error" in log, log


def check_what_is_left(node, confirmed, sent):
    node.start()
    left = node.channel().count("q")
    found = [number for number, _ in take(node.connect(), "q", left)]
    assert found == sorted(set(found)), "no duplicates, in order"
    assert set(confirmed) <= set(found) <= set(range(sent))


@pytest.mark.parametrize("times", [0, 1], ids=["for-ever", "once"])
def test_a_failed_sync_confirms_nothing_and_is_never_tried_again(node, tmp_path, shim, times):
    fault = Fault(shim, tmp_path, "fdatasync", "/young-", times=times)
    node.start(environment=fault.environment)
    node.channel().declare("q", durable=True)
    publisher = Publisher(node.connect(), "q", window=1)
    publisher.run(count=50)
    fault.arm()
    # The next sync fails, so the next publish must not be confirmed, ever.
    publisher.run(seconds=20)
    assert publisher.closed and (publisher.sent, publisher.confirmed_count) == (51, 50)
    check_the_end(node, "fdatasync", "young-")
    failed = fault.notes()[0].split()[1]
    assert f"passed {failed}" not in fault.notes(), "the sync was tried again"
    check_what_is_left(node, publisher.confirmed, publisher.sent)


@pytest.mark.parametrize("skip", [1, 7, 40])
def test_a_sync_that_fails_under_load(node, tmp_path, shim, skip):
    fault = Fault(shim, tmp_path, "fdatasync", "/young-", skip=skip)
    node.start(environment=fault.environment)
    node.channel().declare("q", durable=True)
    publishers = [Publisher(node.connect(), "q", window=100)]
    publishers[0].run(count=500)
    fault.arm()
    publishers[0].run(seconds=30)
    assert publishers[0].closed
    check_the_end(node, "fdatasync", "young-")
    check_what_is_left(node, publishers[0].confirmed, publishers[0].sent)


def test_a_declaration_whose_sync_fails_is_not_answered(node, tmp_path, shim):
    fault = Fault(shim, tmp_path, "fdatasync", "/young-")
    node.start(environment=fault.environment)
    channel = node.channel()
    channel.declare("before", durable=True)
    fault.arm()
    with pytest.raises((Closed, OSError)):
        channel.declare("after", durable=True)
    check_the_end(node, "fdatasync", "young-")
    node.start()
    assert node.channel().count("before") == 0


def test_a_failed_write(node):
    # The log's own writes do not go through libc, so strace makes one fail.
    wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev"]
    wrapper += ["-e", "inject=pwritev:error=EIO:when=60+"]
    node.start(wrapper=wrapper)
    node.channel().declare("q", durable=True)
    publisher = Publisher(node.connect(), "q", window=1)
    publisher.run(seconds=60)
    assert publisher.closed and publisher.confirmed_count == publisher.sent - 1 > 10
    check_the_end(node, "write", "young-")
    check_what_is_left(node, publisher.confirmed, publisher.sent)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync"])
def test_a_new_file_that_cannot_be_made(node, tmp_path, shim, call):
    fault = Fault(shim, tmp_path, call, ".temp")
    node.start(environment=fault.environment)
    node.channel().declare("q", durable=True)
    fault.arm()
    publisher = Publisher(node.connect(), "q", size=1 << 20, window=20)
    publisher.run(seconds=60)
    check_the_end(node, "create", "young-")
    check_what_is_left(node, publisher.confirmed, publisher.sent)


def test_a_start_on_a_disk_that_cannot_sync(node, tmp_path, shim):
    node.start()
    node.channel().declare("q", durable=True)
    Publisher(node.connect(), "q").run(count=100)
    node.kill()
    fault = Fault(shim, tmp_path, "fdatasync", "/young-")
    fault.arm()
    node.spawn(environment=fault.environment)
    until(lambda: node.process.poll() is not None, 20, "the node ends")
    check_the_end(node, "fdatasync", "young-")
    check_what_is_left(node, range(100), 100)
