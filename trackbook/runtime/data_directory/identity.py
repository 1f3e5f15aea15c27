"""The identity of a data directory: a copy must not act as the original, whose sessions it would end."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from trackbook.errors import UserError
from trackbook.private_files import write_private

FILE = "identity.json"
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Ownership = Literal["", "adopt", "fork"]
"""What the user says of a directory that was copied: it is the only one, or the original stays in use."""


class Location(Struct, frozen=True):
    """Where a data directory is; '' and 0 for what can't be known.

    `machine` is a digest of the machine's id. `volume` identifies the file system across boots, `device` only
    within `boot`. A clone of a whole file system on the same machine can't be distinguished from the original.
    """

    machine: str = ""
    boot: str = ""
    volume: int = 0
    device: int = 0
    inode: int = 0


class Identity(Struct, frozen=True):
    """`identity.json`: where the directory was used last, and whether a fork of it is to be finished.

    `restored` names the backup that the directory was made from, until it is used.
    """

    location: Location
    path: str = ""
    forking: bool = False
    restored: str = ""


class DataDirectoryCopied(UserError):
    """The data directory was copied, moved to another file system or restored; says what to do."""


def location(data: Path) -> Location:
    """Return where the directory is now."""
    found = data.stat()
    return Location(_machine(), _text(_BOOT), _volume(data, found.st_dev), found.st_dev, found.st_ino)


def _machine() -> str:
    """Return a digest of the machine's id, which is confidential; '' where there is none, as in containers."""
    for path in MACHINE_IDS:
        if (found := _text(path)) and found != "uninitialized":
            return hashlib.sha256(f"trackbook {found}".encode()).hexdigest()[:32]
    return ""


def _volume(data: Path, device: int) -> int:
    """Return the file system's own id, 0 where it has none or derives it from the device, as XFS does."""
    found = os.statvfs(data).f_fsid
    return 0 if found == device else found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def differences(recorded: Location, present: Location) -> list[str]:
    """Return in words what shows that a directory is not where it was; a move on one file system doesn't."""
    found = []
    if recorded.machine and present.machine and recorded.machine != present.machine:
        found.append("another machine")
    if _is_other_volume(recorded, present):
        found.append("another file system")
    if recorded.inode != present.inode:
        found.append(f"another directory (inode {present.inode}, not {recorded.inode})")
    return found


def _is_other_volume(recorded: Location, present: Location) -> bool:
    """A device's number may change when the machine starts, or a container: the volume's id says more."""
    if recorded.volume and present.volume:
        return recorded.volume != present.volume
    return recorded.boot == present.boot and recorded.device != present.device


def claim(data: Path, ownership: Ownership = "") -> Identity:
    """Record that this process uses the directory here, and return the record.

    Raises DataDirectoryCopied where it was used elsewhere before, unless `ownership` says whose it is.
    """
    present, recorded = location(data), _read_identity(data)
    forking = ownership == "fork"
    if recorded is not None:
        changed = differences(recorded.location, present)
        if changed and not ownership:
            raise DataDirectoryCopied(_copied_message(data, recorded, changed))
        forking = forking or (recorded.forking and ownership != "adopt")
    identity = Identity(present, str(data.absolute()), forking)
    if identity != recorded:
        _write(data, identity)
    return identity


def claim_directory(data: Path, ownership: Ownership, *, embedded: bool, engine: bool) -> Identity:
    """Claim the data directory; for a fork, delete what it has in common with the original.

    A fork needs the engine in this process, and a broker that is `embedded`. Raises DataDirectoryCopied.
    """
    if ownership == "fork" and not embedded:
        raise DataDirectoryCopied(
            f"{data} can't be forked: its log is on a broker (TRACKBOOK_NATS_URL) that the original uses too."
            " Start the copy with a broker of its own, or use an empty data directory."
        )
    identity = claim(data, ownership)
    if identity.forking:
        if not (embedded and engine):
            raise DataDirectoryCopied(
                f"the fork of {data} is not complete: start it once with"
                f" `trackbook up --data {shlex.quote(str(data))}`"
            )
        _discard_shared_files(data)
    return identity


def _discard_shared_files(data: Path) -> None:
    """Delete what the copy has in common with the original: the broker's passwords, and the ids of folders."""
    (data / "broker" / "credentials.json").unlink(missing_ok=True)
    (data / "nats.json").unlink(missing_ok=True)
    for folders in (data / "executors").glob("*/folders"):
        shutil.rmtree(folders)


def mark_restored(data: Path, backup: str) -> None:
    """Record that the directory was made from a backup: its first start has to say whose it is."""
    _write(data, Identity(Location(), restored=backup))


def finish_fork(data: Path, identity: Identity) -> None:
    """Record that the fork is complete."""
    _write(data, msgspec.structs.replace(identity, forking=False))


def problem(data: Path) -> str:
    """Return why nothing would start on this directory, '' where nothing speaks against it."""
    try:
        recorded = _read_identity(data)
        changed = differences(recorded.location, location(data)) if recorded else []
    except FileNotFoundError:
        return ""
    except DataDirectoryCopied as unreadable:
        return str(unreadable)
    return _copied_message(data, recorded, changed) if recorded and changed else ""


def _read_identity(data: Path) -> Identity | None:
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        # A directory whose record is damaged may be a copy as well as any other.
        return Identity(Location())


def _copied_message(data: Path, recorded: Identity, changed: list[str]) -> str:
    where = f"last used as {recorded.path}" if recorded.path else f"its {FILE} can't be read"
    place = "" if not recorded.path else f": this is {' and '.join(changed)}"
    found = f"looks like a copy of a data directory ({where}{place})"
    if recorded.restored:
        found = f"was restored from a backup ({recorded.restored})"
    return (
        f"{data} {found}. The original and a copy would end each"
        f" other's sessions, so nothing was started.\n{how_to_use(data)}"
    )


def how_to_use(data: Path) -> str:
    """Return with which commands a copied directory is used."""
    return (
        f"  If this is the only one, moved or restored: trackbook up --adopt --data {shlex.quote(str(data))}\n"
        f"  If the original stays in use: trackbook up --fork --data {shlex.quote(str(data))}"
        "   (an installation of its own; running jobs stay with the original)"
    )


def _write(data: Path, identity: Identity) -> None:
    """Write the record whole or not at all; on disk when this returns, before anything is done under it."""
    write_private(data / FILE, msgspec.json.encode(identity), synced=True)
