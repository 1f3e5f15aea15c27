"""The files that the wrapper leaves in the pipeline's folder, their names, and how they are read.

All lie in `.trackbook/<job>/`: `<index>-<attempt>.claim/by` (who runs the attempt), `.alive` (a sign of life),
`.log` (the output), `.cut` (how much of that was dropped), `.command` (a long command), `.stop` (that the command
is to be stopped, and the seconds from SIGTERM to SIGKILL), `.exit` (how it ended). Beside the jobs' folders lies
`.trackbook/code/`, with the archives of the pipeline's code, each named by its SHA-256.
"""

from __future__ import annotations

import contextlib
from datetime import datetime

import msgspec
from msgspec import Struct

from trackbook.adapters.backendai.session import unpacking
from trackbook.adapters.execution.exit_record import ExitRecord, parse
from trackbook.engine.ports import SessionSpec

FOLDER = ".trackbook"
ARCHIVES = f"{FOLDER}/code"
_LAST = b"\nend\n"


class Claim(Struct, frozen=True):
    """Who runs the attempt: the cluster's ids of session and container, '' where they are not known."""

    session: str = ""
    kernel: str = ""
    started_at: datetime | None = None


class SessionRecord(ExitRecord, kw_only=True, omit_defaults=True):
    """How the command ended. `stopped` says that somebody had it ended; `size` is that of the whole output.

    `tail` ends the output, all of it where that is short. `result` is the size of the file with its result, None
    where there is none. `problem` says why the command was not run: its code could not be unpacked.
    """

    attempt: int
    session: str = ""
    kernel: str = ""
    problem: str = ""
    size: int = 0
    result: int | None = None
    tail: bytes = b""

    @property
    def lacks_code(self) -> bool:
        """Whether the command was not run since the archive of its code is missing or damaged."""
        return bool(self.problem) and self.exit_code == unpacking.BAD_ARCHIVE


def folder(job: str) -> str:
    """Return the folder of a job's records, in the pipeline's folder."""
    return f"{FOLDER}/{job}"


def name(spec: SessionSpec) -> str:
    """Return what the names of a session's records begin with."""
    return f"{spec.index}-{spec.attempt}"


def path(spec: SessionSpec, suffix: str) -> str:
    """Return one of a session's records, in the pipeline's folder; `suffix` is `exit`, `log` …"""
    return f"{folder(spec.job)}/{name(spec)}.{suffix}"


def archive(code: str) -> str:
    """Return the archive of this hash, in the pipeline's folder."""
    return f"{ARCHIVES}/{code}.tar"


def read_claim(data: bytes) -> Claim:
    """Return what the file `by` says; nothing where it can't be read."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=Claim)
    return Claim()


def read_record(data: bytes) -> SessionRecord:
    """Return the exit record: a line of JSON, the end of the output, a last line. Raises ValueError."""
    head, _, rest = data.partition(b"\n")
    if not rest.endswith(_LAST):
        raise ValueError("the exit record is not whole")
    record = parse(head, SessionRecord)
    if (record.exit_code is None) == (record.signal is None):
        raise ValueError("the exit record can't be read: it has neither exit code nor signal, or both")
    record.tail = rest.removesuffix(_LAST)
    return record
