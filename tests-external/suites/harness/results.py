"""What a suite said, test by test, in one form for every suite.

A file has one line a test, sorted: the outcome, a space, the name. Outcomes are `passed`,
`failed`, `skipped` and, in an expected list only, `flaky`: did not end the same in every run
against RabbitMQ.
"""

import json
import re
import xml.etree.ElementTree as tree
from pathlib import Path

Results = dict[str, str]

OUTCOMES = ("passed", "failed", "skipped", "flaky")


def read(path: Path) -> Results:
    """The results in a file of the normal form."""
    results = {}
    for line in path.read_text().splitlines():
        outcome, _, name = line.partition(" ")
        if outcome not in OUTCOMES or not name:
            raise ValueError(f"{path}: not a result: {line!r}")
        results[name] = outcome
    return results


def write(path: Path, results: Results) -> None:
    """Writes a file of the normal form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = sorted(f"{outcome} {name}\n" for name, outcome in results.items())
    path.write_text("".join(lines))


def merge(runs: list[Results]) -> Results:
    """One expected list of several runs: what differs between them is flaky."""
    merged = {}
    for name in {name for run in runs for name in run}:
        outcomes = {run.get(name, "missing") for run in runs}
        merged[name] = outcomes.pop() if len(outcomes) == 1 else "flaky"
    return merged


def from_junit(paths: list[Path]) -> Results:
    """The results in JUnit's XML, as pytest and JUnit write it.

    The same name may occur more than once, for a test that was run again or for an error
    while it was torn down; the worst outcome counts. A report is missing if its program was
    ended.
    """
    results: Results = {}
    for path in paths:
        if not path.exists():
            continue
        for case in tree.parse(path).iter("testcase"):
            name = normal_name(f"{case.get('classname')}::{case.get('name')}")
            tags = {child.tag for child in case}
            if tags & {"failure", "error"}:
                outcome = "failed"
            elif "skipped" in tags:
                outcome = "skipped"
            else:
                outcome = "passed"
            if results.get(name) != "failed":
                results[name] = outcome
    return results


def from_mocha(output: str) -> Results:
    """The results in what mocha's JSON reporter printed, after whatever tests printed."""
    start = output.rfind('\n{\n  "stats"')
    report = json.loads(output[start + 1:] if start >= 0 else output)
    results = {}
    for key, outcome in (("passes", "passed"), ("failures", "failed"), ("pending", "skipped")):
        for test in report[key]:
            results[normal_name(test["fullTitle"])] = outcome
    return results


def from_go(output: str) -> Results:
    """The results in what `go test -json` printed."""
    outcomes = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    results = {}
    for line in output.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("Test") and event.get("Action") in outcomes:
            results[normal_name(event["Test"])] = outcomes[event["Action"]]
    return results


def from_cargo(output: str) -> Results:
    """The results in what `cargo test` printed, each with the name of its test program."""
    results = {}
    program = ""
    for line in output.splitlines():
        if running := re.search(r"Running (?:tests/)?(\S+)\.rs \(", line):
            program = running[1]
        elif tested := re.match(r"test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", line):
            outcome = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[tested[2]]
            results[f"{program}::{tested[1]}"] = outcome
    return results


def normal_name(name: str) -> str:
    """A test's name on one line, without addresses in memory, which no two runs share."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x", " ".join(name.split()))
