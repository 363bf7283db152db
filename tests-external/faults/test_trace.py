"""What the node asks of the kernel, seen by strace, before it promises anything (C1, C5)."""

import pathlib

import trace
from client import Publisher, take
from node import until
from pika import spec
from raw import marshal

SYNCS = ("fdatasync", "fsync")
READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")
DISK_WRITES = ("pwrite64", "pwritev", "pwritev2", "write", "writev")
DATA_CALLS = ",".join(sorted({*SYNCS, *READS, *WRITES, *DISK_WRITES}))
NAME_CALLS = "rename,renameat,renameat2,unlink,unlinkat,open,openat,ftruncate,fdatasync,fsync"


def start(node, calls, *arguments):
    log = node.directory / "trace"
    node.start(*arguments, wrapper=[*trace.WRAPPER, "-o", log, "-e", f"trace={calls}"])
    return log


def is_socket(call):
    return call.file.startswith(("socket:", "TCP:"))


def is_log(call):
    # Not the files that are being made ahead.
    return "/young-" in call.file and not call.file.endswith(".temp")


def check_each_answer_is_preceded_by_a_sync(calls, sizes, answer_size):
    """`sizes` of the requests, each answered before the next was sent."""
    position = -1
    for number, size in enumerate(sizes):
        wanted = [
            call
            for call in calls
            if is_socket(call) and call.begin > position and call.name in READS
            if call.result == size
        ]
        assert wanted, f"request {number} of {size} bytes is not in the trace"
        request = min(wanted, key=lambda call: call.begin)
        after = [call for call in calls if call.begin > request.begin]
        answers = [
            call
            for call in after
            if is_socket(call) and call.name in WRITES and call.result == answer_size
        ]
        assert answers, f"request {number} has no answer"
        answer = min(answers, key=lambda call: call.begin)
        between = [call for call in after if is_log(call) and call.end < answer.begin]
        writes = [call for call in between if call.name in DISK_WRITES and call.result > 0]
        assert writes, f"request {number} was answered before anything was written: {answer}"
        last = max(writes, key=lambda call: call.end)
        synced = [
            call
            for call in between
            if call.name in SYNCS and call.result == 0
            if call.begin > last.end and call.file == last.file
        ]
        assert synced, f"request {number} was answered without a sync: {answer}"
        position = answer.end


def test_fdatasync_between_publish_and_confirm(node):
    log = start(node, DATA_CALLS)
    node.channel().declare("q", durable=True)
    publisher = Publisher(node.connect(), "q", size=1000, window=1)
    request = len(publisher.head) + 8 + 1000
    confirm = len(marshal(1, spec.Basic.Ack(1, False)))
    publisher.run(count=50)
    node.terminate()
    calls = trace.read(log)
    check_each_answer_is_preceded_by_a_sync(calls, [request] * 50, confirm)


def test_transient_messages_in_a_durable_queue_are_no_exception(node):
    log = start(node, DATA_CALLS)
    node.channel().declare("q", durable=True)
    publisher = Publisher(node.connect(), "q", size=1000, window=1, properties=b"\0\0")
    request = len(publisher.head) + 8 + 1000
    publisher.run(count=20)
    node.terminate()
    confirm = len(marshal(1, spec.Basic.Ack(1, False)))
    check_each_answer_is_preceded_by_a_sync(trace.read(log), [request] * 20, confirm)


def test_fdatasync_between_declaration_and_answer(node):
    log = start(node, DATA_CALLS)
    channel = node.channel()
    names = [f"queue-{number:02}-{'x' * 100}" for number in range(20)]
    sizes = []
    for name in names:
        sizes.append(len(marshal(1, spec.Queue.Declare(queue=name, durable=True))))
        channel.declare(name, durable=True)
    node.terminate()
    answer = len(marshal(1, spec.Queue.DeclareOk(names[0], 0, 0)))
    check_each_answer_is_preceded_by_a_sync(trace.read(log), sizes, answer)




