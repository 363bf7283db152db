"""Definitions go from Staunch to RabbitMQ and back, and nothing gets lost."""

import json
from urllib.parse import quote

import contents
import pika
import pytest

# What the other's export may differ in: key, and why.
HEADINGS = {
    "rabbit_version": "each says who it is",
    "rabbitmq_version": "each says who it is",
    "product_name": "each says who it is",
    "product_version": "each says who it is",
    "rabbitmq_definition_format": "3.10 does not say",
    "original_cluster_name": "3.10 does not say",
    "explanation": "3.10 does not say",
}
NODE_OWNED = {
    "internal_cluster_id": "RabbitMQ's, of the cluster",
    "cluster_name": "its name",
    "imported_definition_hash_value": "of the file that was loaded at the start",
}


def quoted(name):
    return quote(name, safe="")


def fill(interface):
    """Makes everything in `contents`."""

    def ask(method, path, body, *statuses):
        answer = interface.ask(method, path, body)
        assert answer.status in statuses, f"{method} {path}: {answer}"

    for vhost in contents.VHOSTS:
        ask("PUT", f"/vhosts/{quoted(vhost['name'])}", vhost, 201, 204)
    for user, password, tags in contents.USERS:
        body = {"password": password, "tags": ",".join(tags)}
        ask("PUT", f"/users/{user}", body, 201)
    for vhost, user, configure, write, read in contents.PERMISSIONS:
        body = {"configure": configure, "write": write, "read": read}
        ask("PUT", f"/permissions/{quoted(vhost)}/{user}", body, 201, 204)
    for vhost, user, exchange, write, read in contents.TOPIC_PERMISSIONS:
        body = {"exchange": exchange, "write": write, "read": read}
        ask("PUT", f"/topic-permissions/{vhost}/{user}", body, 201)
    for vhost, name, body in contents.POLICIES:
        ask("PUT", f"/policies/{vhost}/{quoted(name)}", body, 201)
    for vhost, name, body in contents.OPERATOR_POLICIES:
        ask("PUT", f"/operator-policies/{vhost}/{name}", body, 201)
    ask("PUT", "/vhost-limits/shop/max-queues", {"value": 500}, 204)
    ask("PUT", "/vhost-limits/shop/max-connections", {"value": 50}, 204)
    ask("PUT", "/user-limits/ben/max-channels", {"value": 10}, 204)
    ask("PUT", "/user-limits/ben/max-connections", {"value": 5}, 204)
    ask("PUT", "/global-parameters/mine", {"value": {"list": [1, "two", None, 1.5, True]}}, 201)
    for name, body in contents.EXCHANGES:
        ask("PUT", f"/exchanges/shop/{quoted(name)}", body, 201)
    for name, body in contents.QUEUES:
        ask("PUT", f"/queues/shop/{quoted(name)}", body, 201)
    for source, kind, destination, body in contents.BINDINGS:
        path = f"/bindings/shop/e/{quoted(source)}/{kind}/{quoted(destination)}"
        ask("POST", path, body, 201)


def normal(definitions):
    """Definitions in the one form that both can be brought into; what `normal` changes is all
    that the two may differ in."""
    found = {key: value for key, value in definitions.items() if key not in HEADINGS}
    for user in found.get("users", []):
        # 3.10 writes an empty table as a list.
        user["limits"] = dict(user.get("limits") or {})
    for vhost in found.get("vhosts", []):
        # 3.10 writes no metadata, and limits among the parameters only.
        for key in ("metadata", "limits"):
            vhost.pop(key, None)
    for queue in found.get("queues", []):
        # 4.x keeps the type among the arguments and says it beside them.
        queue.pop("type", None)
        queue["arguments"] = {"x-queue-type": "classic", **queue["arguments"]}
    found["global_parameters"] = [
        parameter for parameter in found.get("global_parameters", [])
        if parameter["name"] not in NODE_OWNED
    ]
    for section in found.values():
        if isinstance(section, list):
            section.sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return found


def assert_same(ours, theirs):
    ours, theirs = normal(ours), normal(theirs)
    assert ours.keys() == theirs.keys()
    for section in ours:
        assert ours[section] == theirs[section], section


