"""A broker for one suite, on the ports that suites expect.

Call these after `isolation.leave_network`: ports 5672, 5671 and 15672 are then free.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

EXTERNAL = Path(__file__).resolve().parents[2]
AMQP_PORT = 5672
AMQPS_PORT = 5671
HTTP_PORT = 15672

STARTED = "Server startup complete"
# Where `rabbitmqctl` asks for a stop or start of the node: a socket of the network namespace.
CONTROL = "\0staunch-suite-control"

START_SECONDS = 60
STOP_SECONDS = 60
STATISTICS_MILLISECONDS = 500


@dataclass
class Needs:
    """What a suite needs of its broker beyond RabbitMQ's defaults."""

    certificates: Path | None = None
    """A directory with `ca.pem`, `server.pem` and `server.key`; a TLS listener if given."""

    client_certificate_required: bool = False
    """Whether the TLS listener refuses clients without a certificate."""

    message_size_bytes_max: int = 16 << 20
    """Largest message body that the suite publishes."""


class Staunch:
    """A node of the binary under test, with default settings."""

    def __init__(self, binary: Path, needs: Needs, scratch: Path):
        self.binary = binary
        self.needs = needs
        self.log = scratch / "broker.log"
        self.data = scratch / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.ctl = EXTERNAL / "suites" / "rabbitmqctl"

    def start(self) -> None:
        """Starts the node and waits until it says that it is ready."""
        settings = {
            "data_dir": str(self.data),
            # IPv4 and IPv6: nothing but loopback is here.
            "amqp": f"[::]:{AMQP_PORT}",
            "http": f"127.0.0.1:{HTTP_PORT}",
            "max_message_size": str(self.needs.message_size_bytes_max),
            **self.tls_settings(),
        }
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        written = len(self.output())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "server", *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self.output()[written:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{self.output()[-4000:]}")
            time.sleep(0.05)

    def serve_control(self) -> None:
        """Lets `rabbitmqctl` stop and start the node, as `stop_app` and `start_app` do."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(CONTROL)
        listener.listen()
        threading.Thread(target=self.answer_control, args=(listener,), daemon=True).start()

    def answer_control(self, listener: socket.socket) -> None:
        """One command a connection; the answer is empty or says what went wrong."""
        while True:
            peer, _ = listener.accept()
            with peer:
                command = peer.recv(16)
                try:
                    wrong = self.stop() if command == b"stop_app" else self.start()
                except RuntimeError as error:
                    wrong = str(error)
                peer.sendall((wrong or "").encode())

    def tls_settings(self) -> dict[str, str]:
        """The settings of a TLS listener, if the suite needs one."""
        directory = self.needs.certificates
        if directory is None:
            return {}
        required = "true" if self.needs.client_certificate_required else "false"
        return {
            "amqps": f"[::]:{AMQPS_PORT}",
            "tls_certificate": str(directory / "server.pem"),
            "tls_key": str(directory / "server.key"),
            "tls_ca": str(directory / "ca.pem"),
            "tls_verify": "peer",
            "tls_fail_if_no_peer_cert": required,
        }

    def stop(self) -> str | None:
        """Ends the node; returns what was wrong with its end, if anything was."""
        process = self.process
        if process is None:
            return "the broker never ran"
        self.process = None
        ended_alone = process.poll() is not None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"the broker was still there {STOP_SECONDS} s after SIGTERM"
        if "panicked at" in self.output():
            return "the broker panicked"
        if ended_alone or status != 0:
            return f"the broker ended with {status}" + (" by itself" if ended_alone else "")
        return None

    def kill(self) -> None:
        """Ends the node at once, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def output(self) -> str:
        """What the node has written."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class RabbitMq:
    """A private node of Debian's RabbitMQ, the reference."""

    def __init__(self, needs: Needs, scratch: Path):
        self.needs = needs
        self.directory = scratch / "rabbitmq"
        self.ctl = scratch / "rabbitmqctl"
        self.extra = scratch / "extra.conf"

    def start(self) -> None:
        """Starts the node; `rabbitmq/start` waits until it is ready."""
        lines = [
            f"max_message_size = {self.needs.message_size_bytes_max}",
            f"listeners.tcp.2 = ::1:{AMQP_PORT}",
            # Suites wait for the management interface to know a connection.
            f"collect_statistics_interval = {STATISTICS_MILLISECONDS}",
            f"management.tcp.port = {HTTP_PORT}",
            "management.tcp.ip = 127.0.0.1",
        ]
        certificates = self.needs.certificates
        if certificates is not None:
            required = str(self.needs.client_certificate_required).lower()
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{AMQPS_PORT}",
                f"ssl_options.cacertfile = {certificates}/ca.pem",
                f"ssl_options.certfile = {certificates}/server.pem",
                f"ssl_options.keyfile = {certificates}/server.key",
                "ssl_options.verify = verify_peer",
                f"ssl_options.fail_if_no_peer_cert = {required}",
            ]
        self.extra.write_text("\n".join(lines) + "\n")
        subprocess.run(
            [EXTERNAL / "rabbitmq" / "start", self.directory, str(AMQP_PORT)],
            check=True, stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "RABBITMQ_EXTRA_CONF": str(self.extra),
                "RABBITMQ_EXTRA_PLUGINS": "rabbitmq_management",
            },
        )
        self.ctl.write_text(
            f"#!/bin/sh\n. '{self.directory}/env'\n"
            # A suite may name the node as it thinks it is called.
            'if [ "$1" = -n ]; then shift 2; fi\n'
            f"exec /usr/lib/rabbitmq/bin/rabbitmqctl -n \"$RABBITMQ_NODENAME\" \"$@\"\n",
        )
        self.ctl.chmod(0o755)

    def serve_control(self) -> None:
        """Nothing to do: RabbitMQ's own command line stops and starts it."""

    def stop(self) -> str | None:
        """Ends the node."""
        subprocess.run([EXTERNAL / "rabbitmq" / "stop", self.directory], check=True)
        return None

    def kill(self) -> None:
        """Ends the node at once."""
        subprocess.run([EXTERNAL / "rabbitmq" / "stop", self.directory, "KILL"], check=False)
