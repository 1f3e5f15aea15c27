"""Machine paths into a payload: `tasks[2].resources.mem`, with other keys quoted: `resources["cuda.shares"]`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Part = str | int

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r"""\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\]""")


def join(parts: Sequence[Part]) -> str:
    """Return the path in one line."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            path += f".{part}" if path else part
        else:
            path += f"[{json.dumps(part, ensure_ascii=False)}]"
    return path


def split(path: str) -> list[Part]:
    """Return the parts of a path; raises ValueError where it can't be read."""
    parts: list[Part] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (step[1] is not None and (path[at] == ".") != bool(parts)):
            raise ValueError(f"can't read the path {path!r} at its character {at + 1}")
        parts.append(step[1] or (int(step[2]) if step[2] else json.loads(step[3], strict=False)))
        at = step.end()
    return parts


def put(mapping: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `mapping` with a value at the end of `keys`; what it shares with the old one isn't changed."""
    first, *rest = keys
    if not rest:
        return {**mapping, first: value}
    inner = mapping.get(first)
    return {**mapping, first: put(inner if isinstance(inner, dict) else {}, rest, value)}


def drop(mapping: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return `mapping` without what stands at the end of `keys`; emptied mappings stay."""
    first, *rest = keys
    inner = mapping.get(first)
    if rest:
        return {**mapping, first: drop(inner, rest)} if isinstance(inner, dict) else dict(mapping)
    return {key: value for key, value in mapping.items() if key != first}


class Owned:
    """Mappings that one fold has made itself and shown to nobody yet, and so may change in place.

    It is no part of what a state is: any two are equal.
    """

    __slots__ = ("_made",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._made: dict[int, dict[str, Any]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owned)

    def share(self) -> None:
        """Own nothing any more: what was made is about to be shown to others."""
        self._made.clear()

    def put(self, mapping: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
        """Do what `put` does; a mapping that is owned is changed in place, however large it is."""
        mapping = self._own(mapping)
        first, *rest = keys
        if rest:
            inner = mapping.get(first)
            value = self.put(inner if isinstance(inner, dict) else {}, rest, value)
        mapping[first] = value
        return mapping

    def drop(self, mapping: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """Do what `drop` does; a mapping that is owned is changed in place, however large it is."""
        mapping = self._own(mapping)
        first, *rest = keys
        if not rest:
            mapping.pop(first, None)
        elif isinstance(inner := mapping.get(first), dict):
            mapping[first] = self.drop(inner, rest)
        return mapping

    def _own(self, mapping: dict[str, Any]) -> dict[str, Any]:
        if self._made.get(id(mapping)) is not mapping:
            mapping = dict(mapping)
            self._made[id(mapping)] = mapping
        return mapping


def look(mapping: Any, keys: Sequence[str]) -> Any:
    """Return what stands at the end of `keys`, None where nothing does."""
    for key in keys:
        if not isinstance(mapping, dict):
            return None
        mapping = mapping.get(key)
    return mapping
