"""Fixtures: a broker given by URL, connections that are closed and queues that are removed."""

import itertools
import os
import urllib.parse

import pytest
from pika import spec
from raw import Raw

_numbers = itertools.count()


def pytest_addoption(parser):
    parser.addoption("--amqp-url", default=os.environ.get("AMQP_URL"))


class Broker:
    """The broker under test, seen by one test."""

    def __init__(self, url, reference):
        parts = urllib.parse.urlsplit(url)
        self.host = parts.hostname
        self.port = parts.port or 5672
        self.user = urllib.parse.unquote(parts.username or "guest")
        self.password = urllib.parse.unquote(parts.password or "guest")
        # RabbitMQ 3.x stands in for the broker when the tests themselves are checked. Where it
        # differs from 4.2, which the project follows, a test asks this flag.
        self.is_rabbitmq_3 = reference
        self._open = []
        self._queues = []
        self._exchanges = []

    def socket(self):
        """A TCP connection on which nothing has been said yet."""
        raw = Raw(self.host, self.port)
        self._open.append(raw)
        return raw

    def login(self, **options):
        """A connection that has received connection.tune."""
        raw = self.socket()
        raw.start()
        raw.start_ok(self.user, self.password, **options)
        raw.event(spec.Connection.Tune, 0)
        return raw

    def connect(self, capabilities=None, **tuning):
        raw = self.login(capabilities=capabilities)
        raw.tune_ok(**tuning)
        raw.open()
        return raw

    def channel(self):
        """A channel on a connection of its own."""
        return self.connect().channel()

    def queue(self):
        """A queue name of this test, deleted when it ends."""
        name = f"staunch.test.q.{os.getpid()}.{next(_numbers)}"
        self._queues.append(name)
        return name

    def exchange(self):
        """An exchange name of this test, deleted when it ends."""
        name = f"staunch.test.x.{os.getpid()}.{next(_numbers)}"
        self._exchanges.append(name)
        return name

    def clean_up(self):
        for raw in self._open:
            raw.close()
        self._open = []
        if self._queues or self._exchanges:
            channel = self.channel()
            for name in self._queues:
                channel.send(spec.Queue.Delete(queue=name))
                _, got = channel.connection.receive()
                if isinstance(got, spec.Channel.Close) and got.reply_code == 405:
                    # The broker has not yet seen that the owner has hung up: it goes by itself.
                    channel.send(spec.Channel.CloseOk())
                    channel = channel.connection.channel(channel.number)
                else:
                    assert isinstance(got, spec.Queue.DeleteOk), got
            for name in self._exchanges:
                channel.exchange_delete(name)
            channel.connection.call(
                0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk
            )
            channel.connection.close()


@pytest.fixture(scope="session")
def identity(pytestconfig):
    """(URL, whether the broker is RabbitMQ 3.x)"""
    url = pytestconfig.getoption("--amqp-url")
    if not url:
        pytest.exit("give the broker with --amqp-url or AMQP_URL", returncode=64)
    parts = urllib.parse.urlsplit(url)
    raw = Raw(parts.hostname, parts.port or 5672)
    properties = raw.start().server_properties
    raw.close()
    product = str(properties.get("product"))
    version = str(properties.get("version"))
    return url, product == "RabbitMQ" and version.startswith("3.")


@pytest.fixture
def broker(identity):
    broker = Broker(*identity)
    yield broker
    broker.clean_up()


@pytest.fixture
def channel(broker):
    return broker.channel()
