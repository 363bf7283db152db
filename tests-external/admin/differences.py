"""In what the two may differ, with the reasons. Anything else is a failure."""

# Keys of answers whose values are a node's own.
OWN_VALUES = {
    "password_hash": "salts are random",
    "cluster_state": "nodes have names of their own",
    "node": "nodes have names of their own",
    "user_who_performed_action": "the last one to change it is not kept",
    "metadata": "4.x adds the default queue type",
    "default_queue_type": "3.10 knows none and says `undefined`",
    "properties_key": "a hash of arguments, where there are some, by another function",
    "limits": "3.10 says [] where there are none",
    "memory": "statistics",
    # Both have them sooner or later, and test_statistics.py compares them then.
    **dict.fromkeys((
        "active_consumers", "consumer_capacity", "consumer_utilisation", "garbage_collection",
        "message_bytes", "message_bytes_persistent", "message_bytes_ram", "message_bytes_ready",
        "message_stats", "messages", "messages_details", "messages_persistent", "messages_ram",
        "messages_ready", "messages_ready_details", "messages_ready_ram",
        "messages_unacknowledged_details", "reductions",
    ), "statistics"),
}

# Keys that only Staunch has.
OWN_KEYS = {
    "default_queue_type": "4.x",
    "protected_from_deletion": "4.x",
    # RabbitMQ has these too, as soon as its statistics have come in.
    "consumers": "statistics",
    "memory": "statistics",
    "messages": "statistics",
    "messages_ready": "statistics",
    "messages_unacknowledged": "statistics",
    "operator_policy": "statistics",
    "policy": "statistics",
    "effective_policy_definition": "statistics",
    "partitions": "RabbitMQ knows no queues with partitions",
    "partition_of": "RabbitMQ knows no queues with partitions",
    "horizon": "RabbitMQ foretells nothing",
    "state": "statistics",
    "node": "statistics",
    **dict.fromkeys((
        "active_consumers", "consumer_capacity", "consumer_details", "consumer_utilisation",
        "deliveries", "exclusive_consumer_tag", "garbage_collection", "head_message_timestamp",
        "incoming", "message_bytes", "message_bytes_paged_out", "message_bytes_persistent",
        "message_bytes_ram", "message_bytes_ready", "message_bytes_unacknowledged",
        "message_stats", "messages_details", "messages_paged_out", "messages_persistent",
        "messages_ram", "messages_ready_details", "messages_ready_ram",
        "messages_unacknowledged_details", "messages_unacknowledged_ram", "recoverable_slaves",
        "reductions", "reductions_details", "single_active_consumer_tag",
    ), "statistics"),
}

# Arguments that only Staunch shows: since 4.0 a queue's type is among them if it was left out.
OWN_ARGUMENTS = {"x-queue-type"}


def error_of(answer):
    return answer.body.get("error") if isinstance(answer.body, dict) else None


def reason_of(answer):
    return answer.body.get("reason") if isinstance(answer.body, dict) else None


def both(ours, theirs, status, error):
    return all(a.status == status and error_of(a) == error for a in (ours, theirs))


def wrong_types(ours, theirs):
    if ours.status == theirs.status == 400:
        return str(reason_of(ours)).startswith("invalid type: ")
    return theirs.status == 500 and 400 <= ours.status < 500


def erlang_terms(ours, theirs):
    return both(ours, theirs, 400, "bad_request") and isinstance(reason_of(theirs), list)


def which_permission(ours, theirs):
    text = str(reason_of(theirs))
    if both(ours, theirs, 400, "bad_request"):
        return text.startswith("403 ACCESS_REFUSED - access to ")
    vague = text in ("Access refused.", "User not authorised to access object")
    vague = vague or text.startswith("ACCESS_REFUSED - access to ")
    return vague and both(ours, theirs, 401, "not_authorised")


def long_names(ours, theirs):
    return ours.status == 400 and "name of 256 bytes is longer than 255" in str(reason_of(ours))


