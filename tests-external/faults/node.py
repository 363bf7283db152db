"""A real node on free ports with a data directory of its own."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from client import Client

START_SECONDS = 60
STOP_SECONDS = 20


def until(condition, seconds, what):
    """Polls `condition` until it gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """One data directory and, at most times, the process that has it open."""

    def __init__(self, binary, directory, data_dir=None):
        self.binary = binary
        self.directory = pathlib.Path(directory)
        self.data_dir = pathlib.Path(data_dir or self.directory / "data")
        self.process = None
        self.pid = None
        self.port = None
        self.starts = 0
        self.clients = []

    def command(self, *arguments):
        self.port = free_port()
        here = [f"127.0.0.1:{port}" for port in (self.port, free_port(), free_port())]
        flags = ["--data-dir", str(self.data_dir), "--amqp", here[0]]
        flags += ["--http", here[1], "--metrics", here[2]]
        return [str(self.binary), "server", *flags, *map(str, arguments)]

    def spawn(self, *arguments, environment=None, wrapper=()):
        """Starts the process and does not wait for it. `wrapper` is put before the command."""
        assert self.process is None, "one process at a time"
        self.starts += 1
        command = [*map(str, wrapper), *self.command(*arguments)]
        with self.path("out").open("wb") as out, self.path("err").open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**clean_environment(), **(environment or {})},
                cwd=self.directory,
            )
        return self

    def start(self, *arguments, **options):
        self.spawn(*arguments, **options)
        until(self.is_ready, START_SECONDS, "server startup")
        self.pid = self.server_pid() if options.get("wrapper") else self.process.pid
        return self

    def path(self, kind):
        return self.directory / f"{kind}-{self.starts}"

    def is_ready(self):
        code = self.process.poll()
        assert code is None, f"ended with {code} instead of starting:\n{self.log()}"
        return b"Server startup complete" in self.path("out").read_bytes()

    def server_pid(self):
        """The node among the processes below a wrapper."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def log(self):
        """What this start has logged so far."""
        return self.path("err").read_text(errors="replace")

    def connect(self, **options):
        client = Client(self.port, **options)
        self.clients.append(client)
        return client

    def channel(self):
        return self.connect().channel()

    def wait(self, seconds):
        """The exit code of the process, which must end by itself."""
        code = self.process.wait(seconds)
        self.process = self.pid = None
        assert "panicked at" not in self.log(), self.log()
        return code

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(STOP_SECONDS)

    def kill(self):
        if self.process is None:
            return
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.pid != self.process.pid:
            # A wrapper ends with its child; one that hangs is ended too.
            try:
                self.process.wait(5 if self.pid else 0)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = self.pid = None
        assert "panicked at" not in self.log(), self.log()

    def memory(self, field="VmRSS"):
        """Resident memory in bytes; field VmHWM is its peak."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"no {field}")

    def disk_usage(self):
        """Bytes that the data directory's files take."""
        total = 0
        for path in self.data_dir.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_blocks * 512
        return total

    def files(self, prefix):
        return sorted(path for path in self.data_dir.glob(prefix + "*"))

    def clean_up(self):
        for client in self.clients:
            client.close()
        self.kill()


def clean_environment():
    return {name: text for name, text in os.environ.items() if not name.startswith("STAUNCH_")}
