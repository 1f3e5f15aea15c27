"""The text of a YAML file before and without its meaning: size, encoding, characters, and broken syntax."""

from __future__ import annotations

import re
from typing import Any

import yaml

from trackbook.engine.errors import Refused

LARGEST = 8 * 1024 * 1024
"""Bytes of a whole file; 10,000 tasks have some 5 MB."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML doesn't allow in a file, a byte order mark inside it included."""
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_SURROGATES = re.compile(r"(?<!\\)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def decoded(text: str | bytes, source: str) -> str:
    """Return the text, ready for the parser; raises Refused."""
    if len(text) > LARGEST:
        raise Refused("yaml_too_large", f"{source} is larger than the {LARGEST // 1024**2} MiB that are read")
    if isinstance(text, bytes):
        text = _from_bytes(text, source)
    text = text.removeprefix("\ufeff")
    if found := _FORBIDDEN.search(text):
        line, column = _place(text, found.start())
        message = f"{source} has the character U+{ord(found[0]):04X} here, which YAML doesn't allow"
        raise Refused("yaml_bad_character", message, line=line, column=column)
    return _join_surrogates(text) if text.lstrip()[:1] == "{" else text


def _from_bytes(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode(), error.start)
        message = f"{source} isn't UTF-8: there is the byte 0x{data[error.start]:02X} here"
        raise Refused("yaml_not_utf8", message, line=line, column=column) from None


def _place(text: str, offset: int) -> tuple[int, int]:
    before = _LINE_BREAK.split(text[:offset])
    return len(before), len(before[-1]) + 1


def _join_surrogates(text: str) -> str:
    r"""Join `\ud83d\ude00`, which JSON has for what it escapes beyond 16 bits, and YAML lacks."""
    return _SURROGATES.sub(lambda pair: f"\\U{_joined(int(pair[1], 16), int(pair[2], 16)):08x}", text)


def _joined(high: int, low: int) -> int:
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)


_CAUSES = (
    (re.compile("cannot start any token"), "this character can't begin a value: put the value in quotes"),
    (
        re.compile("mapping values are not allowed"),
        "a `:` makes no sense here: quote the value, or mind the indentation",
    ),
    (re.compile("expected key"), "the indentation doesn't fit the lines before"),
    (re.compile("expected '-' indicator"), "the indentation doesn't fit the list before"),
)
_UNCLOSED = (
    (re.compile("expected ',' or"), "the brackets that open here aren't closed in the right place"),
    (re.compile("unexpected end of stream"), "the quotes that open here aren't closed"),
)


def syntax_refusal(error: yaml.YAMLError, text: str, source: str) -> Refused:
    """Return the refusal of a text that isn't YAML, in the parser's words where there are no better ones."""
    mark: Any = getattr(error, "problem_mark", None)
    opened: Any = getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    words = _words(_CAUSES, problem) or problem
    if opened is not None and (unclosed := _words(_UNCLOSED, problem)):
        words, mark = unclosed, opened
    elif mark is not None and _indented_by_tab(text, mark.line):
        words = "a tab can't indent: use blanks"
    refused = Refused("yaml_syntax", f"{source} can't be read as YAML: {words}")
    if mark is not None:
        refused.line, refused.column = mark.line + 1, mark.column + 1
    return refused


def _words(causes: tuple[tuple[re.Pattern[str], str], ...], problem: str) -> str:
    return next((words for pattern, words in causes if pattern.search(problem)), "")


def _indented_by_tab(text: str, line: int) -> bool:
    lines = _LINE_BREAK.split(text, line + 1)
    return line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]
