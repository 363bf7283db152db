"""Tools that people have, unchanged: each is used on Staunch as its manual says, and where it
prints what a broker answered, that is compared with what it prints of RabbitMQ."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request

import pika
import pytest
from nodes import free_port

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(
    os.environ.get("STAUNCH_EXTERNAL_DIR") or HERE.parent.parent / "target" / "external"
).resolve()
PATIENCE_SECONDS = 60

FAMILIES = "&family=".join((
    "/metrics/detailed?family=queue_coarse_metrics", "queue_metrics", "queue_consumer_count",
    "exchange_metrics", "connection_coarse_metrics", "connection_metrics", "channel_metrics",
    "node_coarse_metrics", "node_metrics", "connection_churn_metrics",
))
PATHS = ("/metrics", "/metrics/per-object", FAMILIES, "/metrics/memory-breakdown")

# What the script of RabbitMQ 3 is told, in turn. What a line prints must be the same on both.
SCRIPT = """
declare vhost name=shop
declare user name=ann password=secret tags=management
declare permission vhost=shop user=ann configure=^a write=.* read=.*
declare permission vhost=shop user=guest configure=.* write=.* read=.*
-V shop declare exchange name=orders type=topic durable=true auto_delete=false
-V shop declare exchange name=inside type=fanout internal=true durable=true
-V shop declare queue name=work durable=true auto_delete=false arguments={"x-max-length":100}
-V shop declare queue name=other durable=true
-V shop declare queue name=work durable=false
-V shop declare binding source=orders destination=work routing_key=order.#
-V shop declare binding source=orders destination_type=exchange destination=inside routing_key=*
-V shop declare binding source=nowhere destination=work
-V shop declare policy name=short pattern=^w definition={"max-length":10} priority=3 apply-to=queues
-V shop declare policy name=bad pattern=^w definition={"max-length":"many"}
-V shop declare operator_policy name=op pattern=^w definition={"max-length":50}
-V shop declare vhost_limit vhost=shop name=max-connections value=500
-V shop publish exchange=orders routing_key=order.new payload=hello properties={"delivery_mode":2}
-V shop publish exchange=orders routing_key=order.old payload=aGVsbG8= payload_encoding=base64
-V shop publish exchange=orders routing_key=nobody payload=hello
-V shop get queue=work ackmode=ack_requeue_true count=2
-V shop -f pretty_json get queue=work ackmode=ack_requeue_false
-V shop get queue=other
-V shop get queue=missing
list vhosts name tracing
-s name list users name tags
-s user list permissions
-V shop -s name list exchanges name type durable auto_delete internal
-V shop -s name list queues name durable auto_delete arguments policy
-V shop -s properties_key list bindings source destination destination_type routing_key properties_key
-V shop list policies
-V shop list operator_policies
list vhost_limits
-V shop -f tsv list queues name durable
-V shop -f kvp list queues name durable
-V shop -f bash list queues
-V shop -f raw_json list queues name
-d 2 -f long list vhosts name
show overview object_totals.queues object_totals.connections
list nodes running type
list connections
list channels
list consumers
-u ann -p secret -V shop list queues name
-u ann -p wrong list queues name
-u ann -p secret declare vhost name=forbidden
-V shop purge queue name=work
-V shop delete binding source=orders destination_type=queue destination=work properties_key=order.%23
-V shop delete binding source=orders destination_type=queue destination=work properties_key=none
-V shop delete policy name=short
-V shop delete operator_policy name=op
-V shop delete vhost_limit vhost=shop name=max-connections
-V shop delete queue name=work
-V shop delete queue name=work
-V shop delete exchange name=orders
delete permission vhost=shop user=ann
delete user name=ann
delete vhost name=shop
""".strip().splitlines()


def until(get, is_right):
    """What `get` gives as soon as it is right."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_right(got := get()):
        assert time.monotonic() < deadline, got
        time.sleep(0.1)
    return got


