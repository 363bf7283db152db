"""One suite from its preparation to its results; several suites, one process each."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .brokers import Needs
from .isolation import end_with_parent, leave_network
from .other_suites import OTHER_SUITES
from .python_suites import PYTHON_SUITES
from .results import Results
from .suite import SUITES, Broker, Suite

EXPECTED = SUITES / "expected"
SUITES_BY_NAME: dict[str, Suite] = {**PYTHON_SUITES, **OTHER_SUITES}

NewBroker = Callable[[Needs, Path], Broker]


def build_directory() -> Path:
    """Where downloads, builds and results go."""
    default = SUITES.parents[1] / "target" / "external"
    build = Path(os.environ.get("STAUNCH_EXTERNAL_DIR") or default).resolve() / "suites"
    build.mkdir(parents=True, exist_ok=True)
    return build


def prepared_run(suite: Suite, new_broker: NewBroker) -> tuple[Results, str | None]:
    """Prepares the suite, runs it in a child without a network, and returns its results.

    Also returns what was wrong with the broker's end, if anything was.
    """
    build = build_directory()
    suite.prepare(build)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        return child.submit(isolated_run, suite, build, new_broker).result()


def isolated_run(
    suite: Suite, build: Path, new_broker: NewBroker,
) -> tuple[Results, str | None]:
    """Runs broker and suite where only loopback is.

    What both wrote stays in `runs/SUITE` of the build directory.
    """
    end_with_parent()
    leave_network()
    scratch = build / "runs" / suite.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    broker = new_broker(suite.needs(build, scratch), scratch)
    broker.start()
    broker.serve_control()
    try:
        started = time.monotonic()
        found = suite.run(build, scratch, broker)
        print(f"{suite.name}: {len(found)} tests in {time.monotonic() - started:.0f} s",
              flush=True)
        wrong = broker.stop()
    finally:
        broker.kill()
        shutil.rmtree(scratch / "data", ignore_errors=True)
    return found, wrong


def in_children(program: str, names: list[str], argument: str) -> int:
    """Runs the program once for each suite, so that none can disturb the next.

    Prints the sum of their counts as the last line.
    """
    passed = failed = 0
    worst = 0
    for name in names:
        missing = [tool for tool in SUITES_BY_NAME[name].tools if shutil.which(tool) is None]
        if missing:
            print(f"skipped: {name}: there is no {', no '.join(missing)}", flush=True)
            continue
        done = subprocess.run(
            [sys.executable, "-B", program, name, argument],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False,
        )
        print(done.stdout, end="", flush=True)
        worst = max(worst, done.returncode)
        counts = done.stdout.splitlines()[-1:] or [""]
        words = counts[0].split()
        if len(words) == 4 and words[1::2] == ["passed,", "failed"]:
            passed += int(words[0])
            failed += int(words[2])
        elif done.returncode != 0:
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return worst
