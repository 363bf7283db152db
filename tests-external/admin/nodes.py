"""The two brokers: each in a directory of its own, on free ports of the loopback interface."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from interface import Interface

START_SECONDS = 60
STOP_SECONDS = 30
RABBITMQ = pathlib.Path(__file__).parent.parent / "rabbitmq"
# Exchange types that Staunch has built in.
PLUGINS = "rabbitmq_management,rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Staunch:
    """One data directory and, at most times, the process that has it open."""

    def __init__(self, binary, directory):
        self.binary = str(binary)
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.port = self.http_port = self.metrics_port = None

    def start(self, *flags):
        self.port, self.http_port, self.metrics_port = free_port(), free_port(), free_port()
        command = [self.binary, "server", "--data-dir", str(self.directory / "data")]
        command += ["--amqp", f"127.0.0.1:{self.port}"]
        command += ["--http", f"127.0.0.1:{self.http_port}"]
        command += ["--metrics", f"127.0.0.1:{self.metrics_port}", *map(str, flags)]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("STAUNCH_")}
        with (self.directory / "out").open("wb") as out, (self.directory / "err").open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=kept,
                cwd=self.directory,
            )
        deadline = time.monotonic() + START_SECONDS
        while b"Server startup complete" not in (self.directory / "out").read_bytes():
            assert self.process.poll() is None, f"it ended instead of starting:\n{self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self

    @property
    def http(self):
        return Interface(self.http_port)

    def run(self, *arguments, **options):
        """The same program, as a tool."""
        return subprocess.run(
            [self.binary, *map(str, arguments)], check=False, capture_output=True, text=True,
            timeout=START_SECONDS, **options,
        )

    def log(self):
        return (self.directory / "err").read_text(errors="replace")

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None
        assert code == 0, self.log()
        assert "panicked at" not in self.log(), self.log()


class RabbitMq:
    """A private node with the management plugin."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.port = self.http_port = None

    def start(self):
        self.port, self.http_port = free_port(), free_port()
        self.directory.mkdir(parents=True, exist_ok=True)
        extra = self.directory / "extra.conf"
        extra.write_text(
            f"management.tcp.port = {self.http_port}\nmanagement.tcp.ip = 127.0.0.1\n"
        )
        environment = {
            **os.environ, "RABBITMQ_EXTRA_CONF": str(extra), "RABBITMQ_EXTRA_PLUGINS": PLUGINS,
        }
        subprocess.run(
            [RABBITMQ / "start", self.directory, str(self.port)], check=True, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=2 * START_SECONDS,
        )
        return self

    @property
    def http(self):
        return Interface(self.http_port)

    def stop(self):
        subprocess.run(
            [RABBITMQ / "stop", self.directory], check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, timeout=2 * START_SECONDS,
        )
