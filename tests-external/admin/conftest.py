"""Fixtures: Staunch and a real RabbitMQ, fresh for every file of tests."""

import pathlib

import pytest
from nodes import RabbitMq, Staunch


def pytest_addoption(parser):
    parser.addoption("--binary", help="the staunch program")


@pytest.fixture(scope="session")
def binary(pytestconfig):
    path = pytestconfig.getoption("--binary")
    if not path:
        pytest.exit("give the program with --binary", returncode=64)
    # Nodes run in directories of their own.
    return pathlib.Path(path).resolve()


@pytest.fixture(scope="module")
def staunch(binary, tmp_path_factory):
    node = Staunch(binary, tmp_path_factory.mktemp("staunch"))
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory):
    node = RabbitMq(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield node.start()
    finally:
        node.stop()


@pytest.fixture
def fresh(binary, tmp_path):
    """Makes nodes that are stopped when the test ends."""
    nodes = []

    def make():
        nodes.append(Staunch(binary, tmp_path / f"node-{len(nodes)}"))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()
