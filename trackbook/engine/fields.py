"""The fields of a pipeline, in FastTrack's order: how each is read from YAML, and what it may be.

One table serves three readers: the YAML loader decides the type of a scalar by its field, the rules check a
value by it, and the YAML writer takes its order. Observed in three generations of FastTrack files; what is not
in the table is kept as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from trackbook.engine import amounts, foreign_keys, mounts
from trackbook.engine.names import variable_name_problem

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TRUTHS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_CORE_TRUTHS = {word: _TRUTHS[word] for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,324}(?:e[-+][0-9]{2,3})?")
_WORD = range(-(2**63), 2**63)
_SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST_TEXT = 256 * 1024
"""Characters of a single text."""
VALUE_LIMIT = 128 * 1024 - 1
"""Bytes of `NAME=value` that Linux passes to a process in one string."""


class Kind(Struct, frozen=True):
    """A kind of single value: how an unquoted YAML scalar is read, which values fit, and what to call it."""

    what: str
    code: str
    plain: Callable[[str], Any]
    fits: Callable[[Any], bool]


class Field(Struct, frozen=True):
    """What may stand in a place: a single value of a kind, a mapping, a list, or several of them.

    Of a mapping, `fields` are known, `rest` are others; `item` stands in a list; where these are None anything
    may stand. `key` says what is wrong with a key of the mapping. `foreign` are keys of other workflow engines
    (see `foreign_keys`), with what to write instead.
    """

    kind: Kind | None = None
    fields: dict[str, Field] = field(default_factory=dict)
    rest: Field | None = None
    item: Field | None = None
    mapping: bool = False
    listing: bool = False
    key: Callable[[str], str | None] | None = None
    foreign: Mapping[str, str] = field(default_factory=dict)

    def what(self) -> str:
        """Return in words what is expected."""
        wanted = [self.kind.what] if self.kind else []
        wanted += ["a mapping"] if self.mapping else []
        wanted += ["a list"] if self.listing else []
        return " or ".join(wanted)


# Reading plain scalars --------------------------------------------------------------------------------------


def _as_written(text: str) -> str:
    return text


def _text(text: str) -> str | None:
    return None if text in _NULLS else text


def _truth(text: str) -> bool | str | None:
    return _TRUTHS.get(text, _text(text))


def core(text: str) -> Any:
    """Return what a plain scalar of no known field stands for.

    A number only where it would be written back the same way: 012, 1e3, 1.10 and 0x1F stay text, as do
    dates and the words yes, no, on and off.
    """
    if text in _NULLS:
        return None
    if text in _CORE_TRUTHS:
        return _CORE_TRUTHS[text]
    if _WHOLE.fullmatch(text) and text != "-0" and int(text) in _WORD:
        return int(text)
    if _DECIMAL.fullmatch(text) and written(float(text)) == text:
        return float(text)
    return text


def written(number: float) -> str:
    """Return a number with a point as every YAML reads it: 1.5, 1.0e+16."""
    text = repr(number)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


# Kinds ------------------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value


def _is_release(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int | float) and _is_finite(value))


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and len(value) <= VALUE_LIMIT and len(value.encode()) <= VALUE_LIMIT
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _is_count(value: Any) -> bool:
    return value == "" or bool(amounts.whole(value))


def _is_any(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    return value in _WORD if isinstance(value, int) else _is_finite(value)


def _is_mount(value: Any) -> bool:
    try:
        mounts.parse(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _or_blank(fits: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Take '' for not given, as FastTrack's forms leave it."""
    return lambda value: value == "" or fits(value) is not None


