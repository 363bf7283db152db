"""Configuration from outside: every source, every refusal."""

import subprocess

from node import clean_environment
from pika import spec
from raw import Raw

EXIT_CONFIG = 78


def run(node, *arguments, environment=None):
    return subprocess.run(
        [node.binary, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**clean_environment(), **(environment or {})},
        cwd=node.directory,
        timeout=20,
    )


def write(node, text):
    path = node.directory / "node.toml"
    path.write_text(text)
    return path


def test_an_unknown_key_is_refused_and_the_nearest_is_named(node):
    path = write(node, f'data_dir = "{node.data_dir}"\nmemory_limits = "1GiB"\n')
    for command in (["server", "--config"], ["config", "validate"]):
        result = run(node, *command, path)
        assert result.returncode == EXIT_CONFIG
        assert f"{path}:2:1" in result.stderr and "memory_limits" in result.stderr
        assert 'did you mean "memory_limit"?' in result.stderr
    assert not node.data_dir.exists(), "a refused configuration touches nothing"


def test_every_mistake_is_named_at_once(node):
    path = write(node, 'amqp = "no address"\nheartbeat = "soon"\nlog_formats = "text"\n')
    result = run(node, "config", "validate", path)
    assert result.returncode == EXIT_CONFIG
    assert all(f"{path}:{line}:" in result.stderr for line in (1, 2, 3)), result.stderr


def test_broken_toml_and_a_missing_file_are_refused(node):
    path = write(node, "data_dir = \n")
    for given in (path, node.directory / "missing.toml"):
        for command in (["server", "--config"], ["config", "validate"]):
            result = run(node, *command, given)
            assert result.returncode == EXIT_CONFIG, result
            assert given.name in result.stderr


def test_a_misspelt_variable_is_refused(node):
    result = run(node, "config", "validate", environment={"STAUNCH_DATADIR": "/nowhere"})
    assert result.returncode == EXIT_CONFIG
    assert "STAUNCH_DATADIR" in result.stderr and "STAUNCH_DATA_DIR?" in result.stderr


def test_a_wrong_value_in_a_variable_is_refused(node):
    result = run(node, "server", environment={"STAUNCH_MEMORY_LIMIT": "1KiB"})
    assert result.returncode == EXIT_CONFIG
    assert "STAUNCH_MEMORY_LIMIT" in result.stderr and "16MiB" in result.stderr


def test_a_valid_file_is_valid(node):
    path = write(node, 'memory_limit = "64MiB"\nlog_format = "json"\n')
    result = run(node, "config", "validate", path)
    assert result.returncode == 0 and str(path) in result.stdout
    default = run(node, "config", "default")
    assert default.returncode == 0
    path = write(node, default.stdout)
    assert run(node, "config", "validate", path).returncode == 0


def test_a_flag_wins_over_a_variable_over_the_file(node):
    path = write(node, 'heartbeat = "10s"\nmax_message_size = "1MiB"\nframe_max = 8192\n')
    environment = {"STAUNCH_HEARTBEAT": "20s", "STAUNCH_MAX_MESSAGE_SIZE": "2MiB"}
    flags = ["--config", path, "--heartbeat", "30s"]
    shown = run(node, "config", "show", *flags, environment=environment).stdout
    assert 'heartbeat = "30s"' in shown, shown
    assert 'max_message_size = "2MiB"' in shown, shown
    assert "frame_max = 8192" in shown, shown
    # The file can be named by a variable too.
    environment["STAUNCH_CONFIG"] = str(path)
    assert "frame_max = 8192" in run(node, "config", "show", environment=environment).stdout


def test_a_server_obeys_file_and_variables(node):
    path = write(node, 'default_user = "someone"\ndefault_pass = "secret"\n')
    node.start("--config", path, environment={"STAUNCH_FRAME_MAX": "16384"})
    raw = Raw("127.0.0.1", node.port)
    raw.start()
    raw.start_ok("someone", "secret")
    assert raw.event(spec.Connection.Tune, 0).frame_max == 16384
    raw.close()
    assert "secret" not in node.log()
    shown = run(node, "config", "show", "--config", path).stdout
    assert "secret" not in shown and "someone" in shown
    assert node.terminate() == 0


def test_an_address_in_use_is_named(node, nodes):
    node.start()
    other = nodes()
    result = run(
        other,
        *("server", "--data-dir", other.data_dir, "--amqp", f"127.0.0.1:{node.port}"),
        *("--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
    )
    assert result.returncode not in (0, 101) and f"127.0.0.1:{node.port}" in result.stderr


def test_clustering_is_refused_while_there_is_none(node):
    result = run(node, "server", "--seed", "a@b=127.0.0.1:1")
    assert result.returncode == EXIT_CONFIG and "seed" in result.stderr
