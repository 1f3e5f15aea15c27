"""What the engine says no with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Refused(Exception):
    """A command was refused; nothing changed.

    `code` is stable and in snake_case, `message` says what was found, `hint` what to try. `path` names the
    place in the payload (`tasks[2].resources.mem`); `line` and `column` count from 1 in the YAML it came from.
    `others` holds further refusals found in the same pass.
    """

    code: str
    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None
    hint: str = ""
    others: list[Refused] = field(default_factory=list)

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        place = f" (at {self.path})" if self.path else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{where}{self.message}{place}.{hint}"


@dataclass(frozen=True)
class Warned:
    """Something that is accepted and not acted on, or acted on in a way that the author may not expect."""

    code: str
    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None
