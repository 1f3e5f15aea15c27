"""Quoted names in options such as `TASK:COMMAND`, `PIPELINE:PATH` and `TASK.PATH=VALUE`.

A name that contains the mark behind it is written in double quotes, as in JSON: `"a:b":COMMAND`.
"""

from __future__ import annotations

import json

from trackbook.cli.errors import CliError


def take_name(text: str, mark: str) -> tuple[str, str, bool]:
    """Return the name before a mark, what comes behind it, and whether the mark was there; raises CliError."""
    if not text.startswith('"'):
        name, found, rest = text.partition(mark)
        return name, rest, bool(found)
    name, end = _read_quoted(text)
    rest = text[end:].lstrip()
    return name, rest.removeprefix(mark), rest.startswith(mark)


def whole_name(text: str) -> str:
    """Return a name that nothing follows, without its quotes if it has some; raises CliError."""
    if not text.startswith('"'):
        return text
    name, end = _read_quoted(text)
    if text[end:].strip():
        raise CliError(f"{text!r}: nothing may follow the name in quotes")
    return name


def spell_name(name: str, mark: str) -> str:
    """Return a name as `take_name` reads it."""
    plain = mark not in name and not name.startswith('"')
    return name if plain else json.dumps(name, ensure_ascii=False)


def _read_quoted(text: str) -> tuple[str, int]:
    """Return the name in quotes at the beginning, and where they end."""
    try:
        name, end = json.JSONDecoder().raw_decode(text)
        return str(name), end
    except ValueError:
        pass
    name, quote, _ = text[1:].partition('"')  # backslashes as they are
    if not quote:
        raise CliError(f"{text!r} lacks the closing quote of the name")
    return name, len(name) + 2