def engines(ours, theirs):
    text = "pattern should be regular expression but is invalid: "
    return all(text in str(reason_of(answer)) for answer in (ours, theirs))


def lists_of_types(ours, theirs):
    return "apply-to 'nothing' unrecognised; should be" in str(reason_of(theirs)) and both(
        ours, theirs, 400, "bad_request"
    )


# Whole kinds of differences: a name, a reason, how it is known.
KINDS = [
    ("wrong types", "RabbitMQ fails with 500, or has a text for each key", wrong_types),
    ("Erlang terms", "reasons are sentences here", erlang_terms),
    ("which permission", "the reason says which permission is missing", which_permission),
    ("long names", "names of all things have at most 255 bytes, as in AMQP", long_names),
    ("patterns", "another engine for regular expressions has other words", engines),
    ("apply-to", "4.x knows more kinds of queues", lists_of_types),
]

STRICT = "what cannot work is refused when it is set"
NOTHING = "what is not there is not found"
SINGLE = "one exchange's topic permissions stand for themselves"
PLACES = "the message says where the JSON is wrong"
LENIENT = "who is gone already is no error"
SECRET = "what others may do is only administrators' business"
UNKNOWN = "parameters of plugins are kept for when they are known"
EMPTY = "RabbitMQ goes on to list limits that were taken away"

# Single calls: method and path (and the subject, if it is another's call).
CALLS = {
    ("logins", "GET", ""): "there is no web interface yet to be sent to",
    ("users", "PUT", "/users/hash"): STRICT,
    ("users", "GET", "/users/hash"): STRICT,
    ("users", "PUT", "/users/bad"): STRICT,
    ("users", "DELETE", "/users/bad"): STRICT,
    ("users", "GET", "/users/without-permissions"): "3.10 shows `limits` as []",
    ("users", "POST", "/users/bulk-delete"): LENIENT,
    ("vhosts", "PUT", "/vhosts/kind"): STRICT,
    ("permissions", "PUT", "/topic-permissions/one/ann"): SINGLE,
    ("permissions", "GET", "/topic-permissions/one/ann/amq.topic"): SINGLE,
    ("permissions", "DELETE", "/topic-permissions/one/ann/amq.topic"): SINGLE,
    ("parameters", "PUT", "/parameters/unknown/one/name"): UNKNOWN,
    ("parameters", "DELETE", "/parameters/unknown/one/name"): UNKNOWN,
    ("queues", "GET", "/queues/one/missing/bindings"): NOTHING,
    ("queues", "GET", "/queues/missing/q/bindings"): NOTHING,
    ("bindings", "GET", "/bindings/missing/e/x/q/q"): NOTHING,
    ("bindings", "GET", "/exchanges/missing/x/bindings/source"): NOTHING,
    ("messages", "POST", "/exchanges/missing/x/publish"): NOTHING,
    ("messages", "POST", "/queues/missing/q/get"): NOTHING,
    ("somebody", "GET", "/vhosts/one"): "who may enter may look, as in the list",
    ("somebody", "GET", "/vhosts/two"): "who may enter may look, as in the list",
    ("somebody", "GET", "/user-limits"): SECRET,
    ("somebody", "GET", "/user-limits/ann"): SECRET,
    ("somebody", "GET", "/vhost-limits"): EMPTY,
    ("somebody", "GET", "/vhost-limits/one"): SECRET,
    ("somebody", "GET", "/parameters"): EMPTY,
    ("somebody", "GET", "/parameters/vhost-limits/one"): EMPTY,
    ("somebody", "GET", "/global-parameters"): "RabbitMQ keeps its cluster's id there",
    ("somebody", "GET", "/overview"): "each tells of itself",
    ("definitions", "GET", "/definitions/missing"): NOTHING,
    ("definitions", "POST", "/definitions"): PLACES,
}


def listed(subject, method, path, ours, theirs):
    """The reason for a difference; none if it may not be."""
    for _, reason, is_known in KINDS:
        if is_known(ours, theirs):
            return reason
    return CALLS.get((subject, method, path))
