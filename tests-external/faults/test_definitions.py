"""Contract C5: what has been answered is on disk, and what is deleted stays deleted."""

import pytest
from client import PERSISTENT
from pika import spec


def is_there(node, kind, name):
    """Asks on a connection of its own, because 404 closes the channel."""
    channel = node.channel()
    if kind == "queue":
        channel.send(spec.Queue.Declare(queue=name, passive=True))
        yes = spec.Queue.DeclareOk
    else:
        channel.send(spec.Exchange.Declare(exchange=name, passive=True))
        yes = spec.Exchange.DeclareOk
    got = channel.connection.event((yes, spec.Channel.Close))
    assert isinstance(got, yes) or got.reply_code == 404
    channel.connection.close()
    return isinstance(got, yes)


def restart(node):
    """No time passes between the last answer and the crash."""
    node.kill()
    node.start()
    return node.channel()


def test_everything_durable_survives_a_crash_right_after_its_answer(node):
    node.start()
    channel = node.channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange(f"x.{kind}", kind, durable=True)
        channel.declare(f"q.{kind}", durable=True)
    channel.exchange("x.internal", "fanout", durable=True)
    channel.bind("q.direct", "x.direct", "key")
    channel.bind("q.fanout", "x.fanout")
    channel.bind("q.topic", "x.topic", "a.*.c.#")
    channel.bind("q.headers", "x.headers", arguments={"x-match": "all", "n": 1, "s": "text"})
    channel.exchange_bind("x.internal", "x.direct", "inner")
    channel.bind("q.fanout", "x.internal")
    channel = restart(node)
    # Not only there: they route as before. And declaring them again is equivalent.
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange(f"x.{kind}", kind, durable=True)
        assert channel.declare(f"q.{kind}", durable=True).message_count == 0
    headers = b"".join(spec.BasicProperties(headers={"n": 1, "s": "text"}).encode())
    other_headers = b"".join(spec.BasicProperties(headers={"n": 2, "s": "text"}).encode())
    channel.confirm()
    channel.publish("x.direct", "key", b"direct", PERSISTENT)
    channel.publish("x.direct", "inner", b"inner", PERSISTENT)
    channel.publish("x.direct", "other", b"nowhere", PERSISTENT)
    channel.publish("x.fanout", "", b"fanout", PERSISTENT)
    channel.publish("x.topic", "a.b.c.d.e", b"topic", PERSISTENT)
    channel.publish("x.topic", "a.c", b"nowhere", PERSISTENT)
    channel.publish("x.headers", "", b"headers", headers)
    channel.publish("x.headers", "", b"nowhere", other_headers)
    channel.confirmed(8)
    assert channel.drain("q.direct") == [b"direct"]
    assert channel.drain("q.fanout") == [b"inner", b"fanout"]
    assert channel.drain("q.topic") == [b"topic"]
    assert channel.drain("q.headers") == [b"headers"]


# One crash after each kind of answer, so that no later sync can make up for a missing one.
STEPS = [
    ("queue", lambda c: c.declare("n", durable=True), lambda c: c.count("n")),
    (
        "exchange",
        lambda c: c.exchange("nx", "topic", durable=True),
        lambda c: c.exchange("nx", "topic", passive=True),
    ),
    ("binding", lambda c: c.bind("q", "x", "key"), lambda c: routed(c, "key") or missing()),
    (
        "exchange binding",
        lambda c: (c.bind("q", "amq.fanout"), c.exchange_bind("amq.fanout", "x", "key")),
        lambda c: routed(c, "key") or missing(),
    ),
]


def missing():
    raise AssertionError("the binding is gone")


def routed(channel, key):
    """Whether a message published to x reaches q."""
    channel.confirm()
    channel.publish("x", key, b"probe", PERSISTENT, mandatory=True)
    got = channel.connection.event((spec.Basic.Ack, spec.Basic.Return))
    if isinstance(got, spec.Basic.Ack):
        assert channel.drain("q") == [b"probe"]
        return True
    channel.connection.event(spec.Basic.Ack)
    return False


@pytest.mark.parametrize("name,declare,check", STEPS, ids=[step[0] for step in STEPS])
def test_a_crash_right_after_one_answer(node, name, declare, check):
    node.start()
    channel = node.channel()
    channel.declare("q", durable=True)
    channel.exchange("x", "direct", durable=True)
    channel = restart(node)
    declare(channel)
    check(restart(node))


def test_deleted_things_stay_deleted(node):
    node.start()
    channel = node.channel()
    channel.exchange("x", "direct", durable=True)
    channel.exchange("x2", "direct", durable=True)
    channel.declare("q", durable=True)
    channel.bind("q", "x", "unbound")
    channel.exchange_bind("x2", "x", "unbound")
    channel.bind("q", "x2", "unbound")
    channel.declare("deleted", durable=True)
    channel.exchange("xdeleted", "topic", durable=True)
    channel.bind("deleted", "x", "key")
    channel.fill("deleted", b"one", b"two")
    channel.fill("q", b"purged")
    channel = restart(node)
    channel.unbind("q", "x", "unbound")
    channel = restart(node)
    channel.exchange_unbind("x2", "x", "unbound")
    channel = restart(node)
    assert not routed(channel, "unbound")
    assert channel.purge("q") == 1
    channel = restart(node)
    assert channel.count("q") == 0
    channel.exchange_delete("xdeleted")
    channel = restart(node)
    assert not is_there(node, "exchange", "xdeleted")
    assert channel.delete("deleted") == 2
    channel = restart(node)
    assert not is_there(node, "queue", "deleted")
    # A namesake is a new queue: neither messages nor bindings of the old one come with it.
    assert channel.declare("deleted", durable=True).message_count == 0
    channel = restart(node)
    assert channel.count("deleted") == 0
    assert not routed(channel, "key")


def test_whatever_is_not_durable_is_gone(node):
    node.start()
    channel = node.channel()
    channel.declare("kept", durable=True)
    channel.declare("transient")
    channel.declare("exclusive", durable=True, exclusive=True)
    channel.declare("auto", auto_delete=True)
    named = channel.declare("").queue
    channel.exchange("x.transient", "fanout")
    channel.exchange("x.kept", "fanout", durable=True)
    channel.bind("transient", "x.kept")
    channel.bind("kept", "x.kept")
    channel.fill("transient", b"t")
    channel.fill("kept", b"k")
    restart(node)
    for queue in ("transient", "exclusive", "auto", named):
        assert not is_there(node, "queue", queue), queue
    assert not is_there(node, "exchange", "x.transient")
    channel = node.channel()
    channel.confirm()
    channel.publish("x.kept", "", b"again", PERSISTENT)
    channel.confirmed(1)
    assert channel.drain("kept") == [b"k", b"again"]
    assert channel.declare("transient").message_count == 0


def test_churn_of_definitions(node):
    node.start()
    channel = node.channel()
    channel.exchange("x", "topic", durable=True)
    for number in range(300):
        channel.declare(f"q.{number}", durable=True)
        channel.bind(f"q.{number}", "x", f"k.{number}")
        if number % 3 == 0:
            channel.delete(f"q.{number}")
    channel = restart(node)
    for number in range(300):
        assert is_there(node, "queue", f"q.{number}") == (number % 3 != 0)
    channel.confirm()
    channel.publish("x", "k.100", b"m", PERSISTENT)
    channel.confirmed(1)
    assert channel.count("q.100") == 1
