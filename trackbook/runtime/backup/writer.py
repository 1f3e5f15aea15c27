"""Makes a backup of a running system: both streams as the broker has them, while work continues."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.discovery import current_url
from trackbook.adapters.nats.errors import BrokerUnreachable
from trackbook.adapters.nats.snapshot import SnapshotFailed, StreamContent, snapshot
from trackbook.adapters.nats.streams import blobs_stream, events_stream, installation
from trackbook.engine.errors import Refused
from trackbook.events.log import Evidence
from trackbook.events.storage_format import current
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.backup.archive import (
    EXECUTORS,
    FORMAT_FILE,
    PART,
    Digest,
    Manifest,
    Member,
    digest_of,
    encode_failure,
    encode_trailer,
    pack_member,
)
from trackbook.runtime.system import Base

_SECRET_LINE = re.compile(r"^(\s*[\"']?secret_key[\"']?\s*=).*$", re.MULTILINE)

log = structlog.get_logger(__name__)


class Backups:
    """Makes backups of a system: without output and files of tasks, credentials, and what the log can make."""

    def __init__(self, base: Base, aggregates: AggregateStore) -> None:
        self._base, self._aggregates = base, aggregates

    async def backup(self, *, damaged: bool) -> AsyncIterator[bytes]:
        """Return the bytes of a backup, which end with a manifest unless something failed.

        Raises Refused where the log lost something and nobody accepted that, unless `damaged`: a good backup is
        not to be replaced by one of a damaged log unasked.
        """
        integrity = self._aggregates.integrity
        await integrity.examine()
        if integrity.open and not damaged:
            raise Refused(
                "backup_refused",
                f"the log is damaged: {integrity.open[0].message}",
                hint="Keep the backups that you have. `--damaged` makes one of what is left; `trackbook log"
                " status` shows more.",
            )
        id_ = await installation(self._base.connection, self._base.config.prefix)
        return self._bytes(id_, list(integrity.open))

    async def _bytes(self, installation_id: str, evidence: list[Evidence]) -> AsyncIterator[bytes]:
        known: list[Digest] = []
        contents: dict[str, StreamContent] = {}
        omitted: list[str] = []

        async def member(name: str, data: bytes) -> bytes:
            known.append(await asyncio.to_thread(digest_of, Member(name, data)))
            return pack_member(name, data)

        yield await member(FORMAT_FILE, msgspec.json.encode(current()))
        try:
            # The events first: the bodies that a commit names are stored before it, so all of them are in it.
            for name, stream in self._streams():
                async with snapshot(self._access(), stream) as taken:
                    contents[name] = taken.content
                    number = 0
                    async for part in _join_chunks(taken.chunks()):
                        number += 1
                        yield await member(f"{name}/{number:06}", part)
        except (SnapshotFailed, BrokerUnreachable) as error:
            log.warning("backup.failed", error=str(error))
            yield encode_failure(str(error))
            return
        for text in self._executors(omitted):
            yield await member(EXECUTORS, text)
        yield encode_trailer(self._manifest(installation_id, evidence, contents, known, omitted))
        log.info("backup.made", seq=contents["events"].last, messages=contents["events"].messages)

    def _streams(self) -> list[tuple[str, str]]:
        prefix = self._base.config.prefix
        return [("events", events_stream(prefix)), ("blobs", blobs_stream(prefix))]

    def _access(self) -> Access:
        """Return how the broker is reached now; one of our own may have moved to another port."""
        if Access.from_env():
            return self._base.access
        return msgspec.structs.replace(self._base.access, url=current_url(self._base.config.data))

    def _executors(self, omitted: list[str]) -> Iterator[bytes]:
        """Yield the configuration of executors without its secret keys, if there is one."""
        try:
            text = (self._base.config.data / EXECUTORS).read_text()
            kept, found = without_secrets(text)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            omitted.append(f"{EXECUTORS}: {error}")
            return
        if found:
            omitted.append(f"secret_key of {EXECUTORS}, {found} times")
        yield kept.encode()

    def _manifest(
        self,
        installation_id: str,
        evidence: list[Evidence],
        contents: dict[str, StreamContent],
        known: list[Digest],
        omitted: list[str],
    ) -> Manifest:
        mark, broker = current(), self._base.broker
        return Manifest(
            format=mark.format,
            release=mark.release,
            created_at=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            installation=installation_id,
            prefix=self._base.config.prefix,
            durability=broker.durability if broker else "unknown",
            streams=contents,
            members=known,
            evidence=evidence,
            omitted=omitted,
        )


async def _join_chunks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks as parts of at least PART bytes, the last one as it comes."""
    part = bytearray()
    async for chunk in chunks:
        part += chunk
        if len(part) >= PART:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def without_secrets(text: str) -> tuple[str, int]:
    """Return the configuration of executors with empty secret keys, and how many they were.

    Raises ValueError for one in which they can't be found for certain.
    """
    secrets = [secret for secret in _secrets(tomllib.loads(text)) if secret]
    kept = _SECRET_LINE.sub(r'\1 ""', text)
    try:
        left = any(_secrets(tomllib.loads(kept)))
    except ValueError:
        left = True
    if left or any(secret in kept for secret in secrets):
        raise ValueError("its secret keys can't be left out; put each on a line of its own")
    return kept, len(secrets)


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "secret_key":
                yield str(inner)
            else:
                yield from _secrets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner)
