"""The files that the wrapper leaves in the pipeline's folder, their names, and how they are read.

All lie in `.trackbook/<job>/`: `<index>-<attempt>.claim/by` (who runs the attempt), `.alive` (a sign of life),
`.log` (the output), `.cut` (how much of that was dropped), `.command` (a long command), `.stop` (that the command
is to be stopped, and the seconds from SIGTERM to SIGKILL), `.exit` (how it ended). Beside the jobs' folders lies
`.trackbook/code/`, with the archives of the pipeline's code, each named by its SHA-256.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from msgspec import Struct

from trackbook.adapters.backendai.session import unpacking
from trackbook.engine.ports import SessionSpec

FOLDER = ".trackbook"
ARCHIVES = f"{FOLDER}/code"


class Claim(Struct, frozen=True):
    """Who runs the attempt: the cluster's ids of session and container, '' where they are not known."""

    session: str = ""
    kernel: str = ""
    started_at: datetime | None = None


class ExitRecord(Struct, frozen=True, kw_only=True):
    """How the command ended. `stopped` says that somebody had it ended; `size` is that of the whole output.

    `outputs` are the first files that it left; `tail` ends its output, all of it where that is short.
    `result` is the size of the file with its result, None where there is none. `problem` says why the command was
    not run: its code could not be unpacked.
    """

    attempt: int
    ended_at: datetime
    session: str = ""
    kernel: str = ""
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    problem: str = ""
    size: int = 0
    outputs: tuple[str, ...] = ()
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
    """Return what the file `by` says, as much as can be read."""
    words, _ = _words(data)
    return Claim(words.get("session", ""), words.get("kernel", ""), _time(words.get("started_at", "")))


def read_record(data: bytes) -> ExitRecord:
    """Return the exit record. Raises ValueError for what is none, or not whole."""
    head, found, rest = data.partition(b"\nlog\n")
    if not found or not rest.endswith(b"\nend\n"):
        raise ValueError("the exit record is not whole")
    words, outputs = _words(head)
    ended_at = _time(words.get("ended_at", ""))
    if words.get("trackbook") != "1" or ended_at is None or not ("exit_code" in words) ^ ("signal" in words):
        raise ValueError("the exit record can't be read")
    return ExitRecord(
        attempt=int(words.get("attempt", "0")),
        session=words.get("session", ""),
        kernel=words.get("kernel", ""),
        started_at=_time(words.get("started_at", "")),
        ended_at=ended_at,
        exit_code=int(words["exit_code"]) if "exit_code" in words else None,
        signal=int(words["signal"]) if "signal" in words else None,
        stopped="stopped" in words,
        problem=words.get("problem", ""),
        size=int(words.get("size") or "0"),
        outputs=tuple(outputs),
        result=int(words["result"]) if words.get("result") else None,
        tail=rest.removesuffix(b"\nend\n"),
    )


def _words(data: bytes) -> tuple[dict[str, str], list[str]]:
    words: dict[str, str] = {}
    outputs: list[str] = []
    for line in data.decode(errors="replace").split("\n"):
        key, _, value = line.partition(" ")
        if key == "output":
            outputs.append(value.removeprefix("./"))
        elif key:
            words.setdefault(key, value)
    return words, outputs


def _time(text: str) -> datetime | None:
    """Return a time that `date` wrote, with or without nanoseconds."""
    with contextlib.suppress(ValueError):
        seconds, _, fraction = text.removesuffix("Z").partition(".")
        at = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
        return at.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    return None
