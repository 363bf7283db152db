"""Suites of clients in other languages."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from . import results
from .results import Results
from .suite import LOCKS, Broker, Suite, call, fresh_copy


class Amqplib(Suite):
    """Node.js: mocha's tests in the npm package, up to the last version that has them."""

    name = "amqplib"

    def prepare(self, build: Path) -> None:
        directory = build / "amqplib"
        directory.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKS / "node" / name, directory / name)
        call(["npm", "ci", "--silent", "--no-audit", "--no-fund"], directory)

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        directory = build / "amqplib"
        output = scratch / "output.txt"
        self.execute(
            [directory / "node_modules/.bin/mocha", "--check-leaks", "--ui", "tdd", "--exit",
             "--reporter", "json", "test/"],
            directory / "node_modules/amqplib", output,
        )
        return results.from_mocha(output.read_text())


class Amqp091Go(Suite):
    """Go: the module's tests, those tagged `integration` among them."""

    name = "amqp091-go"
    tools = ("go",)
    module = "github.com/rabbitmq/amqp091-go"
    # A selection, for time: one test is a minute of load, and most recovery tests wait ten
    # seconds for the client; those kept drop connections and restore topologies of every kind.
    skipped = (
        "TestChannelCounterShouldNotPanicIssue136",
        "TestConnectionRecoveryAutoDeleteTopologyForgotten",
        "TestConnectionRecoveryCancelInterrupt",
        "TestConnectionRecoveryChannelIDReservation",
        "TestConnectionRecoveryConsumerNotForgottenAfterFailedResubscribe",
        "TestConnectionRecoveryCustomSASLPlainAuth",
        "TestConnectionRecoveryDeletedQueueSkip",
        "TestConnectionRecoveryExhaustionDoesNotPanic",
        "TestConnectionRecoveryLifeCycleNotifyStateChange",
        "TestConnectionRecoverySkipAndContinueNoInfiniteLoop",
        "TestConnectionRecoveryTopologyDisabled",
        "TestConnectionRecoveryTopologyOnlyTransient",
    )

    def prepare(self, build: Path) -> None:
        directory = build / "go"
        directory.mkdir(exist_ok=True)
        for name in ("go.mod", "go.sum"):
            shutil.copy(LOCKS / "go" / name, directory / name)
        call(["go", "mod", "download"], directory)
        found = subprocess.run(
            ["go", "list", "-m", "-f", "{{.Dir}}", self.module],
            cwd=directory, check=True, capture_output=True, text=True,
        )
        source = fresh_copy(Path(found.stdout.strip()), build / "go-source")
        call(["go", "test", "-c", "-tags", "integration", "-o", build / "go-suite", "."], source)

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        output = scratch / "output.txt"
        self.execute(
            ["go", "tool", "test2json", build / "go-suite", "-test.v", "-test.timeout",
             f"{self.seconds_max}s", "-test.skip", f"^({'|'.join(self.skipped)})$"],
            build / "go-source", output, {"RABBITMQ_RABBITMQCTL_PATH": str(broker.ctl)},
        )
        return results.from_go(output.read_text())


class Lapin(Suite):
    """Rust: the crate's tests."""

    name = "lapin"

    def prepare(self, build: Path) -> None:
        found = subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1"],
            cwd=LOCKS / "lapin", check=True, capture_output=True, text=True,
        )
        package = next(
            package for package in json.loads(found.stdout)["packages"]
            if package["name"] == "lapin"
        )
        source = fresh_copy(Path(package["manifest_path"]).parent, build / "lapin-source")
        call(["cargo", "test", "--locked", "--tests", "--no-run"], source,
             CARGO_TARGET_DIR=str(build / "lapin-target"))

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        output = scratch / "output.txt"
        self.execute(
            ["sh", "-c", "exec cargo test --locked --offline --tests --no-fail-fast 2>&1"],
            build / "lapin-source", output, {"CARGO_TARGET_DIR": str(build / "lapin-target")},
        )
        return results.from_cargo(output.read_text())


class JavaClient(Suite):
    """Java: RabbitMQ's own functional and server tests, from Debian's source package.

    They are compiled against the client of the same version.
    """

    name = "java-client"
    tools = ("java", "javac", "mvn")
    package = "rabbitmq-java-client"
    archive = "rabbitmq-java-client_5.0.0.orig.tar.gz"
    digest = "23c185a4b241c60223e8a800472d674f3d8e8fc5688bf99abe6ccdfd55e64aeb"

    def prepare(self, build: Path) -> None:
        directory = build / "java"
        directory.mkdir(exist_ok=True)
        archive = directory / self.archive
        if not self.is_right(archive):
            self.fetch(directory)
            if not self.is_right(archive):
                raise RuntimeError(f"{self.archive} could not be fetched")
        source = directory / "source"
        shutil.rmtree(source, ignore_errors=True)
        with tarfile.open(archive) as packed:
            packed.extractall(source, filter="data")
        shutil.copy(LOCKS / "java/pom.xml", directory / "pom.xml")
        call(["mvn", "--batch-mode", "--quiet", "--strict-checksums", "test-compile",
              "dependency:build-classpath", "-Dmdep.outputFile=classpath.txt"], directory)

    def is_right(self, archive: Path) -> bool:
        """Whether the archive is there and the one we know."""
        return archive.exists() and \
            hashlib.sha256(archive.read_bytes()).hexdigest() == self.digest

    def fetch(self, directory: Path) -> None:
        """Gets the source package, with lists of its own beside the system's.

        The archive of code generation may be missing; it is not needed.
        """
        parts = directory / "apt/parts"
        for path in (parts, directory / "apt/lists/partial"):
            path.mkdir(parents=True, exist_ok=True)
        for listed in Path("/etc/apt/sources.list.d").glob("*.sources"):
            text = listed.read_text().replace("Types: deb\n", "Types: deb-src\n")
            (parts / listed.name).write_text(text)
        configuration = directory / "apt/apt.conf"
        configuration.write_text(
            f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n'
            f'Dir::State::lists "{directory}/apt/lists";\nAPT::Sandbox::User "root";\n',
        )
        environment = {**os.environ, "APT_CONFIG": str(configuration)}
        for command in (["update"], ["source", "--download-only", self.package]):
            subprocess.run(
                ["apt-get", "--quiet=2", *command], cwd=directory, env=environment,
                stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        directory = build / "java"
        classes = (LOCKS / "java/classes.txt").read_text().split()
        selected = [f"--select-class={name}" for name in classes]
        libraries = (directory / "classpath.txt").read_text().strip()
        resources = directory / "source" / "rabbitmq-java-client-5.0.0/src/test/resources"
        self.execute(
            ["java", "-cp", f"{directory}/target/test-classes:{libraries}:{resources}",
             f"-Drabbitmqctl.bin={broker.ctl}", "-Dtest-broker.A.nodename=broker@localhost",
             "-Dmake.bin=make", f"-Drabbitmq.dir={LOCKS / 'java'}",
             "-Dtest-broker.A.node_port=5672",
             "org.junit.platform.console.ConsoleLauncher",
             "--disable-banner", "--details=verbose", "--disable-ansi-colors", f"--reports-dir={scratch}", *selected],
            directory, scratch / "output.txt",
        )
        return results.from_junit(list(scratch.glob("TEST-*.xml")))


OTHER_SUITES = {suite.name: suite for suite in (Amqplib(), Amqp091Go(), Lapin(), JavaClient())}
