"""A process of its own, short of memory, that reads YAML from strangers: texts in, verdicts out.

Each text comes as its length in a line and its bytes; the answer is one line of JSON. Anything but a verdict — an
exception of another kind, a crash, silence — is for the test to find.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from trackbook.adapters.yaml.dump import dump
from trackbook.adapters.yaml.load import load, locate
from trackbook.engine import definition
from trackbook.engine.errors import Refused

MEMORY = 1024**3
"""Bytes of address space, the interpreter included."""


def verdict(data: bytes) -> dict[str, Any]:
    """Read, check, write and read again; say what came of it."""
    try:
        loaded = load(data)
    except Refused as refused:
        return {"refused": refused.code, "line": refused.line}
    try:
        definition.check(loaded.content)
    except Refused as refused:
        return {"refused": refused.code, "line": locate(refused, loaded.positions).line}
    again = load(dump(loaded.content)).content
    return {"loaded": True, "same": definition.canonical(again) == definition.canonical(loaded.content)}


def main() -> None:
    """Answer until there are no more texts."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while line := sys.stdin.buffer.readline():
        data = sys.stdin.buffer.read(int(line))
        began = time.process_time()
        answer = verdict(data)
        print(json.dumps({**answer, "seconds": time.process_time() - began}), flush=True)


if __name__ == "__main__":
    main()
