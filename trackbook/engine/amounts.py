"""Amounts of resources as people write them: `4`, `'1.5'`, `16g`, `512m`, `2GiB`."""

from __future__ import annotations

import math
import re
from typing import Any

# A leading zero is not read: YAML 1.1 takes 012 for ten, everyone else for twelve.
_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,9})?")
_SIZE = re.compile(rf"({_AMOUNT.pattern})\s*(?:([kmgtpe])i?)?b?", re.IGNORECASE | re.ASCII)
_UNITS = "kmgtpe"
_LIMIT = 2**63
"""Sizes stay below it, so that they fit every counter on the way."""


def amount(value: Any) -> int | float | None:
    """Return a number of units (cores, shares, devices) that is not negative; None where it can't be read."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < _LIMIT else None
    if isinstance(value, float):
        return value if math.isfinite(value) and value >= 0 else None
    if isinstance(value, str) and _AMOUNT.fullmatch(value):
        return float(value) if "." in value else int(value)
    return None


def size(value: Any) -> int | None:
    """Return a size in bytes, units being powers of 1024 and a bare number bytes; None where it can't be read."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            return None
        power = _UNITS.index(match[2].lower()) + 1 if match[2] else 0
        number = match[1]
        value = float(number) * 1024**power if "." in number else int(number) * 1024**power
    number_of_bytes = amount(value)
    return int(number_of_bytes) if number_of_bytes is not None and number_of_bytes < _LIMIT else None


def whole(value: Any) -> int | None:
    """Return a whole number that is not negative; None where it can't be read."""
    number = amount(value)
    return number if isinstance(number, int) else None


def truth(value: Any) -> bool | None:
    """Return a yes or no, as a boolean or in words; None where it can't be read."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
