"""An aggregate in memory, a commit that is decided on it, and what commits answered to commands."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from msgspec import Struct

from trackbook.adapters.sql.rows import Outcome
from trackbook.events.commit import Input
from trackbook.runtime.histories import AnyCommit

S = TypeVar("S")


class Aggregate(Struct, Generic[S]):
    """An aggregate as its commits left it, and where the next one goes."""

    kind: str
    id: str
    state: S
    version: int = 0
    first_seq: int = 0
    seq: int = 0
    sha256: str = ""
    correlation: str = ""
    """Of the command that the aggregate began with: what follows from no other command belongs to it."""


class Draft(Struct):
    """A commit decided and not yet appended, with the state that it leads to."""

    aggregate: Aggregate[Any]
    inputs: list[Input[Any]]
    events: list[Any]
    causes: list[int]


def outcomes(commit: AnyCommit, seq: int) -> list[Outcome]:
    """Return what the commit answered to commands, each reply with the commit's sequence."""
    if commit.kind == "outcome":
        return [Outcome(e.command_id, e.digest, e.reply | {"seq": seq}) for e in commit.events]
    return [
        Outcome(given.id, given.digest, given.reply | {"seq": seq})
        for given in commit.inputs
        if given.reply is not None
    ]
