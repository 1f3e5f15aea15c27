"""The damages of the campaign: each does something to the files of a data directory, as chance will have it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from damage.original import Original

Do = Callable[[Random, Path, Original], str]
_STREAMS = Path("broker/store/jetstream/ENGINE/streams")
_EVENTS, _BLOBS = _STREAMS / "trackbook_events", _STREAMS / "trackbook_blobs"
PLACES: dict[str, tuple[Path, str]] = {
    "event blocks": (_EVENTS, "msgs/*.blk"),
    "blob blocks": (_BLOBS, "msgs/*.blk"),
    "stream index": (_STREAMS, "*/msgs/index.db"),
    "stream meta": (_STREAMS, "*/meta.*"),
    "engine.db": (Path(), "engine.db*"),
    "readmodel.db": (Path(), "readmodel.db*"),
    "witness.log": (Path(), "witness.log"),
}
"""Which files can be damaged: a folder and a pattern below it."""
ADDED = (3, 20, 400, 4096)
"""Bytes that a write which was never acknowledged leaves behind the last message; the last one is all zeros."""


@dataclass(frozen=True)
class Damage:
    """A kind of damage to files. A `harmless` one takes nothing away: it may never be an alarm."""

    name: str
    do: Do
    harmless: bool = False


def files(data: Path, place: str) -> list[Path]:
    """Return the files of a place that have something in them."""
    folder, pattern = PLACES[place]
    return sorted(each for each in (data / folder).glob(pattern) if each.stat().st_size)


def all_damages() -> Iterator[Damage]:
    """Yield every kind."""
    for place in PLACES:
        yield Damage(f"flip {place}", _flipping(place))
        yield Damage(f"cut {place}", _cutting(place))
        yield Damage(f"remove {place}", _removing(place))
    for count in ADDED:
        yield Damage(f"append {count}", _appending(count), harmless=True)
    yield Damage("swap", _swap)
    yield Damage("older store", _older("broker/store"))
    for name in ("engine.db", "readmodel.db", "witness.log"):
        yield Damage(f"older {name}", _older(name))


def _flipping(place: str) -> Do:
    def flip(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place))
        content = bytearray(path.read_bytes())
        at, bit = random.randrange(len(content)), random.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        return f"bit {bit} of byte {at} of {path.relative_to(data)}"

    return flip


def _cutting(place: str) -> Do:
    def cut(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place))
        size = path.stat().st_size
        left = random.choice([max(0, size - random.randint(1, 300)), size // 2, 0])
        os.truncate(path, left)
        return f"{path.relative_to(data)} cut from {size} to {left} bytes"

    return cut


def _removing(place: str) -> Do:
    def remove(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place))
        path.unlink()
        return f"{path.relative_to(data)} removed"

    return remove


def _appending(count: int) -> Do:
    def append(random: Random, data: Path, _: Original) -> str:
        path = files(data, "event blocks")[-1]
        with path.open("ab") as block:
            block.write(bytes(count) if count == ADDED[-1] else random.randbytes(count))
        return f"{count} bytes behind {path.relative_to(data)}"

    return append


def _swap(random: Random, data: Path, _: Original) -> str:
    one, other = random.sample([path for place in PLACES for path in files(data, place)], 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return f"{one.relative_to(data)} and {other.relative_to(data)} swapped"


def _older(name: str) -> Do:
    def put_back(_random: Random, data: Path, original: Original) -> str:
        target = data / name
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(original.older / name, target)
            return f"an older {name}"
        for suffix in ("-wal", "-shm"):
            target.with_name(name + suffix).unlink(missing_ok=True)
        shutil.copyfile(original.older / name, target)
        return f"an older {name}"

    return put_back
