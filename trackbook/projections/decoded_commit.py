"""Decodes stored commits for projection: typed events, or the reason why they can't be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Blobs, Stored
from trackbook.events.commit import SCHEMA, Body, Commit, Input, RawCommit, digest
from trackbook.projections.times import to_micros

T = TypeVar("T")
_ANY_COMMIT = msgspec.json.Decoder(RawCommit)
_ANY_BODY = msgspec.json.Decoder(Body[Raw, dict[str, Any]])


class DecodedCommit(Struct):
    """A commit as the read models take it.

    `sha256` is that of `data`, `prev` that of the aggregate's commit before it, as this one says.
    `events` is empty and `problem` says why when the commit can't be read; `types` and `actors` are filled as far
    as they are known. `pipeline` is the pipeline that it concerns and `states` what each event of a job led to
    (JSON, a list of JobStates): both are found while it is projected. `rendered` is its form in the live stream,
    made for the first who follows.
    """

    seq: int
    kind: str
    id: str
    version: int
    at: int
    data: bytes
    prev: str = ""
    sha256: str = ""
    actors: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    count: int = 0
    problem: str = ""
    pipeline: str = ""
    states: bytes = b""
    rendered: bytes | None = None

    @property
    def actor(self) -> str:
        """Who caused the commit: the first of its actors."""
        return self.actors[0] if self.actors else ""


async def decode(message: Stored, bodies: Blobs) -> DecodedCommit:
    """Read a message as a commit; never raises for its content, only for a body store that can't be reached."""
    decoded = DecodedCommit(
        message.seq, message.kind, message.id, 0, 0, message.data, sha256=digest(message.data)
    )
    try:
        await _fill(decoded, bodies)
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, RecursionError) as error:
        decoded.problem = f"the commit can't be read: {error}"
        await _fill_loosely(decoded, bodies)
    return decoded


async def _fill(decoded: DecodedCommit, bodies: Blobs) -> None:
    how = KINDS.get(decoded.kind)
    if how is None:
        raise LookupError(f"aggregates of kind {decoded.kind!r} aren't known to this version of Trackbook")
    commit: Commit[Raw, Any] = how.facts.decode(decoded.data)
    if commit.schema != SCHEMA:
        raise LookupError(f"schema {commit.schema} isn't known to this version of Trackbook (it knows {SCHEMA})")
    if (commit.kind, commit.id) != (decoded.kind, decoded.id):
        raise LookupError(f"it is of {commit.kind}/{commit.id} but stands under {decoded.kind}/{decoded.id}")
    body: Commit[Raw, Any] | Body[Raw, Any] = commit
    if commit.blob is not None:
        body = how.fact_bodies.decode(await bodies.get(commit.blob.sha256))
    decoded.version, decoded.at, decoded.prev = commit.version, to_micros(commit.at), commit.prev
    decoded.actors = _distinct_words([given.actor for given in body.inputs])
    decoded.events, decoded.count = body.events, len(body.events)
    decoded.types = _distinct_words([type(event).__name__ for event in body.events])


async def _fill_loosely(decoded: DecodedCommit, bodies: Blobs) -> None:
    """Take what can be read of a commit that can't be projected, so that it is at least listed."""
    try:
        commit, body = await read_raw(decoded.data, bodies)
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, RecursionError):
        return
    decoded.version, decoded.at = commit.version, to_micros(commit.at)
    decoded.actors = _distinct_words([given.actor for given in body.inputs])
    decoded.types, decoded.count = (
        _distinct_words([str(event.get("type", "")) for event in body.events]),
        len(body.events),
    )


async def read_raw(data: bytes, bodies: Blobs) -> tuple[RawCommit, RawBody]:
    """Read a commit and its body with the events as mappings; raises MsgspecError or LookupError."""
    commit = _ANY_COMMIT.decode(data)
    if commit.blob is None:
        return commit, Body(commit.inputs, commit.events, commit.causes)
    return commit, _ANY_BODY.decode(await bodies.get(commit.blob.sha256))


def _distinct_words(words: list[str]) -> list[str]:
    return words if len(words) < 2 else list(dict.fromkeys(words))


RawBody = Body[Raw, dict[str, Any]]
RawInput = Input[Raw]


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close the iterator at the end, where it is one that can be closed: a subscription may hang on it."""
    try:
        yield iterator
    finally:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()
