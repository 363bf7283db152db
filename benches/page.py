#!/usr/bin/env python3
"""What the web page and those who scrape ask of a node that has very many queues or connections: how
long the answers take, and what an open page costs.

    page.py BINARY [--queues 100000] [--connections 10000] [--seconds 30]

Prints medians of 15 answers with the least and the most, and the processor time of the node's threads
while nobody looks, while the overview is open, and while a list that is sorted by depth is open, as
shares of one core. `node` is the thread that serves clients.
"""

import argparse
import asyncio
import base64
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HEADERS = {
    "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
    "Content-Type": "application/json",
}
ROUNDS = 15
# Queues of one request, and connections that are opened at once.
BATCH, HANDSHAKES_MAX = 50_000, 50
PAST = "msg_rates_age=600&msg_rates_incr=5&lengths_age=600&lengths_incr=5"
OF_QUEUES = [
    "/api/queues?page=1",
    "/api/queues?page={middle}",
    "/api/queues?page=1&name=99",
    "/api/queues?page=1&type=quorum",
    "/api/queues?page=1&sort=messages&sort_reverse=true",
    "/api/queues?page=1&sort=message_stats.publish_details.rate&sort_reverse=true",
    "/api/overview",
]
OF_METRICS = ["/metrics", "/metrics/per-object"]
OF_CONNECTIONS = [
    "/api/connections?page=1",
    "/api/connections?page=1&sort=recv_oct",
    "/api/connections?page=1&name=127",
    "/api/overview",
]
# What the page asks for while it shows these.
OPEN = {
    "overview": [
        f"/api/overview?{PAST}",
        "/api/nodes",
        "/api/staunch/v1/cluster",
        "/api/staunch/v1/horizon?page=1&page_size=8",
        "/api/staunch/v1/failovers",
    ],
    "queues by depth": [
        "/api/queues?page=1&page_size=50&sort=messages",
        "/api/vhosts?columns=name",
    ],
}


def free_ports(count):
    listeners = [socket.socket() for _ in range(count)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Node:
    def __init__(self, binary, directory):
        self.amqp, self.http, self.metrics = free_ports(3)
        command = [binary, "server", "--data-dir", directory]
        for name in ("amqp", "http", "metrics"):
            command += [f"--{name}", f"127.0.0.1:{getattr(self, name)}"]
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, **quiet)
        for line in self.process.stdout:
            if "Server startup complete" in line:
                break
        # Whatever it says from here on is read and forgotten.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def ask(self, method, path, body=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=120)
        connection.request(method, path, body, HEADERS)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status < 400, (path, response.status, answer[:200])
        return answer

    def processor_seconds(self):
        """Of the thread that serves clients, and of all."""

        def spent(directory):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        process = pathlib.Path(f"/proc/{self.process.pid}")
        tasks = (process / "task").iterdir()
        named = next(task for task in tasks if (task / "comm").read_text().strip() == "node")
        return spent(named), spent(process)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def measure(node, path, port=None):
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = node.ask("GET", path, port=port)
        took.append((time.perf_counter() - began) * 1000)
    least, most = min(took), max(took)
    median = statistics.median(took)
    print(f"{path:80} {median:8.1f} {least:8.1f} {most:8.1f} ms {len(answer):10} B", flush=True)


def fill(node, count):
    def queue(number):
        return {
            "name": f"queue-{number:06}",
            "vhost": "/",
            "durable": True,
            "auto_delete": False,
            "arguments": {},
        }

    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        node.ask("POST", "/api/definitions", json.dumps({"queues": [queue(it) for it in numbers]}))


def watch(node, name, paths, seconds):
    """Processor time while a page is open; no paths: while none is."""
    following = None
    if paths:
        query = "&".join("get=" + urllib.parse.quote(path, safe="") for path in paths)
        following = http.client.HTTPConnection("127.0.0.1", node.http, timeout=120)
        following.request("GET", f"/api/staunch/v1/stream?{query}", headers=HEADERS)
        stream = following.getresponse()
        assert stream.status == 200, stream.status
        threading.Thread(target=drain, args=(stream,), daemon=True).start()
    time.sleep(10)
    before = node.processor_seconds()
    time.sleep(seconds)
    after = node.processor_seconds()
    if following:
        following.sock.shutdown(socket.SHUT_RDWR)
    node_share, share = (100 * (late - early) / seconds for early, late in zip(before, after))
    print(f"{name:30} node {node_share:6.2f} %   all threads {share:6.2f} %", flush=True)


def drain(stream):
    try:
        while stream.read1(1 << 16):
            pass
    except (OSError, ValueError, http.client.HTTPException):
        # The page was closed.
        pass


async def connect(port, turns):
    """A client that has opened a connection (AMQP 0-9-1, 2.2.4)."""

    def frame(class_id, method_id, arguments):
        payload = struct.pack(">HH", class_id, method_id) + arguments
        return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"

    async def answered(reader):
        head = await reader.readexactly(7)
        await reader.readexactly(struct.unpack(">I", head[3:])[0] + 1)

    async with turns:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"AMQP\0\0\x09\x01")
        await answered(reader)
        login = b"\0guest\0guest"
        start_ok = struct.pack(">I", 0) + b"\5PLAIN" + struct.pack(">I", len(login)) + login
        writer.write(frame(10, 11, start_ok + b"\5en_US"))
        await answered(reader)
        writer.write(frame(10, 31, struct.pack(">HIH", 10, 131072, 0)) + frame(10, 40, b"\1/\0\0"))
        await answered(reader)
        return reader, writer


async def with_connections(node, count):
    turns = asyncio.Semaphore(HANDSHAKES_MAX)
    clients = await asyncio.gather(*(connect(node.amqp, turns) for _ in range(count)))
    print(f"\n{len(clients)} connections")
    for path in OF_CONNECTIONS:
        await asyncio.to_thread(measure, node, path)
    for _, writer in clients:
        writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--queues", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        node = Node(arguments.binary, directory)
        try:
            for count in (10, arguments.queues):
                fill(node, count)
                print(f"\n{count} queues")
                for path in OF_QUEUES:
                    if count > 10:
                        measure(node, path.format(middle=count // 200 + 1))
                for path in OF_METRICS:
                    if count > 10:
                        measure(node, path, node.metrics)
                for name, paths in {"nobody looks": [], **OPEN}.items():
                    watch(node, name, paths, arguments.seconds)
            asyncio.run(with_connections(node, arguments.connections))
        finally:
            node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
