"""The base of all errors that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """An error that a user can act on: its text says what went wrong and where, `hint` what to do.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def lines(self) -> list[str]:
        """Return the lines to print."""
        return [f"trackbook: {self}", *([f"  {self.hint}"] if self.hint else [])]
