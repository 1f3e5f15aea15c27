"""Quote a task's command as an argument of a shell."""

from __future__ import annotations


def shell_argument(command: str) -> str:
    """Return the command as what follows `sh -c`.

    One that begins with `-` or `+` would be taken for an option. A blank before it prevents that in every shell,
    which `--` does not.
    """
    return f" {command}" if command[:1] in ("-", "+") else command
