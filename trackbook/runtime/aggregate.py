"""An aggregate in memory, a commit that is decided on it, and what commits answered to commands."""

from __future__ import annotations

import os
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from trackbook.adapters.sql.rows import Outcome
from trackbook.events.commit import Input
from trackbook.runtime.histories import AnyCommit

REMEMBERS = "no-dedup" not in os.environ.get("TRACKBOOK_UNSAFE", "").split(",")
"""Test switch that shows what remembering outcomes is for: without it, a command sent again is decided again."""

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
    answered: set[str] = field(default_factory=set)
    """Ids of the commands that its commits have answered; the replies are on the log."""

    def note_answered(self, commands: list[Outcome]) -> None:
        """Take note of what a commit has answered."""
        if REMEMBERS:
            self.answered.update(each.command_id for each in commands)


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
