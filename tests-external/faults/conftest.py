"""Fixtures: the binary under test, nodes that are always ended, disks that are always removed."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "behaviour"))
sys.path.insert(0, str(HERE))

from disk import Disk  # noqa: E402
from node import Node  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--binary", default=os.environ.get("STAUNCH_BINARY"))


@pytest.fixture(scope="session")
def binary(pytestconfig):
    path = pytestconfig.getoption("--binary")
    if not path:
        pytest.exit("give the binary with --binary or STAUNCH_BINARY", returncode=64)
    return pathlib.Path(path).resolve()


@pytest.fixture
def disk(tmp_path):
    """A small ext4 of its own behind a loop device."""
    disk = Disk(tmp_path / "disk.image", tmp_path / "mount")
    try:
        disk.mount()
        yield disk
    finally:
        disk.unmount()


@pytest.fixture
def nodes(binary, tmp_path):
    """Makes nodes; whatever of them still runs at the end is killed."""
    made = []

    def make(data_dir=None):
        directory = tmp_path / f"node-{len(made)}"
        directory.mkdir()
        made.append(Node(binary, directory, data_dir))
        return made[-1]

    yield make
    errors = []
    for node in made:
        try:
            node.clean_up()
        except AssertionError as error:
            errors.append(error)
    # pytest keeps the directories of several runs, and these are large.
    subprocess.run(["rm", "-rf", *[node.directory for node in made]], check=True)
    if errors:
        raise errors[0]


@pytest.fixture
def node(nodes):
    return nodes()


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that makes system calls fail, for LD_PRELOAD."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = HERE / "shim.c"
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source, "-ldl"],
        check=True,
    )
    return library
