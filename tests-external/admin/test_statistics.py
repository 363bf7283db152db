"""What both tell of themselves once statistics have come in: every field that RabbitMQ has, with
the same numbers where both have done the same."""

import contextlib
import time
import urllib.parse

import pika
import pytest

# Statistics of both are at most so old; on a loaded machine twice that.
PATIENCE_SECONDS = 60

# Fields that are not here, by what they are fields of, and why.
MISSING = {
    "queue": {
        "backing_queue_status": "an Erlang queue's inside",
        "idle_since": "not told yet",
    },
    "overview": {},
    "message_stats": {
        "disk_reads": "messages are not read one by one",
        "disk_reads_details": "messages are not read one by one",
        "disk_writes": "messages are not written one by one",
        "disk_writes_details": "messages are not written one by one",
    },
    "node": {"ra_open_file_metrics": "an Erlang library's inside"},
    "exchange": {
        "user_who_performed_action": "who made it is not kept",
        "incoming": "what goes between a queue and one exchange is not counted",
        "outgoing": "what goes between a queue and one exchange is not counted",
    },
    "vhost": {},
    "connection": {
        "garbage_collection": "of an Erlang process",
        "reductions": "of an Erlang process",
        "reductions_details": "of an Erlang process",
        **dict.fromkeys((
            "channel_max", "frame_max", "peer_cert_issuer", "peer_cert_subject",
            "peer_cert_validity", "ssl_cipher", "ssl_hash", "ssl_key_exchange", "timeout",
        ), "not told yet"),
    },
    "channel": {
        "garbage_collection": "of an Erlang process",
        "reductions": "of an Erlang process",
        "reductions_details": "of an Erlang process",
        "idle_since": "not told yet",
        "pending_raft_commands": "an Erlang library's inside",
        "deliveries": "what goes between a queue and one channel is not counted",
        "publishes": "what goes between an exchange and one channel is not counted",
    },
    "consumer": {},
    "details": {},
    "vhost message_stats": {
        "confirm": "confirms are counted for channels, not for virtual hosts",
        "confirm_details": "confirms are counted for channels, not for virtual hosts",
    },
}

QUEUE = "/queues/%2F/counted"

# What is the same of clients that are alike.
SAME = {
    "connection": ("user", "vhost", "protocol", "type", "ssl", "channels", "auth_mechanism",
                   "user_provided_name", "client_properties", "peer_host", "host", "state"),
    "channel": ("user", "vhost", "number", "state", "consumer_count", "confirm", "transactional",
                "messages_unacknowledged", "messages_unconfirmed", "messages_uncommitted",
                "acks_uncommitted", "global_prefetch_count"),
    "consumer": ("consumer_tag", "ack_required", "active", "activity_status", "exclusive",
                 "prefetch_count", "arguments", "queue"),
}

# Counts that are the same whenever the same was done.
COUNTS = ("publish", "deliver", "deliver_no_ack", "get", "get_no_ack", "get_empty", "deliver_get",
          "redeliver", "ack")


