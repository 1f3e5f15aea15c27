"""The outcome of a command that changed no aggregate, as an aggregate of one commit."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trackbook.events.outcome import CommandAnswered


class AnswerCommand(Struct, frozen=True, tag_field="type"):
    """Keep this reply as the command's outcome for ever."""

    command_id: str
    digest: str
    reply: dict[str, Any]


def decide(_state: None, command: AnswerCommand) -> list[CommandAnswered]:
    """Return the one fact."""
    return [CommandAnswered(command.command_id, command.digest, command.reply)]


def evolve(state: None, _event: CommandAnswered) -> None:
    """Remember nothing: the reply is looked up by the command's id."""
    return state
