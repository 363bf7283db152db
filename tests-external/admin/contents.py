"""What is set up on one broker, so that its definitions have some of everything."""

VHOSTS = [
    {"name": "/", "description": "Default virtual host"},
    {"name": "shop", "description": "orders and such", "tags": ["first", "second"]},
    {"name": "empty"},
]
# name, password, tags, hashing algorithm of a hash that is given instead
USERS = [
    ("ann", "ann's secret", ["administrator", "own"]),
    ("ben", "pass:with:colons ü", ["monitoring"]),
    ("plain", "p", []),
]
PERMISSIONS = [
    ("shop", "ann", ".*", ".*", ".*"),
    ("shop", "ben", "^ben\\.", "^(ben\\.|amq\\.topic)", ".*"),
    ("/", "plain", "", "", "^$"),
]
TOPIC_PERMISSIONS = [("shop", "ben", "amq.topic", "^a\\.{username}", "^b")]
POLICIES = [
    ("shop", "short", {
        "pattern": "^short", "apply-to": "queues", "priority": 3,
        "definition": {"max-length": 5, "overflow": "reject-publish", "message-ttl": 60000},
    }),
    ("shop", "other way", {
        "pattern": "^topic", "apply-to": "exchanges", "definition": {"alternate-exchange": "rest"},
    }),
]
OPERATOR_POLICIES = [
    ("shop", "bounded", {
        "pattern": ".*", "apply-to": "queues", "priority": 1, "definition": {"max-length": 100000},
    }),
]
EXCHANGES = [
    ("rest", {"type": "fanout", "durable": True}),
    ("topic", {"type": "topic", "durable": True, "arguments": {"alternate-exchange": "rest"}}),
    ("inner", {"type": "headers", "durable": True, "internal": True, "auto_delete": True}),
    ("hashed", {
        "type": "x-consistent-hash", "durable": True, "arguments": {"hash-header": "customer"},
    }),
    ("passing", {"type": "direct", "durable": False}),
    ("with / and ü", {"type": "direct", "durable": True, "arguments": {
        "list": [1, "a", {"b": True}], "table": {"n": -5, "f": 1.5}, "large": 2**40,
    }}),
]
QUEUES = [
    ("plain", {"durable": True}),
    ("short.1", {"durable": True, "arguments": {
        "x-dead-letter-exchange": "rest", "x-dead-letter-routing-key": "dead", "x-expires": 600000,
        "x-max-priority": 5, "x-queue-mode": "lazy", "x-single-active-consumer": True,
    }}),
    ("safe", {"durable": True, "arguments": {
        "x-queue-type": "quorum", "x-delivery-limit": 7, "x-max-length-bytes": 10**10,
    }}),
    ("passing", {"durable": False, "auto_delete": True}),
    ("with / and ü", {"durable": True}),
]
BINDINGS = [
    ("topic", "q", "plain", {"routing_key": "a.*.#"}),
    ("topic", "q", "with / and ü", {"routing_key": "b/c d"}),
    ("topic", "e", "rest", {"routing_key": "#"}),
    ("inner", "q", "safe", {"arguments": {"x-match": "any", "n": 5, "s": "text"}}),
    ("hashed", "q", "plain", {"routing_key": "3"}),
    ("amq.direct", "q", "passing", {"routing_key": "passing"}),
]
