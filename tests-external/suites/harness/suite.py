"""What every suite has: a way to get it, what it needs of the broker, and how it is run."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .brokers import Needs, RabbitMq, Staunch
from .results import Results

SUITES = Path(__file__).resolve().parents[1]
LOCKS = SUITES / "locks"

Broker = Staunch | RabbitMq


class Suite:
    """One client's test suite, as its registry publishes it."""

    name: str
    """How `compare` and `record` call it."""

    tools: tuple[str, ...] = ()
    """Programs without which it cannot be run; `all` skips it then, and says so."""

    seconds_max = 300
    """How long all of it may take."""

    def prepare(self, build: Path) -> None:
        """Fetches and builds everything; the only step with a network."""
        raise NotImplementedError

    def needs(self, build: Path, scratch: Path) -> Needs:
        """What the broker must have."""
        del build, scratch
        return Needs()

    def run(self, build: Path, scratch: Path, broker: Broker) -> Results:
        """Runs the suite against the broker on the default ports."""
        raise NotImplementedError

    def execute(
        self, command: list[str | Path], directory: Path, output: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Runs a test program, its standard output into a file.

        Its exit code says nothing that its results do not. It and its children are ended when
        its time is over; tests that it did not come to are then missing from the results.
        """
        errors = output.with_suffix(".stderr")
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                env={**os.environ, **(environment or {})}, start_new_session=True,
            )
            try:
                process.wait(self.seconds_max)
            except subprocess.TimeoutExpired:
                print(f"{self.name}: ended after {self.seconds_max} s", flush=True)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def call(command: list[str | Path], directory: Path, **environment: str) -> None:
    """Runs one step of a preparation; shows its output only if it fails."""
    done = subprocess.run(
        command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, **environment}, check=False,
    )
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise RuntimeError(f"`{words}` ended with {done.returncode}:\n"
                           f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def fresh_copy(source: Path, target: Path) -> Path:
    """A writable copy in place of an older one."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    return target
