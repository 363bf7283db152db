"""What Prometheus scrapes: well-formed text, the names and labels that RabbitMQ's dashboards and
alert rules read, and the same numbers as over HTTP."""

import re
import time
import urllib.request

import pytest

PATIENCE_SECONDS = 60
FAMILY = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|untyped)")
SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)'
)
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"')

# What the dashboard RabbitMQ-Overview (Grafana 10991) and the alert rules of the cluster operator
# read, of a node that stands alone. Missing: rabbitmq_message_size_bytes.
NAMES = """
build_info identity_info erlang_uptime_seconds resident_memory_limit_bytes
process_resident_memory_bytes disk_space_available_bytes disk_space_available_limit_bytes
process_max_fds process_open_fds queues connections channels queue_messages_ready
queue_messages_unacked global_publishers global_consumers
global_messages_received_total global_messages_received_confirm_total
global_messages_confirmed_total global_messages_routed_total
global_messages_unroutable_dropped_total global_messages_unroutable_returned_total
global_messages_delivered_total global_messages_delivered_consume_manual_ack_total
global_messages_delivered_consume_auto_ack_total global_messages_delivered_get_manual_ack_total
global_messages_delivered_get_auto_ack_total global_messages_get_empty_total
global_messages_redelivered_total global_messages_acknowledged_total
queues_declared_total queues_created_total queues_deleted_total channels_opened_total
channels_closed_total connections_opened_total connections_closed_total
alarms_memory_used_watermark alarms_free_disk_space_watermark alarms_file_descriptor_limit
channel_messages_unroutable_dropped_total channel_messages_unroutable_returned_total
""".split()

# A queue named `od"d\`.
ODD_PATH = "/queues/%2F/od%22d%5C"


def scrape(node, path):
    """Samples by name and labels; anything that is not well-formed fails."""
    url = f"http://127.0.0.1:{node.metrics_port}{path}"
    with urllib.request.urlopen(url, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = response.read().decode()
    assert text.endswith("\n")
    samples, known, family = {}, set(), None
    for line in text.splitlines():
        if found := FAMILY.fullmatch(line):
            family, kind = found.groups()
            assert family not in known, f"{family} comes twice"
            assert (kind == "counter") == family.endswith("_total"), line
            known.add(family)
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] == family, line
        else:
            found = SAMPLE.fullmatch(line)
            assert found and found[1] == family, line
            key = family, tuple(LABEL.findall(found[2] or ""))
            assert key not in samples, line
            samples[key] = float(found[3])
    return samples


def single(samples, name):
    """The sum over labels."""
    values = [value for (family, _), value in samples.items() if family == name]
    assert values, f"there is no {name}"
    return sum(values)


@pytest.fixture(scope="module")
def worked(staunch):
    http = staunch.http
    assert http.ask("PUT", "/queues/%2F/counted", {"durable": True}).status == 201
    assert http.ask("PUT", ODD_PATH, {}).status == 201
    for key in ("counted", "counted", "nowhere"):
        message = {"properties": {}, "routing_key": key, "payload": "four",
                   "payload_encoding": "string"}
        assert http.ask("POST", "/exchanges/%2F/amq.default/publish", message).status == 200
    get = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
    assert http.ask("POST", "/queues/%2F/counted/get", get).status == 200
    deadline = time.monotonic() + PATIENCE_SECONDS
    while single(scrape(staunch, "/metrics"), "rabbitmq_global_messages_received_total") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return staunch


def test_what_dashboards_read_is_there(worked):
    samples = scrape(worked, "/metrics")
    names = {name for name, _ in samples}
    assert not {f"rabbitmq_{name}" for name in NAMES} - names
    (identity,) = (dict(labels) for name, labels in samples if name == "rabbitmq_identity_info")
    assert identity["rabbitmq_endpoint"] == "aggregated"
    assert identity.keys() >= {"rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id"}


def test_the_numbers_are_those_of_what_was_done(worked):
    samples = scrape(worked, "/metrics")
    for name, value in [("routed", 2), ("received", 3), ("received_confirm", 3), ("confirmed", 3),
                        ("unroutable_returned", 1), ("delivered", 1)]:
        assert single(samples, f"rabbitmq_global_messages_{name}_total") == value, name
    assert single(samples, "rabbitmq_queue_messages_ready") == 1
    assert single(samples, "rabbitmq_queues") == 2


def test_objects_are_told_one_by_one_with_their_labels(worked):
    samples = scrape(worked, "/metrics/per-object")
    labels = (("vhost", "/"), ("queue", "counted"))
    assert samples["rabbitmq_queue_messages_ready", labels] == 1
    odd = (("vhost", "/"), ("queue", 'od\\"d\\\\'))
    assert samples["rabbitmq_queue_messages", odd] == 0


def test_details_are_those_that_are_asked_for(worked):
    path = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"
    samples = scrape(worked, path + "&vhost=%2F&queue=^count")
    names = {name for name, _ in samples}
    assert names == {
        "rabbitmq_identity_info", "rabbitmq_build_info", "rabbitmq_detailed_queue_info",
        "rabbitmq_detailed_queue_messages", "rabbitmq_detailed_queue_messages_ready",
        "rabbitmq_detailed_queue_messages_unacked", "rabbitmq_detailed_queue_consumers",
        "rabbitmq_detailed_queue_process_reductions_total",
    }
    queues = {dict(labels)["queue"] for _, labels in samples if "queue" in dict(labels)}
    assert queues == {"counted"}
    assert {name for name, _ in scrape(worked, "/metrics/detailed")} == {
        "rabbitmq_identity_info", "rabbitmq_build_info",
    }


def test_memory_is_broken_down(worked):
    samples = scrape(worked, "/metrics/memory-breakdown")
    assert single(samples, "rabbitmq_memory_other_system_bytes") > 0
