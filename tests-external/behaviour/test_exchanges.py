"""Exchange types, bindings, predeclared exchanges, and the errors around them."""

import pytest
from pika import spec

PREDECLARED = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
DEFAULT_REFUSED = (403, "ACCESS_REFUSED - operation not permitted on the default exchange")


def routed(channel, queue, exchange, key, properties=b"\x00\x00"):
    """Publishes through `exchange`; True if the message reached `queue`."""
    channel.publish(exchange, key, b"m", properties)
    return channel.drain(queue) == [b"m"]


def header_properties(table):
    """The properties of a message with only these headers, as bytes."""
    return b"".join(spec.BasicProperties(headers=table).encode())


def test_direct(broker, channel):
    exchange, one, two = broker.exchange(), broker.queue(), broker.queue()
    channel.exchange(exchange, "direct")
    channel.declare(one)
    channel.declare(two)
    channel.bind(one, exchange, "a")
    channel.bind(two, exchange, "a")
    channel.bind(two, exchange, "b")
    for key in ("a", "b", "c", "A", ""):
        channel.publish(exchange, key, key.encode())
    assert channel.drain(one) == [b"a"]
    assert channel.drain(two) == [b"a", b"b"]


def test_fanout(broker, channel):
    exchange, queues = broker.exchange(), [broker.queue() for _ in range(3)]
    channel.exchange(exchange, "fanout")
    for queue in queues:
        channel.declare(queue)
        channel.bind(queue, exchange, "ignored")
    channel.publish(exchange, "other", b"m")
    assert [channel.drain(queue) for queue in queues] == [[b"m"]] * 3


def test_one_copy_per_queue_however_many_bindings_match(broker, channel):
    exchange, queue = broker.exchange(), broker.queue()
    channel.exchange(exchange, "topic")
    channel.declare(queue)
    for pattern in ("#", "a.*", "*.b", "a.b"):
        channel.bind(queue, exchange, pattern)
    channel.publish(exchange, "a.b", b"m")
    assert channel.drain(queue) == [b"m"]


@pytest.mark.parametrize(
    "pattern, yes, no",
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "A.b", "a.b.", ""]),
        # The empty routing key has no words at all, but a dot has an empty word on either side.
        ("*", ["a", "b"], ["a.b", ".", ""]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
        ("*.b", ["a.b", ".b"], ["b", "a.c.b"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
        ("#", ["", "a", "a.b.c", "..."], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "", "ab"]),
        ("#.c", ["c", "b.c", "a.b.c"], ["c.d", ""]),
        ("a.#.c", ["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.b.c.d"]),
        ("a.*.#", ["a.b", "a.b.c"], ["a"]),
        ("#.*", ["a", "a.b"], [""]),
        ("#.b.#", ["b", "a.b", "b.c", "a.b.c"], ["a", "bb"]),
        ("*.#.*", ["a.b", "a.b.c"], ["a"]),
        ("#.#", ["", "a", "a.b"], []),
        ("a*", ["a*"], ["ab", "a"]),
        ("", [""], ["a"]),
    ],
)
def test_topic(broker, channel, pattern, yes, no):
    exchange, queue = broker.exchange(), broker.queue()
    channel.exchange(exchange, "topic")
    channel.declare(queue)
    channel.bind(queue, exchange, pattern)
    got = {key: routed(channel, queue, exchange, key) for key in yes + no}
    assert got == {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}