def test_names_are_durable_before_anything_depends_on_them(node):
    """The static rules of contract section 3, over a run that makes every kind of file."""
    log = start(node, NAME_CALLS + ",pwrite64,pwritev,pwritev2", "--memory-limit", "64MiB")
    node.channel().declare("q", durable=True)
    node.channel().declare("kept", durable=True)
    Publisher(node.connect(), "kept", size=16 << 10, window=50).run(count=200)
    for _ in range(4):
        Publisher(node.connect(), "q", size=1 << 20, window=20).run(count=150)
        take(node.connect(), "q", 150, prefetch=40)
        if node.files("segment-"):
            break
    until(lambda: node.files("segment-") and node.files("checkpoint-"), 30, "every kind of file")
    node.terminate()
    calls = trace.read(log)
    directory = str(node.data_dir)
    renames = [call for call in calls if call.name.startswith("rename") and call.result == 0]
    kinds = {pathlib.Path(call.paths[-1]).name.split("-")[0] for call in renames}
    assert {"young", "segment", "checkpoint"} <= kinds, kinds
    directory_syncs = [
        call for call in calls if call.name == "fsync" and call.file == directory and call.result == 0
    ]
    for rename in renames:
        check_rename(rename, calls, directory_syncs)
    check_removals(calls, directory_syncs)
    check_no_rewrites(calls, renames)


def check_rename(rename, calls, directory_syncs):
    old, new = rename.paths[-2:]
    name = pathlib.Path(new).name
    if name.startswith("spare-"):
        return
    # What the file holds is durable before it has the name.
    written = [c for c in calls if c.name.startswith("pwrite") and c.end < rename.begin]
    written = [c for c in written if c.file == old]
    assert written, f"{name} was published empty"
    last = max(written, key=lambda call: call.end)
    synced = [c for c in calls if c.name in SYNCS and c.file == old and c.result == 0]
    assert any(last.end < c.begin and c.end < rename.begin for c in synced), f"{name} not synced"
    # The name is durable before the same thread goes on, and before the file is written to.
    follow = [c for c in directory_syncs if c.begin > rename.end]
    assert follow, f"{name}: the directory was never synced"
    sync = min(follow, key=lambda call: call.begin)
    others = [
        c
        for c in calls
        if c.thread == rename.thread and rename.end < c.begin < sync.begin
    ]
    assert not others, f"{name}: {others} came before the directory's sync"
    early = [c for c in calls if c.name.startswith("pwrite") and c.file == new]
    assert all(c.begin > sync.end for c in early if c.begin > rename.end), f"{name} used too early"


def check_removals(calls, directory_syncs):
    """A segment or young file goes only after the checkpoint that leaves it out is durable."""
    for removal in calls:
        gone = removal.name.startswith("unlink") and removal.result == 0
        recycled = removal.name.startswith("rename") and "/spare-" in removal.paths[-1]
        if not (gone or recycled):
            continue
        name = pathlib.Path(removal.paths[0]).name
        if not name.startswith(("young-", "segment-")) or name.endswith(".temp"):
            continue
        published = [
            c
            for c in calls
            if c.name.startswith("rename") and "/checkpoint-" in c.paths[-1]
            if c.end < removal.begin
        ]
        assert published, f"{name} was removed before there was a checkpoint"
        last = max(published, key=lambda call: call.end)
        assert any(last.end < c.begin and c.end < removal.begin for c in directory_syncs), name


def check_no_rewrites(calls, renames):
    """What has been published under its name is never truncated, and all but the log is final."""
    published = {rename.paths[-1] for rename in renames}
    for call in calls:
        if call.name.startswith("open") and "O_TRUNC" in call.arguments and call.paths:
            assert call.paths[0] not in published, call
        if call.name.startswith(("pwrite", "ftruncate")):
            name = pathlib.Path(call.file).name
            final = name.startswith(("segment-", "checkpoint-")) and not name.endswith(".temp")
            assert not final, f"{name} was changed after it was published"
