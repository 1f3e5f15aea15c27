"""Rows of the ledger, each with a checksum, since SQLite does not see a flipped bit in a value."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trackbook.engine.names import enumerated
from trackbook.errors import UserError

KEYS = {"head": 2, "outcome": 1, "fault": 2, "checkpoint": 1}
"""How many of a table's columns, from the first on, are its key."""

NAMED = 10
"""Rows of a table that are named where they are damaged."""

_LONGEST = 80  # characters of a part of a key
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LedgerDamaged(UserError):
    """The ledger's file can't be read, or a row of it was changed by somebody else; it is made again."""


class Head(Struct, frozen=True):
    """The last commit of an aggregate; `open` is false once it had its terminal event."""

    kind: str
    id: str
    version: int
    first_seq: int
    seq: int
    sha256: str
    open: bool


class Outcome(Struct, frozen=True):
    """What a command id was answered, and the digest of the payload that it was answered for."""

    command_id: str
    digest: str
    reply: dict[str, Any]


class Fault(Struct, frozen=True):
    """The first commit of an aggregate that can't follow the intact ones before it, and why."""

    kind: str
    id: str
    seq: int
    sha256: str
    version: int
    reason: str


class Note(Struct, frozen=True):
    """What one stored commit adds to the ledger."""

    head: Head
    outcomes: list[Outcome]


class Written(Struct, frozen=True):
    """What the file has: heads by kind and id, the ids of answered commands, and up to which sequence."""

    heads: list[Head] = []
    commands: set[str] = set()
    seq: int = 0


def checksum(values: Sequence[Any]) -> int:
    """Return the checksum of a row."""
    return zlib.crc32(repr(tuple(values)).encode())


def summed(row: Head | Fault) -> tuple[Any, ...]:
    """Return the values of a row with their checksum."""
    # As SQLite returns them; a list and no calls, since each commit comes by here.
    values = [int(each) if each is True or each is False else each for each in msgspec.structs.astuple(row)]
    return (*values, checksum(values))


def checked(row: tuple[Any, ...], path: Path) -> tuple[Any, ...]:
    """Return the values of a row without their checksum; raises LedgerDamaged where that is wrong."""
    if checksum(row[:-1]) != row[-1]:
        raise LedgerDamaged(f"{path} is damaged: the checksum of a row is wrong")
    return row[:-1]


def damage_of(error: sqlite3.DatabaseError, path: Path) -> LedgerDamaged | None:
    """Return the damage that SQLite's error tells of, None for other errors."""
    undecodable = str(error).startswith("Could not decode")  # sqlite3 gives it no code
    if undecodable or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return LedgerDamaged(f"{path} is damaged: {error}")
    return None


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """Read every row of the file; raises LedgerDamaged naming the rows whose checksum is wrong."""
    db.text_factory = lambda data: data.decode(errors="backslashreplace")  # one that is damaged is named as well
    found = []
    for table, key in KEYS.items():
        wrong: list[str] = []
        number = 0
        for row in db.execute(f"SELECT * FROM {table}"):  # noqa: S608 - names of ours
            if checksum(row[:-1]) != row[-1]:
                number += 1
                wrong += ["/".join(str(part)[:_LONGEST] for part in row[:key])][: NAMED - len(wrong)]
        if number:
            found.append(f"the checksum is wrong in table {table}: {enumerated(wrong, number)}")
    if found:
        raise LedgerDamaged(f"{path} is damaged: {'; '.join(found)}")


def head_of(row: tuple[Any, ...]) -> Head:
    """Return the head that a row holds."""
    return Head(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]))
