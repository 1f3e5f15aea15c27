"""Errors on stderr: as text, or with `--json` as one line of JSON, the last one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from trackbook.cli.terminal.streams import say

_PREFIX = "trackbook: "


def report(lines: Sequence[str], code: str = "failed", problem: BaseException | None = None) -> None:
    """Print an error as these lines, or as `{"error": {"code", "message", …}}` if JSON was asked for."""
    if not _wants_json(sys.argv[1:]):
        say("\n".join(lines))
        return
    from trackbook.cli.terminal.formatting import json_text

    say(json_text({"error": error_of(lines, code, problem)}))


def error_of(lines: Sequence[str], code: str, problem: BaseException | None) -> dict[str, Any]:
    """Return an error for scripts: a server's own as it was answered, else the first line and a hint."""
    from trackbook.cli.errors import Rejected, Unreachable

    if isinstance(problem, Rejected):
        found = {"code": code, "message": str(problem), **problem.error}
        return found | ({"source": problem.source} if problem.source else {})
    if isinstance(problem, Unreachable):
        code = "unreachable"
    message, *rest = lines or [""]
    hint = " ".join(line.strip() for line in rest)
    return {"code": code, "message": message.removeprefix(_PREFIX), **({"hint": hint} if hint else {})}


def _wants_json(arguments: Sequence[str]) -> bool:
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before
