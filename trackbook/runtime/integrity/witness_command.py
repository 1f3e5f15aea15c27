"""An external witness: a command that receives each head of the log, and returns the last one at a start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
import time

import msgspec
import structlog

from trackbook.errors import UserError
from trackbook.events.log import Evidence
from trackbook.runtime.integrity.witness_file import Head

_ANSWERS_WITHIN = 10.0  # seconds for the command to return the last head
_ENDS_WITHIN = 5.0  # seconds for it to end once its standard input is closed
_LONGEST = 4096  # bytes of its answer

log = structlog.get_logger(__name__)


class WitnessFailed(UserError):
    """The command does not return the last head that it received."""


class WitnessCommand:
    """Runs a shell command that gets a line of JSON for each head: `{"seq", "sha256", "installation"}`.

    When it starts it prints the last line that it was given, or an empty one. A command that reads slowly misses
    heads, never the latest: it may lag behind the log, as each witness may.
    """

    def __init__(self, command: str, process: subprocess.Popen[bytes], head: Head, installation: str) -> None:
        self.command, self.installation, self.head = command, installation, head
        self.evidence: dict[str, Evidence] = {}
        self.problem = ""
        self._process = process
        self._rest = b""
        self._skipped = False

    @classmethod
    async def start(cls, command: str, installation: str) -> WitnessCommand:
        """Run the command and ask for the last head; raises WitnessFailed."""
        process = await asyncio.to_thread(_run, command)
        try:
            line = await asyncio.to_thread(_first_line, process)
            head = msgspec.json.decode(line, type=Head) if line.strip() else Head()
        except (TimeoutError, msgspec.MsgspecError) as error:
            process.kill()
            await asyncio.to_thread(process.communicate)
            hint = "It has to print the last line that it was given, or an empty one, and then read its input."
            raise WitnessFailed(f"the witness command {command!r} returns no last head: {error}", hint) from None
        except BaseException:  # the start is given up
            process.kill()
            raise
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        known = head if head.installation == installation else Head()
        return cls(command, process, msgspec.structs.replace(known, installation=installation), installation)

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"the witness command {self.command!r}"

    def record_head(self, seq: int, sha256: str) -> None:
        """Give the command a head, unless it had a later one. Never raises: `problem` says why it can't."""
        if seq > self.head.seq:
            self.head = Head(seq, sha256, self.installation)
            self._give()

    def record(self, evidence: Evidence) -> None:
        """Do nothing: evidence is kept in the data directory."""

    def rewind(self, head: Head) -> None:
        """Give the command an earlier head, since the loss of what came after it was accepted."""
        self.head = Head(head.seq, head.sha256, self.installation)
        self._give()

    def close(self) -> None:
        """Give it the last head if it lacks that, and let it end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            os.set_blocking(self._process.stdin.fileno(), True)
            if self._skipped or self._rest:
                self._process.stdin.write(self._rest + (_line(self.head) if self._skipped else b""))
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _give(self) -> None:
        """Write the head without waiting; what does not fit is written with the next one."""
        assert self._process.stdin is not None
        try:
            if self._rest:
                self._rest = self._rest[os.write(self._process.stdin.fileno(), self._rest) :]
            if self._rest:
                self._skipped = True
                return
            data = _line(self.head)
            self._rest = data[os.write(self._process.stdin.fileno(), data) :]
            self._skipped = False
        except BlockingIOError:
            self._skipped = True
        except OSError as error:
            if not self.problem:
                log.warning("witness.command_failed", command=self.command, error=str(error))
            self.problem = f"{self.name} takes no heads any more: {error.strerror}"


def _run(command: str) -> subprocess.Popen[bytes]:
    """Start the command, which comes from the configuration, in a session of its own: Ctrl-C is not for it."""
    argv = ["/bin/sh", "-c", command]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603


def _line(head: Head) -> bytes:
    return msgspec.json.encode(head) + b"\n"


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the command's first line, b'' where it closes its output; raises TimeoutError."""
    assert process.stdout is not None
    descriptor, found = process.stdout.fileno(), b""
    deadline = time.monotonic() + _ANSWERS_WITHIN
    while b"\n" not in found and len(found) < _LONGEST:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"no answer within {_ANSWERS_WITHIN:g} s")
        more = os.read(descriptor, _LONGEST)
        if not more:
            break
        found += more
    return found.partition(b"\n")[0]
