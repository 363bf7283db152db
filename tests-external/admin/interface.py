"""One node's HTTP interface, as curl would use it."""

import base64
import dataclasses
import http.client
import json

TIMEOUT_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Answer:
    """Status and body; the body read as JSON if it is that."""

    status: int
    body: object
    headers: dict

    def __str__(self):
        return f"{self.status} {json.dumps(self.body, sort_keys=True)}"


class Interface:
    """Requests on connections of their own, so that none can disturb the next."""

    def __init__(self, port, user="guest", password="guest"):
        self.port = port
        self.user, self.password = user, password

    def ask(self, method, path, body=None, login=None, headers=()):
        """`body` is text as it is, or anything else as JSON. `login` is user and password, `""`
        for no login at all."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        sent = dict(headers)
        if login != "":
            pair = ":".join(login or (self.user, self.password))
            sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        try:
            connection.request(method, "/api" + path, body, sent)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            content = json.loads(text) if text else None
        except ValueError:
            content = text
        kept = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, kept)

    def definitions(self, vhost=None):
        """Everything exported."""
        answer = self.ask("GET", "/definitions" + (f"/{vhost}" if vhost else ""))
        assert answer.status == 200, answer
        return answer.body

    def load(self, definitions):
        """Imports, and expects success."""
        answer = self.ask("POST", "/definitions", definitions)
        assert answer.status == 204, answer