def until(read, is_good):
    """The first answer that is good."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = read()
        if is_good(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def work(http):
    """Three messages come, one is got and gone, one is got and given back, and one get finds
    nothing."""
    assert http.ask("PUT", QUEUE, {"durable": True}).status == 201
    assert http.ask("PUT", "/queues/%2F/idle", {}).status == 201
    for _ in range(3):
        message = {"properties": {}, "routing_key": "counted", "payload": "four",
                   "payload_encoding": "string"}
        assert http.ask("POST", "/exchanges/%2F/amq.default/publish", message).body["routed"]
    for queue, mode in [("counted", "ack_requeue_false"), ("counted", "ack_requeue_true"),
                        ("idle", "ack_requeue_false")]:
        get = {"count": 1, "ackmode": mode, "encoding": "auto"}
        assert http.ask("POST", f"/queues/%2F/{queue}/get", get).status == 200


@pytest.fixture(scope="module")
def worked(staunch, rabbitmq):
    """Both, when they have done that and their statistics say so."""
    for node in (staunch, rabbitmq):
        work(node.http)
        until(lambda: node.http.ask("GET", QUEUE).body,
              lambda it: it.get("message_stats", {}).get("deliver_get") == 2
              and it["messages"] == 2)
        until(lambda: node.http.ask("GET", "/vhosts/%2F").body,
              lambda it: it.get("messages") == 2)
        until(lambda: node.http.ask("GET", "/exchanges/%2F/amq.default").body,
              lambda it: it.get("message_stats", {}).get("publish_out") == 3)
        until(lambda: node.http.ask("GET", "/overview").body["message_stats"],
              lambda it: it.get("publish") == 3)
    return staunch.http, rabbitmq.http


def fields(what, ours, theirs):
    missing = theirs.keys() - ours.keys() - MISSING[what].keys()
    assert not missing, f"{what} lacks {sorted(missing)}"


def test_a_queue_has_every_field_and_the_same_counts(worked):
    ours, theirs = (http.ask("GET", QUEUE).body for http in worked)
    fields("queue", ours, theirs)
    fields("message_stats", ours["message_stats"], theirs["message_stats"])
    for name in COUNTS:
        assert ours["message_stats"][name] == theirs["message_stats"][name], name
        assert "rate" in ours["message_stats"][f"{name}_details"]
    for name in ("messages", "messages_ready", "messages_unacknowledged", "message_bytes",
                 "message_bytes_ready", "consumers", "state"):
        assert ours[name] == theirs[name], name


def test_a_queue_in_which_nothing_happened_has_no_message_stats(worked):
    staunch, _ = worked
    assert staunch.ask("PUT", "/queues/%2F/untouched", {}).status == 201
    assert "message_stats" not in staunch.ask("GET", "/queues/%2F/untouched").body


def test_the_overview_has_every_field(worked):
    ours, theirs = (http.ask("GET", "/overview").body for http in worked)
    fields("overview", ours, theirs)
    fields("message_stats", ours["message_stats"], theirs["message_stats"])
    for part in ("churn_rates", "queue_totals", "object_totals"):
        assert theirs[part].keys() <= ours[part].keys(), part
    assert ours["message_stats"]["publish"] == theirs["message_stats"]["publish"]


def test_nodes_have_every_field(worked):
    (ours,), (theirs,) = (http.ask("GET", "/nodes").body for http in worked)
    fields("node", ours, theirs)
    assert isinstance(ours["os_pid"], str)
    memories = [http.ask("GET", f"/nodes/{node['name']}/memory").body["memory"]
                for http, node in zip(worked, (ours, theirs), strict=True)]
    assert memories[1].keys() <= memories[0].keys()
    assert memories[0]["total"]["rss"] > 0
    assert worked[0].ask("GET", "/nodes/nobody@nowhere").status == 404


def test_exchanges_and_virtual_hosts_count(worked):
    ours, theirs = (http.ask("GET", "/exchanges/%2F/amq.default").body for http in worked)
    fields("exchange", ours, theirs)
    for name in ("publish_in", "publish_out"):
        assert ours["message_stats"][name] == theirs["message_stats"][name] == 3
    ours, theirs = (http.ask("GET", "/vhosts/%2F").body for http in worked)
    fields("vhost", ours, theirs)
    fields("vhost message_stats", ours["message_stats"], theirs["message_stats"])
    assert ours["messages"] == theirs["messages"] == 2


def test_a_past_is_shown_in_steps(worked):
    for http in worked:
        query = "?msg_rates_age=60&msg_rates_incr=5&columns=message_stats.publish_details"
        details = until(
            lambda: http.ask("GET", QUEUE + query).body["message_stats"]["publish_details"],
            lambda it: it["samples"] and it["samples"][0]["sample"] == 3,
        )
        assert details.keys() >= {"avg", "avg_rate", "rate"}
        samples = details["samples"]
        steps = {a["timestamp"] - b["timestamp"] for a, b in zip(samples, samples[1:])}
        assert steps <= {5000}


def test_lists_without_statistics_cost_little(worked):
    for http in worked:
        for query, has_totals in [("", False), ("&enable_queue_totals=true", True)]:
            rows = http.ask("GET", "/queues?disable_stats=true" + query).body
            row = next(row for row in rows if row["name"] == "counted")
            assert ("messages" in row) == has_totals
            assert "message_stats" not in row and "memory" not in row


def test_a_client_has_every_field_and_the_same_values(worked, staunch, rabbitmq):
    with contextlib.ExitStack() as clients:
        seen = [look_at_client(clients, node) for node in (staunch, rabbitmq)]
    for what, ours, theirs in zip(("connection", "channel", "consumer"), *seen, strict=True):
        fields(what, ours, theirs)
        for name in SAME[what]:
            assert ours[name] == theirs[name], (what, name)
        for name in ("connection_details", "channel_details", "queue"):
            if name in theirs:
                fields("details", ours[name], theirs[name])


def look_at_client(clients, node):
    """A client's connection, channel and consumer, looked at one by one."""
    parameters = pika.ConnectionParameters("127.0.0.1", node.port, client_properties={
        "connection_name": "somebody",
    })
    connection = clients.enter_context(pika.BlockingConnection(parameters))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=7)
    channel.confirm_delivery()
    channel.basic_publish("", "nobody", b"")
    channel.basic_consume("idle", lambda *_: None, consumer_tag="tag", arguments={"x-priority": 2})
    http, quoted = node.http, urllib.parse.quote

    def listed(what, is_right=bool):
        # Clients are served between looks.
        def look():
            connection.process_data_events(0)
            return http.ask("GET", f"/{what}").body

        return until(look, is_right)[0]

    name = quoted(listed("connections", lambda it: it and it[0].get("channels") == 1)["name"])
    number = quoted(listed(
        "channels", lambda it: it and it[0].get("message_stats", {}).get("publish") == 1,
    )["name"])
    consumer = listed("consumers")
    full = [http.ask("GET", f"/{what}").body for what in (f"connections/{name}", f"channels/{number}")]
    return [*full, consumer]


def test_connections_channels_and_consumers_are_lists(worked):
    for http in worked:
        assert http.ask("GET", "/consumers").body == []
        for what in ("connections", "channels"):
            assert http.ask("GET", f"/{what}").body == []
            page = http.ask("GET", f"/{what}?page=1").body
            assert page["items"] == [] and page["page_count"] in (0, 1)
