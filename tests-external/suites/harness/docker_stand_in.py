"""Answers the few requests with which a suite asks Docker for a RabbitMQ container.

aio-pika's and aiormq's suites start their broker themselves, through Docker's HTTP interface.
This stand-in says yes to everything, and that the container's ports are those of the broker
that runs already.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 2375
CONTAINER = {
    "Id": "broker",
    "NetworkSettings": {
        "Ports": {
            f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
            for port in (5671, 5672)
        },
    },
}


class Handler(BaseHTTPRequestHandler):
    """Create, start, inspect, kill and remove: the same answer for all."""

    def answer(self) -> None:
        """Sends the container."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(CONTAINER).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def serve() -> str:
    """Starts the stand-in; returns the value for `DOCKER_HOST`."""
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"tcp://127.0.0.1:{PORT}"
