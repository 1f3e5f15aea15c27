"""Escapes text from outside for a terminal: control characters are shown and have no effect.

All that the command line prints passes through `guarded`, whatever module prints it. The colours of `styled`
carry a mark that only this process knows, so that a colour in a task's output is not taken for one of ours.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trackbook.cli.terminal.streams import Messages, Output

_MARK = os.urandom(8).hex()
_OURS = re.compile(rf"\x1b\[{_MARK};(\d+)m")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
LONGEST_LINE = 64 * 1024
"""Characters of a line that has no end yet, after which it is printed as it is."""


def escape(text: str) -> str:
    """Return the text with control characters and those that change the direction of writing as `\\x1b`."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text) if _UNSAFE.search(text) else text


def escape_json(text: str) -> str:
    """Return JSON that means the same and has no such characters."""
    return _UNSAFE.sub(lambda found: _json_escape(ord(found[0])), text) if _UNSAFE.search(text) else text


def _json_escape(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def colour(code: str) -> str:
    """Return the sequence for a colour that `guarded` lets through."""
    return f"\x1b[{_MARK};{code}m"


def last_written(line: str) -> str:
    """Return what a terminal would show of a line that was written over, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def plain_line(line: str) -> str:
    """Return a line of a task's output without colours, safe to print."""
    return escape(_COLOUR.sub("", last_written(line))) if _UNSAFE.search(line) else line


class OutputLines:
    """A task's output, taken as bytes in pieces of any size and returned as lines that are safe to print."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._held = 0

    def take(self, data: bytes, *, final: bool = False) -> list[str]:
        """Return the lines that are complete now, without their ends; the last one too if it is `final`."""
        *lines, rest = self._decoder.decode(data, final).split("\n")
        if lines:
            lines[0] = "".join([*self._parts, lines[0]])
            self._parts, self._held = [], 0
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > LONGEST_LINE or (final and self._parts):
            lines.append("".join(self._parts))
            self._parts, self._held = [], 0
        return [plain_line(line) for line in lines]


class _Escaped:
    """A text stream that escapes what is written to it, our own colours excepted."""

    def __init__(self, stream: Any, below: Any) -> None:
        self.rich_proxied_file = below  # rich writes there: what it is given is escaped before
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text, escaped."""
        if _UNSAFE.search(text):
            parts = _OURS.split(text)
            parts[::2] = [escape(part) for part in parts[::2]]
            parts[1::2] = [f"\x1b[{code}m" for code in parts[1::2]]
            text = "".join(parts)
        self.stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _escaped_stream(stream: Any) -> _Escaped:
    output = Output(stream)
    return _Escaped(output, output)


def raw(stream: Any) -> Any:
    """Return the stream below, for a renderer that draws on a terminal and escapes what it is given itself."""
    return getattr(stream, "rich_proxied_file", stream)


@contextmanager
def escaping_output() -> Iterator[None]:
    """Escape what is printed to stdout and stderr from here on."""
    before = sys.stdout, sys.stderr
    out: Any = before[0] if isinstance(before[0], _Escaped) else _escaped_stream(before[0])
    err: Any = before[1] if isinstance(before[1], _Escaped) else _Escaped(Messages(before[1]), before[1])
    sys.stdout, sys.stderr = ours = out, err
    try:
        yield
    finally:  # after a broken pipe there is another stream in our place, which is to stay
        if sys.stdout is ours[0]:
            sys.stdout = before[0]
        if sys.stderr is ours[1]:
            sys.stderr = before[1]
