"""Suites of Python clients: tests from the source distribution, run by pytest."""

import hashlib
import shutil
import tarfile
from pathlib import Path

from . import certificates, docker_stand_in, results
from .brokers import AMQP_PORT, HTTP_PORT, Needs
from .results import Results
from .suite import LOCKS, SUITES, Broker, Suite, call


class PythonSuite(Suite):
    """A source distribution of `locks/sdists.txt`, and what pytest is told."""

    def __init__(self, name: str, sdist: str, arguments: list[str]):
        self.name = name
        self.sdist = sdist
        self.arguments = arguments

    def prepare(self, build: Path) -> None:
        prepare_environment(build)
        pin = next(
            line for line in (LOCKS / "sdists.txt").read_text().splitlines()
            if line.startswith(f"{self.sdist}==")
        )
        target = self.source(build)
        stamp = target / ".pin"
        if stamp.exists() and stamp.read_text() == pin:
            return
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        requirement = target / "requirement.txt"
        requirement.write_text(pin + "\n")
        call([
            build / "venv/bin/pip", "download", "--quiet", "--no-deps",
            "--no-binary", self.sdist, "--dest", target, "--requirement", requirement,
        ], target)
        archive, = target.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(target, filter="data")
        stamp.write_text(pin)

    def source(self, build: Path) -> Path:
        """Where the source distribution is unpacked."""
        return build / "sdists" / self.sdist

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        root, = (path for path in self.source(build).iterdir() if path.is_dir())
        report = scratch / "report.xml"
        self.set_up(root, scratch)
        self.execute(
            [build / "venv/bin/python", "-B", "-m", "pytest", "-p", "no:cacheprovider",
             "--junitxml", report, *self.arguments],
            root, scratch / "output.txt", self.environment(root),
        )
        return results.from_junit([report])

    def set_up(self, root: Path, scratch: Path) -> None:
        """Puts in place what the tests expect beside them."""

    def environment(self, root: Path) -> dict[str, str]:
        """Variables that the tests read."""
        del root
        return {}


class PyAmqp(PythonSuite):
    """Wants certificates in `t/certs`, which its authors make by a script."""

    def needs(self, build: Path, scratch: Path) -> Needs:
        del build
        certificates.make(scratch / "certificates")
        return Needs(scratch / "certificates", client_certificate_required=True)

    def set_up(self, root: Path, scratch: Path) -> None:
        made, wanted = scratch / "certificates", root / "t/certs"
        wanted.mkdir(exist_ok=True)
        for name in ("ca", "client"):
            shutil.copy(made / f"{name}.pem", wanted / f"{name}_certificate.pem")
        shutil.copy(made / "client.key", wanted / "client_key.pem")
        # A valid pair that the server does not trust.
        certificates.make(scratch / "others")
        shutil.copy(scratch / "others/client.pem", wanted / "client_certificate_broken.pem")
        shutil.copy(scratch / "others/client.key", wanted / "client_key_broken.pem")


class WithDocker(PythonSuite):
    """Starts its broker through Docker; a stand-in gives it the one that runs."""

    def needs(self, build: Path, scratch: Path) -> Needs:
        # The suite's own certificates, as in the image that it asks for.
        made = PYTHON_SUITES["aiormq"].source(build)
        own = next(made.glob("*/tests/certs"))
        target = scratch / "certificates"
        target.mkdir(parents=True)
        for name in ("ca.pem", "server.pem", "server.key"):
            shutil.copy(own / name, target / name)
        return Needs(target, message_size_bytes_max=63 << 20)

    def environment(self, root: Path) -> dict[str, str]:
        del root
        return {"DOCKER_HOST": docker_stand_in.serve(), "PYTHONPATH": str(SUITES)}


class AioPika(WithDocker):
    """Its certificates are those of aiormq."""

    def prepare(self, build: Path) -> None:
        PYTHON_SUITES["aiormq"].prepare(build)
        super().prepare(build)


class AmqpStorm(PythonSuite):
    """Takes the broker from the environment."""

    def environment(self, root: Path) -> dict[str, str]:
        del root
        return {
            "AMQP_HOST": "127.0.0.1",
            "AMQP_USERNAME": "guest",
            "AMQP_PASSWORD": "guest",
            "AMQP_URI": f"amqp://guest:guest@127.0.0.1:{AMQP_PORT}/%2F",
            "AMQP_HTTP_URL": f"http://127.0.0.1:{HTTP_PORT}",
        }


AIO_PIKA_FILES = (
    "amqp", "consumer_cancel_recovery", "consumer_publish_errors", "json_rpc", "master", "nowait",
    "queue_iterator_close", "robust_binding_identity", "rpc", "rpc_factory",
)

PYTHON_SUITES = {suite.name: suite for suite in (
    # Two tests want a server on the Internet.
    PyAmqp("py-amqp", "amqp", ["t/integration", "-k", "not default_certs"]),
    PythonSuite("kombu", "kombu", ["t/integration/test_py_amqp.py"]),
    # Every test is repeated for four URLs; a selection, for time: one without and one with TLS,
    # and none that mostly waits for the client.
    WithDocker("aiormq", "aiormq", [
        "-p", "harness.pytest_broker", "tests", "-k", "not amqp-named and not amqps-client"
        " and not stairway and not closing_waiter",
    ]),
    # A selection, for time: what asks most of a broker, once.
    AioPika("aio-pika", "aio_pika", [f"tests/test_{name}.py" for name in AIO_PIKA_FILES]),
    # `management` is about the HTTP interface, `ssl` wants certificates that are not packed.
    AmqpStorm("amqpstorm", "amqpstorm", [
        "amqpstorm/tests/functional", "--ignore=amqpstorm/tests/functional/management",
        "--ignore=amqpstorm/tests/functional/ssl",
    ]),
)}


def prepare_environment(build: Path) -> None:
    """One virtual environment with every Python client, pinned by hashes."""
    lock = LOCKS / "python.txt"
    stamp = build / "venv/stamp"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(build / "venv", ignore_errors=True)
    call(["python3", "-m", "venv", build / "venv"], build)
    call([build / "venv/bin/pip", "install", "--quiet", "--require-hashes", "-r", lock], build)
    stamp.write_text(digest)
