"""The file of a backup: a tar of parts with their digests at its end, read so that no flipped bit is overlooked.

Members: `format.json` (which release wrote it), `events/NNNNNN` and `blobs/NNNNNN` (the parts of both streams'
snapshots), `executors.toml` where there is one, `manifest.json`, and `manifest.sha256`, the digest of that.
A file that was cut, or whose making failed, has no such end.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct, field

from trackbook.adapters.nats.snapshot import StreamContent
from trackbook.errors import UserError
from trackbook.events.log import Evidence
from trackbook.events.storage_format import FormatMark, refuse_unreadable

FORMAT_FILE, MANIFEST, DIGEST, FAILED = "format.json", "manifest.json", "manifest.sha256", "failed.txt"
EXECUTORS = "executors.toml"
STREAMS = ("events", "blobs")
PART = 4 << 20  # bytes of a snapshot in one member
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_LARGEST = 256 << 20  # bytes of a member that are read into memory


class BackupDamaged(UserError):
    """A file is no backup, or not all of one: names the member that is missing or damaged."""


class Member(NamedTuple):
    """A member of the tar."""

    name: str
    data: bytes


class Digest(Struct, frozen=True):
    """What the manifest says of a member: its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


class Manifest(Struct, kw_only=True):
    """What a backup holds. `evidence` of loss was open when it was made; `omitted` says what was left out."""

    format: int
    release: str
    created_at: str
    installation: str
    prefix: str
    durability: str
    streams: dict[str, StreamContent]
    members: list[Digest]
    evidence: list[Evidence] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)

    @property
    def events(self) -> StreamContent:
        """What there is of the log."""
        return self.streams["events"]

    @property
    def blobs(self) -> StreamContent:
        """What there is of the stream of large bodies."""
        return self.streams["blobs"]


class Reader(Protocol):
    """Whatever bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


def pack_member(name: str, data: bytes) -> bytes:
    """Return a member's bytes in the tar."""
    return _header(name, len(data)) + data + _padding(len(data))


def encode_trailer(manifest: Manifest) -> bytes:
    """Return the end of the file: the manifest and its digest."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    return pack_member(MANIFEST, text) + pack_member(DIGEST, _digest_line(text)) + _END


def encode_failure(why: str) -> bytes:
    """Return the end of a file whose making failed."""
    return pack_member(FAILED, why.encode()) + _END


def digest_of(member: Member) -> Digest:
    """Return what the manifest says of a member."""
    return Digest(member.name, len(member.data), hashlib.sha256(member.data).hexdigest())


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def read_manifest(file: Reader) -> Manifest:
    """Read a whole backup and return its manifest; raises BackupDamaged, NewerFormat, OlderFormat."""
    known: list[Digest] = []
    latest: list[Member] = []
    for member in members(file):
        known.append(digest_of(member))
        latest = [*latest[-1:], member]
    text, digest = latest
    if text.name != MANIFEST:
        raise BackupDamaged(f"{MANIFEST} is missing")
    if digest.data != _digest_line(text.data):
        raise BackupDamaged(f"{MANIFEST} is damaged: its SHA-256 is not the one in {DIGEST}")
    manifest = _manifest(text.data)
    _compare(known[:-2], manifest)
    return manifest


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _compare(found: list[Digest], manifest: Manifest) -> None:
    for index, expected in enumerate(manifest.members):
        if index >= len(found) or found[index].name != expected.name:
            raise BackupDamaged(f"{expected.name} is missing")
        if found[index] != expected:
            raise BackupDamaged(f"{expected.name} is damaged: its SHA-256 is not the one in the manifest")
    if len(found) > len(manifest.members):
        raise BackupDamaged(f"{found[len(manifest.members)].name} is not in the manifest")


def _manifest(data: bytes) -> Manifest:
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupDamaged(f"{MANIFEST} can't be read: {error}") from error


def members(file: Reader) -> Iterator[Member]:
    """Yield the members up to the digest of the manifest, behind which nothing else is; raises BackupDamaged."""
    before = ""
    while True:
        member = _member(file, before)
        if not before:
            _check_first(member)
        elif member.name == FAILED:
            raise BackupDamaged(f"it was not completed: {member.data.decode(errors='replace')}")
        yield member
        before = member.name
        if before == DIGEST:
            break
    if _read(file, len(_END) + 1) != _END:
        raise BackupDamaged(f"it does not end behind {DIGEST}")


def _member(file: Reader, before: str) -> Member:
    block = _read(file, _BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        whole = _header(info.name, info.size) == block and info.size <= _LARGEST
    except (tarfile.HeaderError, UnicodeError, ValueError):
        whole = False
    if len(block) < _BLOCK:
        raise BackupDamaged(_cut(before))
    if not whole:
        raise BackupDamaged(
            f"the member behind {before} is damaged" if before else "it is no backup of Trackbook"
        )
    padding = _padding(info.size)
    data = _read(file, info.size + len(padding))
    if len(data) < info.size + len(padding):
        raise BackupDamaged(_cut(info.name))
    if data[info.size :] != padding:
        raise BackupDamaged(f"{info.name} is damaged: it is not filled with zeros")
    return Member(info.name, data[: info.size])


def _cut(name: str) -> str:
    return f"it is cut off at {name}" if name else "it is no backup of Trackbook"


def _check_first(member: Member) -> None:
    if member.name != FORMAT_FILE:
        raise BackupDamaged("it is no backup of Trackbook")
    try:
        mark = msgspec.json.decode(member.data, type=FormatMark)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupDamaged(f"{FORMAT_FILE} is damaged: {error}") from error
    refuse_unreadable("the backup", mark)


def _read(file: Reader, size: int) -> bytes:
    """Return so many bytes, fewer only at the end of the file."""
    found = bytearray()
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return bytes(found)
