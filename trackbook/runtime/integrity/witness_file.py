"""The witness file: records the log's heads and evidence of loss, outside the broker."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from trackbook.events.log import Evidence
from trackbook.private_files import private_file, write_private

FILE = "witness.log"
_LARGEST = 1 << 20  # bytes from which the file is rewritten with what still counts

log = structlog.get_logger(__name__)


class Head(Struct, frozen=True):
    """The end of a log: the sequence of its last message and the SHA-256 of that, in the installation's log."""

    seq: int = 0
    sha256: str = ""
    installation: str = ""


class AnyWitness(Protocol):
    """Remembers how far the log had come; `problem` says why it can't just now."""

    installation: str
    head: Head
    problem: str

    @property
    def name(self) -> str:
        """How it is called in messages."""
        ...

    @property
    def evidence(self) -> dict[str, Evidence]:
        """Evidence of loss that it remembers, by its id."""
        ...

    def record_head(self, seq: int, sha256: str) -> None:
        """Remember the end of the log, unless it is known to be further on. Never raises."""
        ...

    def record(self, evidence: Evidence) -> None:
        """Remember evidence for good. Raises OSError."""
        ...

    def rewind(self, head: Head) -> None:
        """Remember an earlier end of the log. Raises OSError."""
        ...


class _Record(Struct, omit_defaults=True):
    """One line; either of the two."""

    head: Head | None = None
    evidence: Evidence | None = None


_decode = msgspec.json.Decoder(_Record).decode
_encode = msgspec.json.Encoder().encode


class Witness:
    """Lines of `<crc32> <JSON>`, only ever added; the last head counts, and all evidence.

    A head is written after the broker acknowledged the commit and before the command is answered. It is not
    synced: it may lag behind the log after a power cut, and never leads it where the broker syncs each write.
    Evidence is synced, and written twice, so that no single flipped bit can hide it.
    """

    def __init__(self, path: Path, installation: str = "") -> None:
        self.path, self.installation = path, installation
        self.is_new = not path.exists()
        self.head = Head(installation=installation)
        self.evidence: dict[str, Evidence] = {}
        self.damaged_lines = 0
        self.problem = ""
        self._file = os.open(private_file(path), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._size = self._read()
        if self.damaged_lines:
            log.warning("witness.damaged", path=str(path), lines=self.damaged_lines)
            self._compact()

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def _read(self) -> int:
        data = self.path.read_bytes()
        for line in data.splitlines():
            if (record := _record(line)) is None:
                self.damaged_lines += 1
                continue
            if record.head is not None and record.head.installation == self.installation:
                self.head = record.head
            if record.evidence is not None:
                self.evidence[record.evidence.id] = record.evidence
        if data and not data.endswith(b"\n"):
            os.write(self._file, b"\n")  # what a power cut left half written ends here
        return len(data)

    def record_head(self, seq: int, sha256: str) -> None:
        """Remember the end of the log, unless it is known to be further on. Never raises: `problem` says why."""
        if seq > self.head.seq:
            self.head = Head(seq, sha256, self.installation)
            self._append([_Record(head=self.head)])

    def record(self, evidence: Evidence) -> None:
        """Remember evidence for good; it is on the disk when this returns. Raises OSError."""
        self.evidence[evidence.id] = evidence
        self._append([_Record(evidence=evidence)] * 2, needed=True)
        os.fsync(self._file)

    def rewind(self, head: Head) -> None:
        """Remember an earlier end of the log, since an operator accepted the loss of what came after it."""
        self.head = Head(head.seq, head.sha256, self.installation)
        self._append([_Record(head=self.head)] * 2, needed=True)
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, records: Iterable[_Record], *, needed: bool = False) -> None:
        data = b"".join([_line(record) for record in records])
        try:
            os.write(self._file, data)
        except OSError as error:
            if needed:
                raise
            if not self.problem:
                log.warning("witness.not_written", path=str(self.path), error=str(error))
            self.problem = f"{self.path} can't be written: {error.strerror}"
            return
        self.problem = ""
        self._size += len(data)
        if self._size > _LARGEST:
            with suppress(OSError):  # a full disk: it may grow a little
                self._compact()

    def _compact(self) -> None:
        records = [_Record(evidence=each) for each in self.evidence.values()] + [_Record(head=self.head)]
        data = b"".join(_line(record) * 2 for record in records)
        write_private(self.path, data, synced=True)
        old, self._file = self._file, os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        os.close(old)
        self._size = len(data)


def _record(line: bytes) -> _Record | None:
    """Return what a line says, None where its checksum or form is wrong."""
    checksum, _, text = line.partition(b" ")
    try:
        return _decode(text) if int(checksum, 16) == zlib.crc32(text) else None
    except (ValueError, msgspec.MsgspecError):
        return None


def _line(record: _Record) -> bytes:
    text = _encode(record)
    return b"%08x %b\n" % (zlib.crc32(text), text)