TEXT = Kind("a text", "wrong_type", _text, _is_text)
_RELEASE = Kind("a text", "wrong_type", _text, _is_release)
_VALUE = Kind("a text, number or boolean of less than 128 KiB", "bad_value", _as_written, _is_value)
_YES_NO = Kind("true or false", "wrong_type", _truth, _or_blank(amounts.truth))
_WHOLE_NUMBER = Kind("a whole number from 0", "bad_number", core, _or_blank(amounts.whole))
_COUNT = Kind("a whole number from 1", "bad_number", core, _is_count)
_AMOUNT = Kind("a number such as 4 or 1.5", "bad_amount", core, _or_blank(amounts.amount))
_SIZE = Kind("a size such as 16g, 512m or 1.5g", "bad_size", core, _or_blank(amounts.size))
_QUANTITY = Kind("a number or a size such as 16g", "bad_amount", core, _or_blank(amounts.size))
_MOUNT = Kind(f"{mounts.FORMS}, at a path of its own", "bad_mount", _text, _is_mount)
_HASH = Kind("a SHA-256 in 64 hex digits", "bad_hash", _text, _is_sha256)
_ANY = Kind("a number of 64 bits, a text without NUL, true or false", "bad_value", core, _is_any)

# Fields, in FastTrack's order -------------------------------------------------------------------------------

FREE = Field(_ANY, mapping=True, listing=True)
"""A place that no table describes: anything may stand there."""

_text_field, _yes_no = Field(TEXT), Field(_YES_NO)


def _mapping(
    fields: dict[str, Field], rest: Field | None = None, foreign: Mapping[str, str] | None = None
) -> Field:
    return Field(fields=fields, rest=rest, mapping=True, foreign=foreign or {})


def _list(item: Field | None = None) -> Field:
    return Field(item=item, listing=True)


VARIABLES = Field(rest=Field(_VALUE), mapping=True, key=variable_name_problem)
_ENVIRONMENT = _mapping(
    {
        "project": _text_field,
        "scaling-group": _text_field,
        "image": _text_field,
        "envs": VARIABLES,
    },
    foreign=foreign_keys.ENVIRONMENT,
)
_SLOTS = Field(_QUANTITY, rest=Field(_QUANTITY), mapping=True)
_RESOURCES = _mapping({"cpu": Field(_AMOUNT), "mem": Field(_SIZE), "memory": Field(_SIZE)}, _SLOTS)
_RESOURCE_OPTS = _mapping({"shmem": Field(_SIZE)})
_MOUNTS = _list(Field(_MOUNT))
_SERVICE = _mapping(
    {
        "name": _text_field,
        "model": _text_field,
        "model_mount_destination": _text_field,
        "model_definition_path": _text_field,
        "runtime_variant": _text_field,
        "replicas": Field(_WHOLE_NUMBER),
        "open_to_public": _yes_no,
        "ephemeral": _yes_no,
        "max_surge": Field(_ANY),
        "max_unavailable": Field(_ANY),
    }
)
TASK = _mapping(
    {
        "name": _text_field,
        "description": _text_field,
        "type": _text_field,
        "cluster_mode": _text_field,
        "cluster_size": Field(_COUNT),
        "module_uri": _text_field,
        "executor": _text_field,
        "command": _text_field,
        "environment": _ENVIRONMENT,
        "resources": _RESOURCES,
        "resource_opts": _RESOURCE_OPTS,
        "dependencies": _list(_text_field),
        "mounts": _MOUNTS,
        "skip": _yes_no,
        "continue_on_failure": _yes_no,
        "retry": _mapping(
            {"max_attempts": Field(_WHOLE_NUMBER), "delay": Field(_AMOUNT)}, foreign=foreign_keys.RETRY
        ),
        "service": _SERVICE,
    },
    foreign=foreign_keys.TASK,
)
PIPELINE = _mapping(
    {
        "version": Field(_RELEASE),
        "name": _text_field,
        "description": _text_field,
        "ownership": _mapping(dict.fromkeys(("domain_name", "domain", "scope", "group_name"), _text_field)),
        "storage": _mapping({"host": _text_field, "name": _text_field}),
        "is_active": _yes_no,
        "executor": _text_field,
        "code": _text_field,
        "code_sha256": Field(_HASH),
        "environment": _ENVIRONMENT,
        "resources": _RESOURCES,
        "resource_opts": _RESOURCE_OPTS,
        "mounts": _MOUNTS,
        "params": _list(),
        "tasks": Field(item=TASK, rest=TASK, mapping=True, listing=True),
    },
    foreign=foreign_keys.PIPELINE,
)
