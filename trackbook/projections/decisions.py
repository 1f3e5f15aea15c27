"""Operators' decisions about damage to the log, as the read models need them."""

from __future__ import annotations

from typing import Protocol


class Decisions(Protocol):
    """What operators decided about damage to the log."""

    def is_dismissed(self, seq: int, data: bytes) -> bool:
        """Whether this message is left out of its history."""
        ...

    def is_accepted(self, first: int, last: int) -> bool:
        """Whether it is known and accepted that the log has no messages at these sequences."""
        ...


class NothingDecided:
    """The decisions about a log that was never damaged."""

    def is_dismissed(self, seq: int, data: bytes) -> bool:  # noqa: ARG002
        """Return that it is not."""
        return False

    def is_accepted(self, first: int, last: int) -> bool:  # noqa: ARG002
        """Return that it is not."""
        return False
