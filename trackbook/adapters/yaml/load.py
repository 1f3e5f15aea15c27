"""YAML from strangers: one pass over the parser's events, with limits, types by field, and every place kept.

The parser's events are safe to ask for, one by one, whatever the input; what crashes or explodes in YAML
libraries comes after them, and none of it is used here. Nothing but `Refused` is raised.

Aliases are allowed, since YAML writers make them for what occurs twice: what an alias stands for is read again in
its place, and counts against the limits again. Refused are merge keys, tags, duplicate keys, aliases inside what
they stand for, and more than one document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import yaml
from msgspec import Struct, field

from trackbook.adapters.yaml.text import decoded, syntax_refusal
from trackbook.engine.content import Content, from_mapping
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.fields import FREE, LONGEST_TEXT, PIPELINE, Field
from trackbook.engine.paths import Part, join, split

MOST_NODES = 1_000_000
"""Keys, values, mappings and lists, aliases counted as often as they occur; 10,000 tasks have some 500,000."""
MOST_CHARACTERS = 16 * 1024 * 1024
"""Characters of all values together, aliases counted as often as they occur."""
DEEPEST = 64

_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_COLLECTION_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)

Place = Any
"""Where a value stands, as one number (line << 32 | column); for a collection with the places in it.

Numbers cost the garbage collector nothing, which half a million marks do.
"""
P = TypeVar("P", Refused, Warned)


class Positions(Mapping[str, tuple[int, int]]):
    """Line and column, from 1, of each path; for a path that isn't there, of the nearest thing around it."""

    def __init__(self, root: Place) -> None:
        self._root = root

    def __getitem__(self, path: str) -> tuple[int, int]:
        try:
            parts = split(path)
        except ValueError:
            raise KeyError(path) from None
        place = self._root
        for part in parts:
            inner = _inside(place, part)
            if inner is None:
                break
            place = inner
        return _line_and_column(place)

    def __iter__(self) -> Iterator[str]:
        return (join(path) for path in _walk(self._root, ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _at(event: Any) -> int:
    mark = event.start_mark
    place: int = mark.line << 32 | mark.column
    return place


def _line_and_column(place: Place) -> tuple[int, int]:
    packed = place[0] if isinstance(place, tuple) else place
    return (packed >> 32) + 1, (packed & 0xFFFFFFFF) + 1


def _inside(place: Place, part: Part) -> Place:
    if not isinstance(place, tuple):
        return None
    inside = place[1]
    if isinstance(part, str):
        return inside.get(part) if isinstance(inside, dict) else None
    listed = inside.values() if isinstance(inside, dict) else inside
    return next(islice(listed, part, None), None)


def _walk(place: Place, at: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    if at:
        yield at
    if isinstance(place, tuple):
        inside = place[1]
        for part, inner in inside.items() if isinstance(inside, dict) else enumerate(inside):
            yield from _walk(inner, (*at, part))


class Loaded(Struct):
    """A pipeline's content as it was read, and where each part of it stands."""

    content: Content
    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def load(text: str | bytes, source: str = "the text") -> Loaded:
    """Return the content of a pipeline's YAML (or JSON); raises Refused, with line and column.

    `check` of the content is left to the caller, who gives its refusals to `locate`. `source` is what messages
    call the text.
    """
    text = decoded(text, source)
    try:
        document, place = _Reader(text).document()
    except yaml.YAMLError as error:
        raise syntax_refusal(error, text, source) from None
    positions = Positions(place)
    if not isinstance(document, dict):
        refused = Refused("wrong_type", f"{source} is not a mapping, as a pipeline is: `name: …`, `tasks: …`")
        raise locate(refused, positions)
    try:
        return Loaded(from_mapping(document), positions)
    except Refused as refused:
        raise locate(refused, positions) from None


def locate(problem: P, positions: Mapping[str, tuple[int, int]]) -> P:
    """Return the refusal (and its others) or the warning with the line and column of its path."""
    line, column = positions.get(problem.path, (None, None))
    if isinstance(problem, Warned):
        return replace(problem, line=line, column=column)
    problem.line, problem.column = line, column
    for other in problem.others:
        locate(other, positions)
    return problem


class _Reader:
    """Builds values from events. What has an anchor is logged, and read again from the log for an alias."""

    def __init__(self, text: str) -> None:
        self._loader = _Loader(text)
        self._nodes = self._characters = 0
        self._log: list[Any] = []
        self._anchors: dict[str, tuple[int, int]] = {}
        self._open: dict[str, Any] = {}
        self._replays: list[Iterator[Any]] = []

    def document(self) -> tuple[Any, Place]:
        """Return the value of the only document, and its place."""
        try:
            self._loader.get_event()
            event = self._loader.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                raise _refused("empty", "there is nothing in it", event.start_mark)
            read = self._value(self._next(), PIPELINE, 0)
            self._loader.get_event()
            event = self._loader.get_event()
            if not isinstance(event, yaml.StreamEndEvent):
                raise _refused(
                    "several_documents", "a second document begins here: a pipeline is one", event.start_mark
                )
            return read
        finally:
            self._loader.dispose()

    def _next(self) -> Any:
        while self._replays:
            event = next(self._replays[-1], None)
            if event is not None:
                break
            self._replays.pop()
        else:
            event = self._loader.get_event()
            if self._open:
                self._log.append(event)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _refused(
                "too_many_values", f"there are more than {MOST_NODES:,} values by here", event.start_mark
            )
        return event

    def _value(self, event: Any, wanted: Field, depth: int) -> tuple[Any, Place]:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event, wanted, depth)
        if event.anchor is not None and not self._replays:
            return self._anchored(event, wanted, depth)
        if kind is yaml.ScalarEvent:
            return self._scalar(event, wanted), _at(event)
        return self._collection(event, wanted, depth)

    def _collection(self, event: Any, wanted: Field, depth: int) -> tuple[Any, Place]:
        if depth == DEEPEST:
            raise _refused("too_deep", f"values may be nested {DEEPEST} levels deep", event.start_mark)
        if event.tag not in _COLLECTION_TAGS:
            raise _tagged(event)
        read = self._mapping if type(event) is yaml.MappingStartEvent else self._sequence
        value, inside = read(wanted, depth + 1)
        return value, (_at(event), inside)

    def _mapping(self, wanted: Field, depth: int) -> tuple[Any, Any]:
        values: dict[str, Any] = {}
        places: dict[str, Place] = {}
        fields, rest = wanted.fields, wanted.rest or FREE
        while True:
            event = self._next()
            if type(event) is yaml.MappingEndEvent:
                return values, places
            key = self._key(event, places)
            inner = fields.get(key, rest)
            event = self._next()
            if type(event) is yaml.ScalarEvent and event.anchor is None:  # most by far, so with the fewest calls
                values[key] = self._scalar(event, inner)
                places[key] = _at(event)
            else:
                values[key], places[key] = self._value(event, inner, depth)

    def _sequence(self, wanted: Field, depth: int) -> tuple[Any, Any]:
        values: list[Any] = []
        places: list[Place] = []
        item = wanted.item or FREE
        while True:
            event = self._next()
            if type(event) is yaml.SequenceEndEvent:
                return values, places
            value, place = self._value(event, item, depth)
            values.append(value)
            places.append(place)

    def _key(self, event: Any, places: dict[str, Place]) -> str:
        if type(event) is not yaml.ScalarEvent or (event.tag is not None and event.tag not in _STRING_TAGS):
            raise _refused("bad_key", "a key is plain text here", event.start_mark)
        if event.anchor is not None:
            raise _refused("bad_key", "a key can't have an anchor here", event.start_mark)
        key: str = self._text(event)
        if key == "<<" and event.implicit[0]:
            raise _refused(
                "merge_key", "merge keys (`<<`) aren't read: write out what is meant", event.start_mark
            )
        if key in places:
            message = f"the key {key[:60]!r} was given in line {_line_and_column(places[key])[0]} already"
            raise _refused("duplicate_key", message, event.start_mark)
        return key

    def _scalar(self, event: Any, wanted: Field) -> Any:
        text = self._text(event)
        if event.implicit[0]:
            kind = wanted.kind
            return kind.plain(text) if kind is not None else _nothing_or(text)
        if event.tag is not None and event.tag not in _STRING_TAGS:
            raise _tagged(event)
        return text

    def _text(self, event: Any) -> str:
        text: str = event.value
        self._characters += len(text)
        if len(text) > LONGEST_TEXT:
            message = f"a text of {len(text):,} characters begins here: at most {LONGEST_TEXT:,} are read"
            raise _refused("too_long", message, event.start_mark)
        if self._characters > MOST_CHARACTERS:
            message = f"the values have more than {MOST_CHARACTERS:,} characters by here"
            raise _refused("too_many_values", message, event.start_mark)
        if event.style == '"' and not _is_sound(text):
            raise _refused("bad_character", "an escape in this text stands for no character", event.start_mark)
        return text

    def _anchored(self, event: Any, wanted: Field, depth: int) -> tuple[Any, Place]:
        anchor = event.anchor
        if anchor in self._anchors or anchor in self._open:
            raise _refused("duplicate_anchor", f"the anchor {anchor[:60]!r} was given before", event.start_mark)
        if not self._open:
            self._log.append(event)
        start = len(self._log) - 1
        self._open[anchor] = event
        read = (
            (self._scalar(event, wanted), _at(event))
            if type(event) is yaml.ScalarEvent
            else self._collection(event, wanted, depth)
        )
        del self._open[anchor]
        self._anchors[anchor] = start, len(self._log)
        return read

    def _alias(self, event: Any, wanted: Field, depth: int) -> tuple[Any, Place]:
        anchor = event.anchor
        if anchor in self._open:
            raise _refused(
                "cycle", f"the alias {anchor[:60]!r} stands inside what it stands for", event.start_mark
            )
        if anchor not in self._anchors:
            raise _refused("unknown_alias", f"nothing before has the anchor {anchor[:60]!r}", event.start_mark)
        self._replays.append(islice(self._log, *self._anchors[anchor]))
        value, _ = self._value(self._next(), wanted, depth)
        return value, _at(event)


def _nothing_or(text: str) -> str | None:
    """Read a plain scalar where a mapping or a list is expected: the rules refuse it, unless it is nothing."""
    return None if text in ("", "~", "null", "Null", "NULL") else text


def _is_sound(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _tagged(event: Any) -> Refused:
    return _refused("bad_tag", f"the tag {event.tag[:60]!r} isn't read: leave it out", event.start_mark)


def _refused(code: str, message: str, mark: Any) -> Refused:
    return Refused(f"yaml_{code}", message, line=mark.line + 1, column=mark.column + 1)
