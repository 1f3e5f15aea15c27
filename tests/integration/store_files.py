"""Damage to the files of an embedded broker's store, as disks and power cuts do it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from trackbook.adapters.nats.broker import EmbeddedBroker

RECORD_HEAD = 22
"""Bytes of a record before its subject: length, sequence, time, and the subject's length."""


async def kill(broker: EmbeddedBroker) -> None:
    """Kill the server with SIGKILL and leave it dead, as a power cut does."""
    assert broker._guard
    assert broker._process
    broker._guard.cancel()
    os.kill(broker.pid, signal.SIGKILL)
    await broker._process.wait()
    await broker.stop()


class StoreFiles:
    """The files of the stream of commits."""

    def __init__(self, data: Path, stream: str = "trackbook_events") -> None:
        (self.folder,) = (data / "broker" / "store").rglob(stream)

    @property
    def blocks(self) -> list[Path]:
        """The block files, the oldest first."""
        return sorted((self.folder / "msgs").glob("*.blk"), key=lambda path: int(path.stem))

    def flip_in_data(self, data: bytes) -> None:
        """Flip one bit of the message with these bytes."""
        path, at = self._find(data)
        flip(path, at + len(data) // 2)

    def flip_in_length(self, data: bytes, subject: str) -> None:
        """Flip one bit in the length of the record of the message with these bytes."""
        path, at = self._find(data)
        flip(path, path.read_bytes().rindex(subject.encode(), 0, at) - RECORD_HEAD)

    def cut(self, count: int) -> None:
        """Cut bytes off the last block."""
        last = self.blocks[-1]
        os.truncate(last, last.stat().st_size - count)

    def add(self, data: bytes) -> None:
        """Write behind the last message what is no whole message."""
        with self.blocks[-1].open("ab") as file:
            file.write(data)

    def swap(self, one: int, other: int) -> None:
        """Swap two block files."""
        first, second = self.blocks[one], self.blocks[other]
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)

    def _find(self, data: bytes) -> tuple[Path, int]:
        for path in self.blocks:
            if (at := path.read_bytes().find(data)) >= 0:
                return path, at
        raise LookupError(f"no block has {data!r}")


def flip(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
