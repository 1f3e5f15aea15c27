"""Restores a backup into a data directory, or verifies it in a temporary one."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from msgspec import structs

from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.broker import SPACE_NEEDED, EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.snapshot import StreamContent, restore
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import INSTALLATION, ensure
from trackbook.adapters.sql.ledger import Ledger
from trackbook.errors import UserError
from trackbook.private_files import private_file, sync_folder, write_private
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.backup.archive import (
    EXECUTORS,
    STREAMS,
    BackupDamaged,
    Manifest,
    Member,
    Reader,
    digest_of,
    members,
    read_manifest,
)
from trackbook.runtime.data_directory.format import mark_initialised
from trackbook.runtime.data_directory.identity import mark_restored
from trackbook.runtime.integrity.evidence import Integrity
from trackbook.runtime.integrity.witness_file import FILE as WITNESS
from trackbook.runtime.integrity.witness_file import Witness
from trackbook.runtime.log_checks import Verified
from trackbook.runtime.process import log_output

Progress = Callable[[int], None]
"""Gets how many bytes of the file are done, in each of the passes over it."""

_OF_THE_PROCESS = ("nats.json", "broker/engine.json", "broker/owner.json", "broker/nats.conf", "broker/nats.log")
"""Files that the broker of the restore left, and that say nothing to the next one."""


class TargetRefused(UserError):
    """The directory can't be restored into: says why."""


class Counted:
    """A file that reports how far it was read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress, self._done = file, progress, 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._file.read(size)
        self._done += len(data)
        self._progress(self._done)
        return data


def check(path: Path, progress: Progress) -> Manifest:
    """Compare every byte of a backup with its digests; raises BackupDamaged, NewerFormat, OlderFormat."""
    with path.open("rb") as file:
        try:
            return read_manifest(Counted(file, progress))
        except BackupDamaged as error:
            hint = "Use another backup; nothing of this one was restored."
            raise BackupDamaged(f"{path}: {error}", hint) from None


def refuse_target(data: Path) -> None:
    """Raise TargetRefused unless the directory is empty or absent."""
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise TargetRefused(f"{data} is not a directory", "Name a new or an empty directory with --data.")
    if not data.exists():
        return
    if found := sorted(each.name for each in data.iterdir()):
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise TargetRefused(
            f"{data} is not empty: it has {shown}", "Restore into a new or an empty directory; see --data."
        )
    if data.is_mount():
        raise TargetRefused(f"{data} is a mount point", "Restore into a directory below it; see --data.")


async def restore_into(path: Path, manifest: Manifest, data: Path, progress: Progress) -> Verified:
    """Restore a checked backup and return what the histories are like.

    The directory is there whole or not at all: it is built beside its place and renamed at the end. What an
    earlier restore left there is deleted. Raises TargetRefused, BackupDamaged, SnapshotFailed.
    """
    refuse_target(data)
    data.parent.mkdir(parents=True, exist_ok=True)
    with _work_directory(data) as work:
        found = await _build(path, manifest, work, progress)
        mark_initialised(work)
        mark_restored(work, f"{path.name} of {manifest.created_at}")
        await asyncio.to_thread(_sync, work)
        refuse_target(data)
        work.rename(data)
        sync_folder(data.parent)
    return found


async def rehearse(path: Path, manifest: Manifest, progress: Progress) -> Verified:
    """Restore a checked backup into a temporary directory and return what the histories are like."""
    with tempfile.TemporaryDirectory(prefix="trackbook-verify-") as work:
        return await _build(path, manifest, Path(work), progress)


@contextmanager
def _work_directory(data: Path) -> Iterator[Path]:
    """Yield a directory beside `data`, deleted unless it was renamed; what others left is deleted first."""
    start = f".{data.name}.restoring-"
    for left in data.parent.glob(f"{start}*"):
        with _try_lock(left) as ours:
            if ours:
                shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=start, dir=data.parent))
    with _try_lock(work):
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """Hold a lock on the folder; yields whether it was to be had."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
            return
        yield False
    finally:
        os.close(descriptor)


async def _build(path: Path, manifest: Manifest, work: Path, progress: Progress) -> Verified:
    """Make a data directory from the backup, and read the histories in it."""
    _require_space(manifest, work)
    log_output.configure(work / log_output.LOG_FILE)
    async with AsyncExitStack() as stack:
        # Nothing of it counts before all of it is synced at the end.
        broker = EmbeddedBroker(work, durability="fast", prefix=manifest.prefix)
        await stack.enter_async_context(broker)
        nc = await connect(broker.engine, name="trackbook-restore")
        stack.push_async_callback(nc.close)
        file = stack.enter_context(path.open("rb"))
        await _fill(nc, Counted(file, progress), manifest, work)
        await ensure(nc, manifest.prefix, initialised=True)
        found = await _verify(nc, manifest, work)
    for name in _OF_THE_PROCESS:
        (work / name).unlink(missing_ok=True)
    shutil.rmtree(work / "broker" / "ports", ignore_errors=True)
    return found


async def _fill(nc: Connection, file: Reader, manifest: Manifest, work: Path) -> None:
    """Restore the streams and the configuration, each member compared once more with its digest."""
    known = {each.name: each for each in manifest.members}

    async def parts(some: Iterator[Member]) -> AsyncIterator[bytes]:
        for member in some:
            if digest_of(member) != known.get(member.name):
                raise BackupDamaged(f"{member.name} has changed since it was checked")
            yield member.data

    for name, group in groupby(members(file), key=lambda member: member.name.partition("/")[0]):
        if name in STREAMS:
            await restore(nc, _without_placement(manifest.streams[name], manifest.installation), parts(group))
        elif name == EXECUTORS:
            async for text in parts(group):
                write_private(work / EXECUTORS, text)


def _require_space(manifest: Manifest, work: Path) -> None:
    needed = manifest.events.size + manifest.blobs.size + SPACE_NEEDED
    free = shutil.disk_usage(work).free
    if free < needed:
        raise TargetRefused(
            f"there is no room for the backup in {work.parent}: {needed:,} bytes are needed, {free:,} are free",
            "Free some space there, or restore to another disk; --verify uses TMPDIR.",
        )


def _without_placement(content: StreamContent, installation: str) -> StreamContent:
    """Return the stream as a broker without others can have it."""
    config = {
        key: value for key, value in content.config.items() if key not in ("placement", "mirror", "sources")
    }
    metadata = {INSTALLATION: installation} | (config.get("metadata") or {})
    return structs.replace(content, config=config | {"num_replicas": 1, "metadata": metadata})


async def _verify(nc: Connection, manifest: Manifest, work: Path) -> Verified:
    """Read all histories; what was known to be lost when the backup was made stays evidence of loss."""
    witness = Witness(work / WITNESS, manifest.installation)
    ledger = Ledger(private_file(work / "engine.db"))
    try:
        for evidence in manifest.evidence:
            witness.record(evidence)
        if manifest.events.head_sha256:
            witness.record_head(manifest.events.last, manifest.events.head_sha256)
        store = NatsEventStore(nc, manifest.prefix)
        aggregates = AggregateStore(store, NatsBlobs(nc, manifest.prefix), ledger, Integrity(store, [witness]))
        await aggregates.catch_up()
        return await log_checks.verify(aggregates, [])
    finally:
        ledger.close()
        witness.close()


def _sync(folder: Path) -> None:
    """Have everything below a folder on the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(root) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))
