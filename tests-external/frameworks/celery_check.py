"""Celery for real: a worker process, its tasks over AMQP, and a count of every execution.

    celery_check.py URL SCENARIO

Scenarios:
  classic  500 tasks with results over `rpc://`: plain, in a group, retried, failing, with a
           countdown and an ETA; the worker's remote control
  chords   chords, whose results are in files: `rpc://` has none
  prefetch more ETA tasks than the prefetch count must not hold up the others
  quorum   500 tasks in quorum queues, delays by native delayed delivery

Ends with 0 only if every result is right and every task was executed as often as it should: once
for each try, more only if redelivered.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

READY = " ready."
READY_SECONDS_MAX = 60
RESULT_SECONDS_MAX = 90
STOP_SECONDS_MAX = 30
CONCURRENCY = 2
PREFETCH_MULTIPLIER = 2


def main() -> None:
    """The program."""
    url, scenario = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        configure(url, scenario, Path(scratch))
        log = Path(scratch, "worker.log")
        worker = start_worker(log)
        try:
            wait_until_ready(worker, log)
            SCENARIOS[scenario]()
            end_worker(worker)
            check_executions(Path(os.environ["EXECUTIONS"]))
        except BaseException:
            sys.stderr.write("".join(log.read_text().splitlines(keepends=True)[-60:]))
            raise
        finally:
            worker.kill()
            worker.wait()
            delete_queues(url)
    print(f"celery {scenario}: {sum(expected.values())} executions")


def configure(url: str, scenario: str, scratch: Path) -> None:
    """Sets the environment of worker and application."""
    quorum = scenario == "quorum"
    (scratch / "results").mkdir()
    os.environ.update(
        BROKER_URL=url.replace("amqp://", "pyamqp://"),
        RESULT_BACKEND=f"file://{scratch}/results" if scenario == "chords" else "rpc://",
        TASK_QUEUE=f"celery-{scenario}-{uuid.uuid4().hex[:8]}",
        QUEUE_TYPE="quorum" if quorum else "classic",
        EXCHANGE_TYPE="topic" if quorum else "direct",
        EXECUTIONS=str(scratch / "executions"),
    )
    Path(os.environ["EXECUTIONS"]).touch()


def start_worker(log: Path) -> subprocess.Popen:
    """A worker with two processes, events on."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-B", "-m", "celery", "-A", "celery_tasks", "worker", "-E",
             "--concurrency", str(CONCURRENCY), "--loglevel", "INFO"],
            cwd=Path(__file__).parent, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until_ready(worker: subprocess.Popen, log: Path) -> None:
    """Until the worker has declared what it needs; delayed tasks have nowhere to go before."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while READY not in log.read_text():
        assert worker.poll() is None, "the worker ended"
        assert time.monotonic() < deadline, "the worker did not become ready"
        time.sleep(0.1)


def end_worker(worker: subprocess.Popen) -> None:
    """A warm stop: nothing may be left to do."""
    worker.terminate()
    status = worker.wait(STOP_SECONDS_MAX)
    assert status == 0, f"the worker ended with {status}"


expected: Counter[tuple[str, int]] = Counter()


def expect(task_id: str, tries: int = 1) -> None:
    """Says how often a task should be executed."""
    for retries in range(tries):
        expected[task_id, retries] += 1


def check_executions(noted: Path) -> None:
    """Compares what was executed with what should have been."""
    seen: Counter[tuple[str, int]] = Counter()
    redelivered = set()
    for line in noted.read_text().splitlines():
        execution = json.loads(line)
        key = execution["id"], execution["retries"]
        seen[key] += 1
        if execution["redelivered"]:
            redelivered.add(key)
    for key in expected.keys() | seen.keys():
        times = seen[key]
        assert times >= expected[key] and (times == expected[key] or key in redelivered), \
            f"{key}: executed {times} times, expected {expected[key]}"


def value(result):
    """The result, waited for."""
    return result.get(timeout=RESULT_SECONDS_MAX)


def mixed(plain: int) -> None:
    """Plain tasks in a group, 40 retried, 60 with a delay, 10 failing."""
    from celery import group
    from celery_tasks import add, never, third_time

    waiting = []
    now = datetime.datetime.now(datetime.timezone.utc)
    for number in range(30):
        eta = now + datetime.timedelta(seconds=4)
        waiting.append((add.apply_async((number, 1), countdown=2), number + 1, 1))
        waiting.append((add.apply_async((number, 2), eta=eta), number + 2, 1))
    for number in range(40):
        waiting.append((third_time.delay(number), number, 3))
    failing = [never.delay() for _ in range(10)]
    together = group(add.s(number, number) for number in range(plain)).apply_async()

    assert value(together) == [2 * number for number in range(plain)]
    for result in together.results:
        expect(result.id)
    for result, right, tries in waiting:
        assert value(result) == right, result.id
        expect(result.id, tries)
    for result in failing:
        error = result.get(timeout=RESULT_SECONDS_MAX, propagate=False)
        assert isinstance(error, ValueError), error
        expect(result.id)


def classic() -> None:
    """500 tasks, and what `celery inspect` says of the worker."""
    from celery_tasks import app

    mixed(plain=390)
    assert len(app.control.ping(timeout=5)) == 1
    reserved = app.control.inspect(timeout=5).reserved()
    assert list(reserved.values()) == [[]], reserved


def quorum() -> None:
    """The same in quorum queues; the delays are queues of the broker."""
    mixed(plain=390)


def chords() -> None:
    """Ten chords of ten: the body runs when all of the header have ended."""
    from celery import chord
    from celery_tasks import add, total

    started = [
        chord((add.s(number, base) for number in range(10)), total.s()).apply_async()
        for base in range(10)
    ]
    for base, body in enumerate(started):
        assert value(body) == 45 + 10 * base
        expect(body.id)
        for result in body.parent.results:
            expect(result.id)


def prefetch() -> None:
    """A task that is due runs before the ETA tasks that were sent first."""
    from celery_tasks import add

    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=15)
    count = 12 * CONCURRENCY * PREFETCH_MULTIPLIER
    later = [add.apply_async((number, 0), eta=eta) for number in range(count)]
    at_once = add.delay(1, 1)
    assert value(at_once) == 2
    ready = [result.id for result in later if result.ready()]
    assert not ready, "the due task waited for ETA tasks"
    expect(at_once.id)
    for number, result in enumerate(later):
        assert value(result) == number
        expect(result.id)


SCENARIOS = {"classic": classic, "chords": chords, "prefetch": prefetch, "quorum": quorum}


def delete_queues(url: str) -> None:
    """Leaves nothing behind of a scenario's own; the queue must be empty."""
    from kombu import Connection

    with Connection(url) as connection:
        channel = connection.channel()
        channel.queue_delete(os.environ["TASK_QUEUE"])
        channel.exchange_delete(os.environ["TASK_QUEUE"])


if __name__ == "__main__":
    main()
