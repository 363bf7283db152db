"""Fixtures that aiormq's suite takes from a `conftest.py` that its source distribution lacks.

Loaded by pytest with `-p`; the same names are in aio-pika's suite, which has them itself.
"""

from types import SimpleNamespace

import pytest
from yarl import URL


@pytest.fixture(scope="session")
def rabbitmq_container():
    """The broker's address."""
    return SimpleNamespace(host="localhost", ports={"5671/tcp": 5671, "5672/tcp": 5672})


@pytest.fixture(scope="session")
def amqp_direct_url(rabbitmq_container):
    """Its URL without TLS."""
    return URL.build(
        scheme="amqp", user="guest", password="guest", path="//",
        host=rabbitmq_container.host, port=rabbitmq_container.ports["5672/tcp"],
    )
