"""A pipeline's content as YAML: FastTrack's order of keys, commands as blocks, texts quoted where they need it.

What is written is read the same by YAML 1.1 (FastTrack's reader), YAML 1.2 and our own: a text that any of them
would take for something else is quoted. No anchors are written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import yaml

from trackbook.engine.content import Content, to_document
from trackbook.engine.fields import FREE, PIPELINE, Field, core, written

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_RESOLVER: Any = yaml.resolver.Resolver()
_STRING = "tag:yaml.org,2002:str"
_LETTERS = frozenset("yYnN")
"""Booleans by the letter of YAML 1.1, though few readers take them so."""
_UNFOLDED = 2**30
_BREAKS = re.compile("[\r\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ESCAPED = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal would act on; such texts are quoted, so that it can be escaped."""
_NUMERIC = re.compile(r"[-+.\d]|inf|nan", re.IGNORECASE)
_NO_BLOCK = re.compile(r"[ \t]\n|[ \t]\Z|\A[ \t\n]")


def dump(content: Content) -> str:
    """Return the content as YAML; `load` of it gives the content again, where variables are text."""
    stream = io.StringIO()
    dumper = _Dumper(stream, allow_unicode=True, width=_UNFOLDED)
    try:
        dumper.emit(yaml.StreamStartEvent(encoding=None))
        dumper.emit(yaml.DocumentStartEvent(explicit=False))
        _node(to_document(content), PIPELINE, dumper.emit)
        dumper.emit(yaml.DocumentEndEvent(explicit=False))
        dumper.emit(yaml.StreamEndEvent())
    finally:
        dumper.dispose()
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", stream.getvalue())


def _node(value: Any, wanted: Field, write: Callable[[yaml.Event], None]) -> None:
    if isinstance(value, dict):
        write(yaml.MappingStartEvent(None, None, True, flow_style=not value))
        for key in _in_order(value, wanted):
            write(_text(key))
            _node(value[key], wanted.fields.get(key) or wanted.rest or FREE, write)
        write(yaml.MappingEndEvent())
    elif isinstance(value, list):
        write(yaml.SequenceStartEvent(None, None, True, flow_style=not value))
        for item in value:
            _node(item, wanted.item or FREE, write)
        write(yaml.SequenceEndEvent())
    elif isinstance(value, str):
        write(_text(value))
    else:
        write(yaml.ScalarEvent(None, None, (True, False), _plain(value, wanted)))


def _in_order(mapping: dict[str, Any], wanted: Field) -> list[str]:
    known = [key for key in wanted.fields if key in mapping]
    return known + [key for key in mapping if key not in wanted.fields]


def _plain(value: Any, wanted: Field) -> str:
    if value is None:
        return "" if wanted.kind is not None and wanted.kind.plain("null") == "null" else "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return written(value) if isinstance(value, float) else str(value)


def _text(text: str) -> yaml.Event:
    plain = len(text) <= 128 and _stays_text(text)
    return yaml.ScalarEvent(None, None, (plain, True), text, style=_style(text))


def _style(text: str) -> str | None:
    if _BREAKS.search(text):
        return '"'
    if "\n" not in text:
        return None
    return '"' if _NO_BLOCK.search(text) else "|"


@lru_cache(4096)
def _stays_text(text: str) -> bool:
    """Whether every reader takes the unquoted text for text."""
    if text in _LETTERS or not isinstance(core(text), str):
        return False
    if _RESOLVER.resolve(yaml.ScalarNode, text, (True, False)) != _STRING:
        return False
    return not _is_number(text)


def _is_number(text: str) -> bool:
    """Whether some reader may take it for a number: 1e3 is one in YAML 1.2 only, 0o17 too."""
    if not _NUMERIC.match(text):
        return False
    for read in (float, lambda text: int(text, 0)):
        try:
            read(text)
        except ValueError:
            continue
        return True
    return False
