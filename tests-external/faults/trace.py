"""Reads what strace has written: who did what to which file or socket, in which order."""

import re

WRAPPER = ["strace", "-f", "-ttt", "-y", "-qq", "-s", "0"]

_LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$")
_UNFINISHED = re.compile(r"^(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)$")
_RESULT = re.compile(r"\) += (-?\d+)")
_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
_TEXTS = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Call:
    """One system call: `begin` and `end` are positions in the order of the trace."""

    def __init__(self, thread, name, begin, arguments):
        self.thread = thread
        self.name = name
        self.begin = begin
        self.end = None
        self.arguments = arguments
        self.result = None

    @property
    def file(self):
        """What its first argument, a descriptor, stands for."""
        found = _DESCRIPTOR.match(self.arguments)
        return found.group(1) if found else ""

    @property
    def paths(self):
        return _TEXTS.findall(self.arguments)

    def __repr__(self):
        return f"{self.begin}..{self.end} {self.name}({self.arguments} = {self.result}"


def read(path):
    """Every finished call, in the order in which they ended."""
    open_calls = {}
    calls = []
    for position, line in enumerate(path.read_text(errors="replace").splitlines()):
        found = _LINE.match(line)
        if not found:
            continue
        thread, _, text = found.groups()
        if unfinished := _UNFINISHED.match(text):
            open_calls[thread] = Call(thread, unfinished[1], position, unfinished[2])
            continue
        if resumed := _RESUMED.match(text):
            call = open_calls.pop(thread, None)
            if call is None:
                continue
            call.arguments += resumed[2]
        elif started := _CALL.match(text):
            call = Call(thread, started[1], position, started[2])
        else:
            continue
        result = _RESULT.search(call.arguments)
        if result is None:
            continue
        call.end = position
        call.result = int(result[1])
        calls.append(call)
    return calls
