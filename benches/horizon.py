#!/usr/bin/env python3
"""How far the time that a running node foretells is off: two queues, one with max-length and one with
max-length-bytes, are filled at a constant rate, and nobody consumes.

    horizon.py BINARY [--seconds 45] [--per-second 50]

Prints each prediction beside the measured time and ends with 1 if the median error is 5 % or more. The
predictions of the second third count: before, little is known; afterwards a second of delay is much.
"""

import argparse
import base64
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ERROR_MAX = 0.05
BODY = "x" * 100
ROUND = "1s"
PATIENCE_SECONDS = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Client:
    """One connection with the HTTP interface."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        login = base64.b64encode(b"guest:guest").decode()
        self.headers = {"Authorization": f"Basic {login}"}

    def ask(self, method, path, body=None):
        text = None if body is None else json.dumps(body)
        self.connection.request(method, "/api" + path, text, self.headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:200]}")
        return json.loads(content) if content else None


def start(binary, directory):
    """The process and its HTTP port."""
    ports = [free_port() for _ in range(3)]
    flags = ["--amqp", "--http", "--metrics"]
    addresses = [word for flag, port in zip(flags, ports) for word in (flag, f"127.0.0.1:{port}")]
    process = subprocess.Popen(
        [binary, "server", "--data-dir", directory, "--collect-statistics-interval", ROUND,
         *addresses],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if "Server startup complete" in line:
            return process, ports[1]
    raise RuntimeError("the node does not get ready")


def fill(port, queue, per_second, limit, full_at):
    """Publishes evenly until the queue is full; notes when that was."""
    client = Client(port)
    message = {"routing_key": queue, "payload": BODY, "payload_encoding": "string",
               "properties": {}}
    begun = time.monotonic()
    for number in range(limit):
        due = begun + number / per_second
        time.sleep(max(0.0, due - time.monotonic()))
        client.ask("POST", "/exchanges/%2F/amq.default/publish", message)
    full_at[queue] = time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=45)
    parser.add_argument("--per-second", type=int, default=50)
    options = parser.parse_args()
    limit = options.seconds * options.per_second
    arguments = {
        "by-count": {"x-max-length": limit, "x-overflow": "reject-publish"},
        "by-bytes": {"x-max-length-bytes": limit * len(BODY), "x-overflow": "reject-publish"},
    }
    with tempfile.TemporaryDirectory() as directory:
        process, port = start(options.binary, directory)
        try:
            foretold, full_at = run(port, arguments, options, limit)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)
    return report(foretold, full_at)


def run(port, arguments, options, limit):
    """Predictions as (queue, when it was made, seconds, low, high), and when queues were full."""
    client = Client(port)
    full_at, foretold, publishers = {}, [], []
    for queue, wanted in arguments.items():
        client.ask("PUT", f"/queues/%2F/{queue}", {"durable": True, "arguments": wanted})
        publishers.append(threading.Thread(
            target=fill, args=(port, queue, options.per_second, limit, full_at)))
    begun = time.time()
    for publisher in publishers:
        publisher.start()
    while any(publisher.is_alive() for publisher in publishers):
        passed = time.time() - begun
        if options.seconds / 3 <= passed <= options.seconds * 2 / 3:
            for queue in arguments:
                answer = client.ask("GET", f"/staunch/v1/horizon/queues/%2F/{queue}")
                found = answer["horizon"]["now"]
                if found["seconds"] is not None:
                    foretold.append((queue, answer["computed_at_millis"] / 1000, found["limit"],
                                     found["seconds"], found["low_seconds"],
                                     found["high_seconds"]))
        time.sleep(1)
    for publisher in publishers:
        publisher.join()
    return foretold, full_at


def report(foretold, full_at):
    errors, inside = [], 0
    print(f"{'queue':10} {'foretold s':>10} {'measured s':>10} {'error %':>8}  interval s")
    for queue, made_at, limit, seconds, low, high in foretold:
        measured = full_at[queue] - made_at
        error = abs(seconds - measured) / measured
        errors.append(error)
        is_inside = low <= measured and (high is None or measured <= high)
        inside += is_inside
        upper = "never" if high is None else f"{high:.1f}"
        print(f"{queue:10} {seconds:10.1f} {measured:10.1f} {error * 100:8.1f}"
              f"  {low:.1f} to {upper} ({limit})")
    if len(full_at) != 2 or not errors:
        print("there is no prediction to compare")
        return 1
    median = statistics.median(errors)
    print(f"{len(errors)} predictions, median error {median * 100:.1f} %, "
          f"{inside / len(errors) * 100:.0f} % inside the interval")
    return 0 if median < ERROR_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
