"""Having one session for an attempt and never two that run: made, found again, or kept from ever running."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from trackbook.adapters.backendai import names, observe, plan, record
from trackbook.adapters.backendai.api import Session
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.observe import Known, Verdict
from trackbook.adapters.backendai.parts import Parts
from trackbook.adapters.sessions.code import BadCode
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint

_FOREIGN = Verdict(
    "failed", "the cluster has a session of this name already, which was made for something else", "permanent"
)


_NEVER = "foreign-key-violation"
"""What 26.8 says, with 409, of something that it doesn't have; nothing was made, and never will be."""


class Placed(Struct, frozen=True):
    """What there is now: a session of this `id`, what one has left, or a verdict since there will be none."""

    id: str = ""
    known: Known | None = None
    verdict: Verdict | None = None


class Placer:
    """Places one attempt. Each call may raise ClusterError, and be made again.

    `look` says that a session may be there of which nothing is known: look before making one. `unsure` says that
    more than one may have been made, of which one alone ran.
    """

    def __init__(self, spec: SessionSpec, parts: Parts, *, fresh: bool) -> None:
        self._spec = spec
        self._parts = parts
        self._cluster_name = parts.cluster.name
        self.look = not fresh
        self.unsure = False

    @property
    def name(self) -> str:
        """The name of the session on the cluster. Raises ValueError for one that can't be one there."""
        return names.session(self._parts.link.installation, self._spec.session)

    async def launch(self, asked: Callable[[], bool]) -> Placed:
        """Find the session, or make it, unless its end is asked for before its turn comes.

        Raises ValueError for what no session can have.
        """
        if self.look:
            found = await self._find()
            if found:
                return found
            self.look = False
        if self._spec.code:
            verdict = await self._place_code(asked)
            if verdict:
                return Placed(verdict=verdict)
        async with self._parts.enqueuer.turn:
            return await (self.withdraw() if asked() else self._make())

    async def _place_code(self, asked: Callable[[], bool]) -> Verdict | None:
        """Have the code in the pipeline's folder; return the end of an attempt that can't have it."""
        try:
            await self._parts.archives.place(self._spec, asked)
        except ClusterError as error:
            if error.kind == "permanent":
                return observe.refused(error)
            raise
        except BadCode as error:
            return Verdict("failed", f"the code can't be unpacked: {error}", "permanent")
        return None

    async def withdraw(self) -> Placed:
        """Find the session, or see to it that there never is one that runs the command."""
        if not self.look:  # it was never asked for, and what is noted here keeps it from being
            failpoint("executor.withdraw.claimed")
            return Placed(known=Known(fenced=True))
        found = await self._find()
        if found:
            return found
        shelf = self._parts.shelf
        fenced = not await shelf.is_there(self._spec.pipeline) or await shelf.claim(self._spec)
        failpoint("executor.withdraw.claimed")
        if fenced:
            return Placed(known=Known(fenced=True))
        return await self._find() or Placed(known=Known(gone=True, no_record=True))

    async def find_other(self, id: str) -> Placed | None:  # noqa: A002
        """Return the session of that id, if the cluster has it: the one that claimed the attempt."""
        found = await self._parts.link.by_id.read(id)
        return self._adopt(found) if found else None

    async def _make(self) -> Placed:
        spec, link = self._spec, self._parts.link
        startup, command = plan.startup(spec)
        version = await link.version()
        try:
            folder = await self._parts.shelf.prepare(spec.pipeline, plan.needed(spec), spec.pipeline_name)
            new = plan.new_session(spec, link.cluster, link.installation, version, startup, folder=folder)
            if command:
                await self._parts.shelf.write(spec, "command", command)
            failpoint("executor.launch.before_spawn")
            made = await self._parts.enqueuer.create(new)
        except ClusterError as error:
            if error.existing_session:
                return await self._existing(error.existing_session)
            if error.kind == "permanent" or error.slug == _NEVER:
                return Placed(verdict=observe.refused(error))
            if error.kind == "unknown":
                self.look = self.unsure = True
            raise
        except BaseException:
            self.look = self.unsure = True
            raise
        failpoint("executor.launch.spawned")
        return Placed(made)

    async def _existing(self, id: str) -> Placed:  # noqa: A002
        self.look = True  # whatever comes of it
        found = await self._parts.link.by_id.read(id)
        if not found:
            words = "it says that there is a session of this name, and then knows it not"
            raise ClusterError(self._cluster_name, "unknown", "no-session", words)
        return self._adopt(found)

    async def _find(self) -> Placed | None:
        """Return the session, or what it has left where the cluster has forgotten it."""
        found = await self._parts.link.by_name.read(self.name)
        if found:
            self.unsure = self.unsure or len(found) > 1
            return self._adopt(found)
        data = await self._parts.shelf.read(self._spec, "exit")
        if data is not None:
            return Placed(known=Known(record=record.read_record(data)))
        if await self._parts.shelf.is_claimed(self._spec):
            return Placed(known=Known(gone=True, no_record=True))
        return None

    def _adopt(self, found: list[Session]) -> Placed:
        """Take the session that runs, or else the latest."""
        session = min(found, key=lambda each: each.final)
        if not plan.is_ours(session.tag, self._spec):
            return Placed(verdict=_FOREIGN)
        return Placed(session.id, Known(session=session))
