#!/usr/bin/env python3
"""How far the time that a running node foretells is off: queues are filled, and nobody consumes. Two
get messages at a constant rate, up to max-length and up to max-length-bytes; one at a rate that grows to
its double; one in bursts.

    horizon.py BINARY [--seconds 200] [--per-second 40] [--loads constant,bytes,ramping,bursty]

Prints each prediction beside the measured time, and ends with 1 if the median error is 5 % or more at a
constant rate, 10 % or more otherwise. The predictions of the second third count: before, little is
known; afterwards a second of delay is much.
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

BODY = "x" * 100
# Bursts: so many times the base, for so many seconds of each period.
BURST_FACTOR, BURST_SECONDS, BURST_PERIOD_SECONDS = 4, 2, 6


def rate_constant(_, __):
    return 1.0


def rate_ramping(passed, seconds):
    return 2 / 3 * (1 + passed / seconds)


def rate_bursty(passed, _):
    share = BURST_SECONDS / BURST_PERIOD_SECONDS
    base = 1 / (1 + share * (BURST_FACTOR - 1))
    return base * (BURST_FACTOR if passed % BURST_PERIOD_SECONDS < BURST_SECONDS else 1)


# By name: the rate at a time, as a share of the average; whether bytes are limited; the error allowed.
LOADS = {
    "constant": (rate_constant, False, 0.05),
    "bytes": (rate_constant, True, 0.05),
    "ramping": (rate_ramping, False, 0.10),
    "bursty": (rate_bursty, False, 0.10),
}
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


def fill(port, queue, options, limit, full_at):
    """Publishes until the queue is full; notes when that was."""
    client = Client(port)
    rate_at, _, _ = LOADS[queue]
    message = {"routing_key": queue, "payload": BODY, "payload_encoding": "string",
               "properties": {}}
    begun, due = time.monotonic(), 0.0
    for _ in range(limit):
        time.sleep(max(0.0, begun + due - time.monotonic()))
        client.ask("POST", "/exchanges/%2F/amq.default/publish", message)
        due += 1 / (options.per_second * rate_at(due, options.seconds))
    full_at[queue] = time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=200)
    parser.add_argument("--per-second", type=int, default=40)
    parser.add_argument("--loads", default=",".join(LOADS), help="a ramp is not seen as one before "
                        "minutes of it have passed: --seconds 200 and more")
    options = parser.parse_args()
    limit = options.seconds * options.per_second
    arguments = {}
    for load in options.loads.split(","):
        _, is_in_bytes, _ = LOADS[load]
        most = {"x-max-length-bytes": limit * len(BODY)} if is_in_bytes else {"x-max-length": limit}
        arguments[load] = {"x-overflow": "reject-publish", **most}
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
            target=fill, args=(port, queue, options, limit, full_at)))
    begun = time.time()
    for publisher in publishers:
        publisher.start()
    while any(publisher.is_alive() for publisher in publishers):
        passed = time.time() - begun
        if options.seconds / 3 <= passed <= options.seconds * 2 / 3:
            for queue in arguments:
                # A new connection: one that was idle for so long may have been closed.
                answer = Client(port).ask("GET", f"/staunch/v1/horizon/queues/%2F/{queue}")
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
    print(f"{'queue':10} {'foretold s':>10} {'measured s':>10} {'error %':>8}  interval s")
    errors = {queue: [] for queue in full_at}
    inside = dict.fromkeys(full_at, 0)
    for queue, made_at, limit, seconds, low, high in foretold:
        measured = full_at[queue] - made_at
        errors[queue].append(abs(seconds - measured) / measured)
        inside[queue] += low <= measured and (high is None or measured <= high)
        upper = "never" if high is None else f"{high:.1f}"
        print(f"{queue:10} {seconds:10.1f} {measured:10.1f} {errors[queue][-1] * 100:8.1f}"
              f"  {low:.1f} to {upper} ({limit})")
    is_good = True
    for queue, found in errors.items():
        if not found:
            print(f"{queue}: there is no prediction to compare")
            is_good = False
            continue
        median, allowed = statistics.median(found), LOADS[queue][2]
        is_good &= median < allowed
        print(f"{queue}: {len(found)} predictions, median error {median * 100:.1f} % of "
              f"{allowed * 100:.0f} %, {inside[queue] / len(found) * 100:.0f} % inside the interval")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