def fetched(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def rabbitmqadmin(node, *words):
    """The script of Debian's package; what it printed and its exit code."""
    done = subprocess.run(
        ["/usr/bin/rabbitmqadmin", "-H", "127.0.0.1", "-P", str(node.http_port), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )
    return done.stdout + done.stderr, done.returncode


# Before others declare anything: what there is, is counted.
def test_the_script_rabbitmqadmin_prints_the_same(staunch, rabbitmq):
    wrong = []
    for line in SCRIPT:
        ours, theirs = (rabbitmqadmin(node, *line.split(" ")) for node in (staunch, rabbitmq))
        if ours != theirs:
            wrong.append(f"$ rabbitmqadmin {line}\n{ours}\n{theirs}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def worked(staunch):
    """A node with some of everything that metrics tell of."""
    http = staunch.http
    http.ask("PUT", "/queues/%2F/work", {"durable": True, "arguments": {"x-max-length": 9}})
    message = {"properties": {}, "routing_key": "work", "payload": "four",
               "payload_encoding": "string"}
    http.ask("POST", "/exchanges/%2F/amq.default/publish", message)
    # Nothing is done with it for as long as the tests take.
    parameters = pika.ConnectionParameters("127.0.0.1", staunch.port, heartbeat=0)
    with pika.BlockingConnection(parameters) as connection:
        connection.channel().basic_qos(prefetch_count=3)
        until(lambda: fetched(f"http://127.0.0.1:{staunch.metrics_port}/metrics/per-object"),
              lambda it: b'queue="work"' in it and b'exchange=""' in it and b'{channel="' in it)
        yield staunch


@pytest.mark.parametrize("path", PATHS)
def test_promtool_has_nothing_to_say(worked, path):
    text = fetched(f"http://127.0.0.1:{worked.metrics_port}{path}")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("path", PATHS[:2])
def test_prometheus_reads_it(worked, path, tmp_path):
    """A real scrape: what Prometheus has afterwards is what is told."""
    port = free_port()
    target, metrics = path.strip("/").replace("/", "_"), f"127.0.0.1:{worked.metrics_port}"
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{
            "job_name": target, "metrics_path": path, "static_configs": [{"targets": [metrics]}],
        }],
    }))
    with running([
        "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ], tmp_path / "log"):
        def value(expression):
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/api/v1/query?query={expression}"
                rows = json.loads(fetched(url))["data"]["result"]
                return [row["value"][1] for row in rows]
            return None

        assert until(lambda: value("up"), lambda it: it == ["1"])
        assert until(lambda: value("rabbitmq_queue_messages_ready"), bool) == ["1"]


@contextlib.contextmanager
def running(command, log, **options):
    """A program that is ended at the end, come what may."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, **options,
        )
    try:
        yield process
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_the_script_rabbitmqadmin_moves_definitions(staunch, rabbitmq, tmp_path):
    """What one exports the other imports."""
    file = str(tmp_path / "definitions.json")
    for source, target, name in [(staunch, rabbitmq, "one"), (rabbitmq, staunch, "two")]:
        for words in (["declare", "queue", f"name={name}", "durable=true"], ["export", file]):
            assert rabbitmqadmin(source, *words)[1] == 0
        assert rabbitmqadmin(target, "import", file)[1] == 0
        assert target.http.ask("GET", f"/queues/%2F/{name}").status == 200


def go(name):
    """A program out of this folder, built."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go toolchain")
    program = BUILD / f"{name}-go"
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / name, check=True)
    return program


def test_what_terraform_does(staunch):
    done = subprocess.run(
        [go("terraform"), f"http://127.0.0.1:{staunch.http_port}"], capture_output=True, text=True,
        timeout=60, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_flower_shows_queues_and_workers(staunch, tmp_path):
    """Flower reads the broker's queues over HTTP, and its workers' events over AMQP."""
    (tmp_path / "work.py").write_text(
        "import celery\n"
        f"app = celery.Celery(broker='amqp://guest:guest@127.0.0.1:{staunch.port}//')\n"
        "@app.task(name='add', ignore_result=True)\n"
        "def add(a, b): return a + b\n"
    )
    port = free_port()
    environment = {
        **os.environ, "PYTHONPATH": str(tmp_path), "FLOWER_UNAUTHENTICATED_API": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    celery = [sys.executable, "-m", "celery", "-A", "work"]
    flower = [*celery, "flower", f"--port={port}", "--address=127.0.0.1",
              f"--broker-api=http://guest:guest@127.0.0.1:{staunch.http_port}/api/"]
    worker = [*celery, "worker", "-E", "-P", "solo", "-n", "one@here", "-l", "error"]
    base = f"http://127.0.0.1:{port}"

    def page(path):
        with contextlib.suppress(OSError):
            return fetched(base + path).decode()
        return ""

    def send(queue):
        code = f"import work; work.add.apply_async((1, 2), queue='{queue}')"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)

    options = {"env": environment, "cwd": tmp_path}
    with running(flower, tmp_path / "flower.log", **options):
        until(lambda: page("/healthcheck"), bool)
        with running(worker, tmp_path / "worker.log", **options):
            until(lambda: page("/api/workers?refresh=1"), lambda it: "one@here" in it)
            send("celery")
            until(lambda: page("/api/tasks?state=SUCCESS"), lambda it: '"add"' in it)
            send("waiting")
            lengths = until(lambda: page("/api/queues/length"), lambda it: "celery" in it)
            (queue,) = (it for it in json.loads(lengths)["active_queues"] if it["name"] == "celery")
            assert queue["messages"] == 0 and queue["consumers"] == 1
            assert "celery" in page("/broker")