@pytest.mark.parametrize(
    "arguments, yes, no",
    [
        ({"x-match": "all", "a": "1", "b": "2"}, [{"a": "1", "b": "2", "c": "3"}], [{"a": "1"}, {}]),
        ({"a": "1", "b": "2"}, [{"a": "1", "b": "2"}], [{"a": "1"}, {"a": "1", "b": "3"}]),
        ({"x-match": "any", "a": "1", "b": "2"}, [{"a": "1"}, {"b": "2", "a": "0"}], [{"a": "2"}, {}]),
        ({"x-match": "all"}, [{}, {"a": "1"}], []),
        ({"x-match": "any"}, [], [{}, {"a": "1"}]),
        # A binding argument without a value asks only for the header to be there.
        ({"x-match": "all", "a": None}, [{"a": "1"}, {"a": 5}], [{"b": "1"}]),
        # Types count: the number 1 is not the text "1".
        ({"x-match": "all", "a": 1}, [{"a": 1}], [{"a": "1"}, {"a": 2}]),
        # Arguments that start with x- are left out of the comparison …
        ({"x-match": "all", "x-a": "1", "b": "2"}, [{"b": "2"}], [{"x-a": "1"}]),
        ({"x-match": "any", "x-a": "1", "b": "2"}, [{"b": "2"}], [{"x-a": "1"}]),
        # … unless asked for.
        ({"x-match": "all-with-x", "x-a": "1", "b": "2"}, [{"x-a": "1", "b": "2"}], [{"b": "2"}]),
        ({"x-match": "any-with-x", "x-a": "1", "b": "2"}, [{"x-a": "1"}, {"b": "2"}], [{"x-a": "2"}]),
    ],
)
def test_headers(broker, channel, arguments, yes, no):
    exchange, queue = broker.exchange(), broker.queue()
    channel.exchange(exchange, "headers")
    channel.declare(queue)
    channel.bind(queue, exchange, "", arguments)
    for table in yes:
        assert routed(channel, queue, exchange, "", header_properties(table)), table
    for table in no:
        assert not routed(channel, queue, exchange, "", header_properties(table)), table


def test_headers_exchange_and_a_message_without_headers(broker, channel):
    exchange, queue = broker.exchange(), broker.queue()
    channel.exchange(exchange, "headers")
    channel.declare(queue)
    channel.bind(queue, exchange, "", {"a": "1"})
    assert not routed(channel, queue, exchange, "")


