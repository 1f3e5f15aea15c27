"""Escape variables with line breaks, because agents read one variable a line.

An agent leaves a session's variables in a file of lines `NAME=value`, and what reads that stops at the first line
without a `=`. So such values are sent in one line each, escaped, and the wrapper puts the line breaks back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = "TRACKBOOK_ESCAPED"
"""The variable with the names of those that are escaped; the command does not see it."""
DECODE = f"""\
for _tb_variable in ${{{NAMES}:-}}; do
  eval "_tb_value=\\${{$_tb_variable}}"
  _tb_value=$(printf "%bx" "$_tb_value")
  export "$_tb_variable=${{_tb_value%x}}"
done
unset {NAMES}"""
"""Puts the line breaks back; `x` keeps the last ones, which the shell would drop."""
_LONGEST = 131_000
"""Bytes of a variable with its name: the kernel takes 128 KiB."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BREAKS = re.compile("[\\\\\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def has_breaks(value: str) -> bool:
    """Whether a value is more than one line for what reads the agent's file."""
    return bool(value) and value.splitlines() != [value]


def escape(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables as they are sent, in one line each. Raises ValueError for what can't be sent so."""
    names = sorted(name for name, value in variables.items() if has_breaks(value))
    if not names:
        return dict(variables)
    found = dict(variables)
    for name in names:
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(
                f"the variable {name!r} has line breaks, which needs a name of letters, digits and _"
            )
        found[name] = _BREAKS.sub(_escape, variables[name])
        if len(f"{name}={found[name]}".encode(errors="surrogateescape")) > _LONGEST:
            raise ValueError(f"the variable {name} has more than {_LONGEST:,} bytes with its line breaks escaped")
    return found | {NAMES: " ".join(names)}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _SHORT.get(character) or "".join(f"\\0{byte:03o}" for byte in character.encode())
