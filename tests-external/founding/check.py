"""Runs the founding document's consumer and producer, unmodified, against a broker on port 5672.

Usage: check.py

The programs know only `localhost` and the default port. Ten messages must be sent, and the same
ten received in order.
"""

import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
SENT = [f" [x] Sent 'Hello World {i}'" for i in range(10)]
RECEIVED = [f" [x] Received 'b'Hello World {i}''" for i in range(10)]
TIMEOUT_SECONDS = 30


def start(program, errors):
    return subprocess.Popen(
        [sys.executable, "-u", HERE / program], stdout=subprocess.PIPE, stderr=errors, text=True
    )


def fail(text, errors):
    errors.seek(0)
    sys.exit(f"founding: {text}\n{errors.read()}")


def main():
    # The consumer never ends by itself: being interrupted, it leaves a trace worth reading only
    # when something else went wrong.
    with tempfile.TemporaryFile("w+") as errors:
        check(errors)


def check(errors):
    consumer = start("consumer.py", errors)
    guard = threading.Timer(TIMEOUT_SECONDS, consumer.kill)
    guard.start()
    try:
        producer = start("producer.py", errors)
        sent = producer.communicate(timeout=TIMEOUT_SECONDS)[0].splitlines()
        received = []
        for line in consumer.stdout:
            received.append(line.rstrip("\n"))
            if len(received) == len(RECEIVED):
                break
    finally:
        guard.cancel()
        consumer.send_signal(signal.SIGINT)
        consumer.wait()
    if producer.returncode != 0:
        fail(f"the producer ended with {producer.returncode}", errors)
    if sent != SENT:
        fail(f"the producer printed {sent}", errors)
    if received != RECEIVED:
        fail(f"the consumer printed {received}", errors)
    print(f"founding: ok, {len(sent)} sent, {len(received)} received")


main()