def inside(definitions):
    """What is in a virtual host; 3.10 names it in some entries."""
    found = {}
    for key in ("queues", "exchanges", "bindings", "policies", "parameters"):
        found[key] = [dict(entry) for entry in definitions[key]]
        for entry in found[key]:
            entry.pop("vhost", None)
    return found


def login(port, user, password, vhost):
    """Whether AMQP lets them in."""
    credentials = pika.PlainCredentials(user, password)
    parameters = pika.ConnectionParameters(
        "127.0.0.1", port, vhost, credentials, connection_attempts=1, blocked_connection_timeout=10,
    )
    try:
        pika.BlockingConnection(parameters).close()
    except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.AMQPConnectionError):
        return False
    return True


def assert_logins(port):
    for user, password, _ in contents.USERS:
        vhost = next(vhost for vhost, name, *_ in contents.PERMISSIONS if name == user)
        assert login(port, user, password, vhost), user
        assert not login(port, user, password + "x", vhost), user
        assert not login(port, user, password, "empty"), user


@pytest.fixture(scope="module")
def filled(staunch):
    fill(staunch.http)
    return staunch


def test_rabbitmq_takes_ours_and_gives_it_back(filled, rabbitmq):
    ours = filled.http.definitions()
    rabbitmq.http.load(ours)
    assert_same(ours, rabbitmq.http.definitions())
    assert_logins(rabbitmq.port)
    assert_logins(filled.port)


def test_ours_are_the_same_in_another_of_ours(filled, fresh):
    ours = filled.http.definitions()
    node = fresh().start()
    node.http.load(ours)
    assert node.http.definitions() == ours
    assert_logins(node.port)


def test_theirs_are_imported_over_http_at_run_time(filled, rabbitmq, fresh):
    rabbitmq.http.load(filled.http.definitions())
    theirs = rabbitmq.http.definitions()
    node = fresh().start()
    node.http.load(theirs)
    assert_same(node.http.definitions(), theirs)
    assert_logins(node.port)
    # Again changes nothing.
    node.http.load(theirs)
    assert_same(node.http.definitions(), theirs)


def test_theirs_are_imported_at_the_start(filled, rabbitmq, fresh, tmp_path):
    rabbitmq.http.load(filled.http.definitions())
    theirs = rabbitmq.http.ask("GET", "/definitions")
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(theirs.body))
    node = fresh().start("--load-definitions", file)
    assert_same(node.http.definitions(), theirs.body)
    assert_logins(node.port)
    # They are the node's own from then on.
    node.stop()
    node.start()
    survivors = [queue for queue in theirs.body["queues"] if queue["durable"]]
    assert len(node.http.ask("GET", "/queues").body) == len(survivors)
    assert_logins(node.port)


def test_theirs_are_imported_by_the_command(filled, rabbitmq, fresh, tmp_path):
    rabbitmq.http.load(filled.http.definitions())
    theirs = rabbitmq.http.definitions()
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(theirs))
    node = fresh().start()
    url = f"http://guest:guest@127.0.0.1:{node.http_port}"
    done = node.run("definitions", "import", "--url", url, file)
    assert done.returncode == 0, done.stderr
    assert_same(node.http.definitions(), theirs)
    back = tmp_path / "back.json"
    done = node.run("definitions", "export", "--url", url, back)
    assert done.returncode == 0, done.stderr
    assert_same(json.loads(back.read_text()), theirs)


def test_one_virtual_host_goes_both_ways(filled, rabbitmq, fresh):
    rabbitmq.http.load(filled.http.definitions())
    theirs = rabbitmq.http.definitions("shop")
    node = fresh().start()
    assert node.http.ask("PUT", "/vhosts/shop", {}).status == 201
    assert node.http.ask("POST", "/definitions/shop", theirs).status == 204
    ours = node.http.definitions("shop")
    assert_same(inside(ours), inside(theirs))
    assert rabbitmq.http.ask("PUT", "/vhosts/copy", {}).status == 201
    assert rabbitmq.http.ask("POST", "/definitions/copy", ours).status == 204
    assert_same(inside(rabbitmq.http.definitions("copy")), inside(theirs))
