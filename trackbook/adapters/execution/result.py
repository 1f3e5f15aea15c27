"""The result of an attempt: the JSON value that its command left as `result.json` in its outputs.

Tasks write there as they like, and the value is kept for ever, read by other programs too. So it is read strictly
(RFC 8259 with the limits of RFC 7493): UTF-8, no key twice, no NaN, numbers as programs have them, bounded size
and depth.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.safe_path import Outside, open_beneath

FILE = "result.json"
LIMIT = 2**20
"""Bytes that the file may have, and the value as it is stored."""
DEPTH = 64
"""How many arrays and objects may be in one another."""
TOO_LARGE = f"it has more than {LIMIT:,} bytes"
_OUT_OF_RANGE = "it has a number that is out of range: whole ones have 64 bits, others are those of IEEE 754"
_MOST_DIGITS = 20
"""Digits of a whole number of 64 bits, or one less with its sign."""


class Result(Struct, frozen=True):
    """The value, None where there is none. `warning` says why a file that is there is not used."""

    value: Any = None
    warning: str = ""


def read(outputs: Path) -> Result:
    """Return the result in an outputs folder of this machine."""
    try:
        data = _read(outputs)
    except (FileNotFoundError, NotADirectoryError):
        return Result()
    except Outside:
        return unusable("it is a link that leads out of the outputs")
    except ValueError as error:
        return unusable(str(error))
    except OSError as error:
        return unusable(error.strerror or str(error))
    return parse(data)


def _read(outputs: Path) -> bytes:
    with open_beneath(outputs, FILE) as place:
        if not stat.S_ISREG(place.status().st_mode):
            raise ValueError("it is not a file")
        with os.fdopen(place.open(os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return file.read(LIMIT + 1)


def parse(data: bytes) -> Result:
    """Return the result in a file's content, of which more than the limit need not be read."""
    try:
        return Result(_decode(data))
    except RecursionError:
        return unusable(_too_deep())
    except ValueError as error:
        return unusable(str(error))


def unusable(why: str) -> Result:
    """Return that there is a file which is not used."""
    return Result(warning=f"{FILE} is not used: {why}")


def _decode(data: bytes) -> Any:
    if len(data) > LIMIT:
        raise ValueError(TOO_LARGE)
    value = json.loads(
        data.decode(),
        object_pairs_hook=_unique,
        parse_constant=_refuse_constant,
        parse_float=_finite,
        parse_int=_whole,
    )
    if _is_deep(value):
        raise ValueError(_too_deep())
    try:
        stored = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair") from None
    if len(stored) > LIMIT:  # 1e15 is longer as it is stored
        raise ValueError(f"{TOO_LARGE} as it is stored")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:80]!r} is there more than once")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(_OUT_OF_RANGE)
    return number


def _whole(text: str) -> int:
    number = int(text) if len(text) <= _MOST_DIGITS else 1 << 64
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError(_OUT_OF_RANGE)
    return number


def _is_deep(value: Any) -> bool:
    level = _containers([value])
    for _ in range(DEPTH):
        level = _containers(
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        )
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, dict | list)]


def _too_deep() -> str:
    return f"more than {DEPTH} arrays and objects are in one another"
