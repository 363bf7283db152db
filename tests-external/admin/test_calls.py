"""Every call of the part of RabbitMQ's HTTP API that there is, made on both, one after the other:
the same status, the same error, the same content."""

import json

import pytest
from calls import SUBJECTS
from differences import OWN_ARGUMENTS, OWN_KEYS, OWN_VALUES, listed

# What tells things of a list apart.
IDENTITY = ("vhost", "name", "user", "exchange", "component", "source", "destination",
            "routing_key", "arguments")


def compare(ours, theirs, key=None):
    """What differs, as text; keys that only RabbitMQ has do not count."""
    if key in OWN_VALUES:
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        own = OWN_ARGUMENTS if key == "arguments" else OWN_KEYS
        found = [f"only ours: {name}" for name in ours if name not in theirs and name not in own]
        for name in ours.keys() & theirs.keys():
            found += compare(ours[name], theirs[name], name)
        if key == "arguments":
            found += [f"only theirs: {name}" for name in theirs if name not in ours]
        return found
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return [f"{key}: {len(ours)} things, not {len(theirs)}"]
        pairs = zip(sorted(ours, key=identity), sorted(theirs, key=identity), strict=True)
        return [found for ours, theirs in pairs for found in compare(ours, theirs)]
    return [] if ours == theirs else [f"{key}: {ours!r}, not {theirs!r}"]


def identity(thing):
    if not isinstance(thing, dict):
        return json.dumps(thing)
    parts = {name: thing.get(name) for name in IDENTITY}
    if isinstance(parts["arguments"], dict):
        parts["arguments"] = {
            name: value for name, value in parts["arguments"].items() if name not in OWN_ARGUMENTS
        }
    return json.dumps(parts, sort_keys=True)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_both_answer_alike(subject, staunch, rabbitmq):
    failures = []
    for method, path, *rest in SUBJECTS[subject]:
        ours = staunch.http.ask(method, path, *rest)
        theirs = rabbitmq.http.ask(method, path, *rest)
        found = compare(ours.body, theirs.body)
        if ours.status != theirs.status:
            found.append(f"status: {ours.status}, not {theirs.status}")
        if found and not listed(subject, method, path, ours, theirs):
            failures.append(f"{method} {path} {rest}\n  {found}\n  {ours}\n  {theirs}")
    assert not failures, "\n".join([f"{len(failures)} differences", *failures])
