"""Stdout and stderr that fail: a full disk, a closed pipe, or a terminal that was closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from trackbook.errors import UserError


class OutputLost(UserError):
    """What a command printed could not be written."""

    def __init__(self, lost: Exception) -> None:
        self.reader_gone = isinstance(lost, BrokenPipeError)
        why = getattr(lost, "strerror", None) or lost
        super().__init__(
            f"the output can't be written to stdout: {why}",
            "Free some space there or send the output elsewhere; the command's effects stay.",
        )


class _Stream:
    """A text stream whose failures don't end the process with a traceback."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: Any) -> int:
        """Write the text."""
        self._attempt(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        self._attempt(self._stream.flush)

    def _attempt(self, operation: Any, *arguments: Any) -> None:
        operation(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Output(_Stream):
    """Stdout: raises OutputLost, or only keeps it in `lost` while the command's result counts more."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.lost: OutputLost | None = None
        self.tolerant = False

    @property
    def buffer(self) -> Any:
        """The bytes below."""
        return _Bytes(self)

    def _attempt(self, operation: Any, *arguments: Any) -> None:
        try:
            operation(*arguments)
        except (BrokenPipeError, UnicodeError):  # a reader that has what it wants ends the command quietly
            raise
        except (OSError, ValueError) as problem:
            self.lost = self.lost or OutputLost(problem)
            redirect_to_null(self._stream)
            if not self.tolerant:
                raise self.lost from None


class _Bytes(_Stream):
    """The bytes below stdout, which fail as it does."""

    def __init__(self, output: Output) -> None:
        super().__init__(output._stream.buffer)
        self._attempt = output._attempt  # type: ignore[method-assign]


class Messages(_Stream):
    """Stderr: a message that can't be written changes nothing."""

    def _attempt(self, operation: Any, *arguments: Any) -> None:
        try:
            operation(*arguments)
        except UnicodeError:
            raise
        except (OSError, ValueError):
            redirect_to_null(self._stream)


def redirect_to_null(stream: Any) -> None:
    """Point a stream that can't be written at /dev/null.

    Else Python can't write the rest when it exits, and the exit code is 120.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def say(text: str) -> None:
    """Print a message on stderr, after flushing what was printed on stdout.

    Never raises: the command continues if the message can't be written.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        redirect_to_null(sys.stderr)


@contextmanager
def result_counts() -> Iterator[None]:
    """Let a command continue although its output can't be written: its exit code is the result."""
    output = getattr(sys.stdout, "stream", None)
    if not isinstance(output, Output):
        yield
        return
    output.tolerant = True
    try:
        yield
    finally:
        output.tolerant = False


def output_lost() -> OutputLost | None:
    """Return why stdout could not be written since `guarded`; writes what is still buffered."""
    output = getattr(sys.stdout, "stream", None)
    if not isinstance(output, Output):
        return None
    try:
        output.flush()
    except BrokenPipeError as problem:
        redirect_to_null(output)
        return output.lost or OutputLost(problem)
    except OutputLost:
        pass
    return output.lost