def test_unknown_x_match(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    assert channel.refused(
        spec.Queue.Bind(queue=queue, exchange="amq.headers", arguments={"x-match": "some"})
    ) == (
        406,
        'PRECONDITION_FAILED - Invalid x-match field value <<"some">>; '
        "expected all, any, all-with-x, or any-with-x",
    )


def test_default_exchange_routes_by_queue_name(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    assert routed(channel, queue, "", queue)
    assert not routed(channel, queue, "", queue + "x")


@pytest.mark.parametrize(
    "method",
    [
        spec.Exchange.Declare(exchange="", type="direct", durable=True),
        spec.Exchange.Declare(exchange="", type="direct", passive=True),
        spec.Exchange.Delete(exchange=""),
        spec.Exchange.Bind(destination="amq.fanout", source="", routing_key="a"),
        spec.Exchange.Bind(destination="", source="amq.fanout", routing_key="a"),
    ],
    ids=["declare", "passive", "delete", "as source", "as destination"],
)
def test_default_exchange_cannot_be_touched(channel, method):
    assert channel.refused(method) == DEFAULT_REFUSED


def test_default_exchange_cannot_be_bound(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    assert channel.refused(spec.Queue.Bind(queue=queue, exchange="", routing_key="a")) == (
        DEFAULT_REFUSED
    )
    channel = channel.connection.channel()
    assert channel.refused(spec.Queue.Unbind(queue=queue, exchange="", routing_key=queue)) == (
        DEFAULT_REFUSED
    )


@pytest.mark.parametrize("name, kind", PREDECLARED.items())
def test_predeclared(broker, channel, name, kind):
    channel.exchange(name, passive=True)
    channel.exchange(name, kind, durable=True)
    queue = broker.queue()
    channel.declare(queue, exclusive=True)
    channel.bind(queue, name, queue, {"q": queue})
    assert routed(channel, queue, name, queue, header_properties({"q": queue}))
    channel.unbind(queue, name, queue, {"q": queue})
    assert channel.refused(spec.Exchange.Delete(exchange=name)) == (
        403,
        f"ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed",
    )


def test_reserved_prefix(channel):
    assert channel.refused(spec.Exchange.Declare(exchange="amq.mine", type="direct")) == (
        403,
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    )
    channel = channel.connection.channel()
    assert channel.refused(
        spec.Exchange.Declare(exchange="amq.mine", type="direct", passive=True)
    ) == (404, "NOT_FOUND - no exchange 'amq.mine' in vhost '/'")


def test_internal_exchange_takes_no_publishes(broker, channel):
    name = broker.exchange()
    channel.exchange(name, "fanout", internal=True)
    for exchange in (name, "amq.rabbitmq.trace"):
        channel.publish(exchange, "", b"m")
        assert channel.connection.channel_close(1) == (
            403,
            f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'",
        )
        channel = channel.connection.channel()


def test_publish_to_a_missing_exchange(channel):
    channel.publish("staunch.no.such", "a", b"m")
    assert channel.connection.channel_close(1) == (
        404,
        "NOT_FOUND - no exchange 'staunch.no.such' in vhost '/'",
    )


@pytest.mark.parametrize(
    "change, argument, received, current",
    [
        ({"kind": "topic"}, "type", "topic", "direct"),
        ({"durable": False}, "durable", "false", "true"),
        ({"auto_delete": True}, "auto_delete", "true", "false"),
        ({"internal": True}, "internal", "true", "false"),
    ],
)
def test_inequivalent_redeclare(broker, channel, change, argument, received, current):
    name = broker.exchange()
    options = {"kind": "direct", "durable": True}
    channel.exchange(name, **options)
    channel.exchange(name, **options)
    options |= change
    kind = options.pop("kind")
    assert channel.refused(spec.Exchange.Declare(exchange=name, type=kind, **options)) == (
        406,
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{name}' in vhost '/': "
        f"received '{received}' but current is '{current}'",
    )


def test_unknown_type(broker, channel):
    method = spec.Exchange.Declare(exchange=broker.exchange(), type="nope")
    if broker.is_rabbitmq_3:
        # 3.10 closes the connection; 3.13 and later only the channel.
        assert channel.fatal(method) == (503, "COMMAND_INVALID - unknown exchange type 'nope'")
    else:
        refused = channel.refused(method)
        assert refused == (406, "PRECONDITION_FAILED - unknown exchange type 'nope'")


def test_passive_declare_of_a_missing_exchange(channel):
    assert channel.refused(spec.Exchange.Declare(exchange="staunch.no.such", passive=True)) == (
        404,
        "NOT_FOUND - no exchange 'staunch.no.such' in vhost '/'",
    )


def test_passive_declare_ignores_everything_else(broker, channel):
    name = broker.exchange()
    channel.exchange(name, "fanout", durable=True)
    channel.exchange(name, "topic", passive=True, auto_delete=True)


def test_delete(broker, channel):
    name = broker.exchange()
    channel.exchange(name)
    channel.exchange_delete(name)
    code, _ = channel.refused(spec.Exchange.Declare(exchange=name, passive=True))
    assert code == 404


def test_delete_of_a_missing_exchange_is_fine(channel):
    channel.exchange_delete("staunch.no.such")


def test_delete_if_unused(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    assert channel.refused(spec.Exchange.Delete(exchange=name, if_unused=True)) == (
        406,
        f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use",
    )
    channel = channel.connection.channel()
    channel.unbind(queue, name, "a")
    channel.exchange_delete(name, if_unused=True)


def test_deleting_an_exchange_removes_its_bindings(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    channel.exchange_delete(name)
    channel.exchange(name)
    assert not routed(channel, queue, name, "a")


def test_bind_errors(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    no_queue = (404, "NOT_FOUND - no queue 'staunch.no.q' in vhost '/'")
    no_exchange = (404, "NOT_FOUND - no exchange 'staunch.no.x' in vhost '/'")
    no_destination = (404, "NOT_FOUND - no exchange 'staunch.no.d' in vhost '/'")
    bind, exchange_bind = spec.Queue.Bind, spec.Exchange.Bind
    for method, refusal in (
        (bind(queue="staunch.no.q", exchange="amq.direct", routing_key="a"), no_queue),
        (bind(queue=queue, exchange="staunch.no.x", routing_key="a"), no_exchange),
        (bind(queue="staunch.no.q", exchange="staunch.no.x", routing_key="a"), no_exchange),
        (exchange_bind(destination="amq.direct", source="staunch.no.x"), no_exchange),
        (exchange_bind(destination="staunch.no.d", source="amq.direct"), no_destination),
    ):
        assert channel.refused(method) == refusal
        channel = channel.connection.channel()


def test_binding_twice_is_one_binding(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    channel.bind(queue, name, "a")
    channel.unbind(queue, name, "a")
    assert not routed(channel, queue, name, "a")


def test_bindings_with_other_arguments_are_other_bindings(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    channel.bind(queue, name, "a", {"n": 1})
    channel.unbind(queue, name, "a")
    assert routed(channel, queue, name, "a")
    channel.unbind(queue, name, "a", {"n": 1})
    assert not routed(channel, queue, name, "a")


def test_unbinding_what_is_not_bound_is_fine(broker, channel):
    queue = broker.queue()
    channel.declare(queue)
    channel.unbind(queue, "amq.direct", "never")
    channel.unbind(queue, "staunch.no.x", "a")
    channel.unbind("staunch.no.q", "amq.direct", "a")


def test_exchange_to_exchange(broker, channel):
    source, middle, target, queue = (
        broker.exchange(),
        broker.exchange(),
        broker.exchange(),
        broker.queue(),
    )
    channel.exchange(source, "topic")
    channel.exchange(middle, "fanout")
    channel.exchange(target, "direct")
    channel.declare(queue)
    channel.exchange_bind(middle, source, "a.#")
    channel.exchange_bind(target, middle)
    # A cycle is legal and delivers once.
    channel.exchange_bind(source, target, "a.b")
    channel.bind(queue, target, "a.b")
    assert routed(channel, queue, source, "a.b")
    assert not routed(channel, queue, source, "a.c")
    assert not routed(channel, queue, source, "b")
    channel.exchange_unbind(middle, source, "a.#")
    assert not routed(channel, queue, source, "a.b")
    assert routed(channel, queue, middle, "a.b")


def test_auto_delete_exchange_goes_with_its_last_binding(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name, auto_delete=True)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    channel.bind(queue, name, "b")
    channel.unbind(queue, name, "a")
    channel.exchange(name, passive=True)
    channel.unbind(queue, name, "b")
    code, _ = channel.refused(spec.Exchange.Declare(exchange=name, passive=True))
    assert code == 404


def test_auto_delete_exchange_goes_with_its_last_queue(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.exchange(name, auto_delete=True)
    channel.declare(queue)
    channel.bind(queue, name, "a")
    channel.delete(queue)
    code, _ = channel.refused(spec.Exchange.Declare(exchange=name, passive=True))
    assert code == 404


def test_nowait(broker, channel):
    name, queue = broker.exchange(), broker.queue()
    channel.send(spec.Exchange.Declare(exchange=name, type="fanout", nowait=True))
    channel.send(spec.Queue.Declare(queue=queue, nowait=True))
    channel.send(spec.Queue.Bind(queue=queue, exchange=name, nowait=True))
    assert routed(channel, queue, name, "")
    channel.send(spec.Exchange.Delete(exchange=name, nowait=True))
    code, _ = channel.refused(spec.Exchange.Declare(exchange=name, passive=True))
    assert code == 404
