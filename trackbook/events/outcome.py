"""The outcome of a command that changed no aggregate, stored on its own subject.

Aggregate kind `outcome`, id = SHA-256 of the command id (32 hex digits); always version 1.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class CommandAnswered(Struct, frozen=True, tag_field="type"):
    """The command was refused for the state it met, or found nothing to change; this was the reply."""

    command_id: str
    digest: str
    reply: dict[str, Any]


AnyOutcomeEvent = CommandAnswered
