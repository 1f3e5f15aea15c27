"""Launch the session of one attempt: create it, find it again, or keep it from ever running."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.session import exit_record, observation, plan
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.adapters.backendai.session.observation import Observation
from trackbook.adapters.execution.code_archive import BadCode
from trackbook.adapters.execution.outcome import Verdict
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint

_FOREIGN = Verdict(
    "failed", "the cluster has a session of this name already, which was made for something else", "permanent"
)


_NEVER = "foreign-key-violation"
"""What 26.8 says, with 409, of something that it doesn't have; nothing was made, and never will be."""


class Launched(Struct, frozen=True):
    """The result of a launch: a session's `id`, what an earlier one left, or a verdict if there will be none."""

    id: str = ""
    observed: Observation | None = None
    verdict: Verdict | None = None


class SessionLauncher:
    """Launches one attempt; never do two sessions run. Each call may raise ClusterError and can be repeated.

    `look` says that a session may be there of which nothing is known: look before making one. `unsure` says that
    more than one may have been made, of which one alone ran.
    """

    def __init__(self, spec: SessionSpec, context: ExecutorContext, *, fresh: bool) -> None:
        self._spec = spec
        self._context = context
        self._cluster_name = context.cluster.name
        self.look = not fresh
        self.unsure = False

    @property
    def name(self) -> str:
        """The name of the session on the cluster. Raises ValueError for one that can't be one there."""
        return names.session(self._context.connection.installation, self._spec.session)

    async def launch(self, asked: Callable[[], bool]) -> Launched:
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
                return Launched(verdict=verdict)
        async with self._context.enqueuer.turn:
            return await (self.withdraw() if asked() else self._make())

    async def _place_code(self, asked: Callable[[], bool]) -> Verdict | None:
        """Have the code in the pipeline's folder; return the end of an attempt that can't have it."""
        try:
            await self._context.archives.place(self._spec, asked)
        except ClusterError as error:
            if error.kind == "permanent":
                return observation.refusal_verdict(error)
            raise
        except BadCode as error:
            return Verdict("failed", f"the code can't be unpacked: {error}", "permanent")
        return None

    async def withdraw(self) -> Launched:
        """Find the session, or see to it that there never is one that runs the command."""
        if not self.look:  # it was never asked for, and what is noted here keeps it from being
            failpoint("executor.withdraw.claimed")
            return Launched(observed=Observation(fenced=True))
        found = await self._find()
        if found:
            return found
        pipeline_folders = self._context.pipeline_folders
        fenced = not await pipeline_folders.is_there(self._spec.pipeline) or await pipeline_folders.claim(
            self._spec
        )
        failpoint("executor.withdraw.claimed")
        if fenced:
            return Launched(observed=Observation(fenced=True))
        return await self._find() or Launched(observed=Observation(gone=True, no_record=True))

    async def find_other(self, id: str) -> Launched | None:  # noqa: A002
        """Return the session of that id, if the cluster has it: the one that claimed the attempt."""
        found = await self._context.connection.by_id.read(id)
        return self._adopt(found) if found else None

    async def _make(self) -> Launched:
        spec, connection = self._spec, self._context.connection
        startup, command = plan.startup(spec)
        version = await connection.version()
        try:
            folder = await self._context.pipeline_folders.prepare(
                spec.pipeline, plan.folders_for(spec), spec.pipeline_name
            )
            new = plan.new_session(
                spec, connection.cluster, connection.installation, version, startup, folder=folder
            )
            if command:
                await self._context.pipeline_folders.write(spec, "command", command)
            failpoint("executor.launch.before_spawn")
            made = await self._context.enqueuer.create(new)
        except ClusterError as error:
            if error.existing_session:
                return await self._existing(error.existing_session)
            if error.kind == "permanent" or error.slug == _NEVER:
                return Launched(verdict=observation.refusal_verdict(error))
            if error.kind == "unknown":
                self.look = self.unsure = True
            raise
        except BaseException:
            self.look = self.unsure = True
            raise
        failpoint("executor.launch.spawned")
        return Launched(made)

    async def _existing(self, id: str) -> Launched:  # noqa: A002
        self.look = True  # whatever comes of it
        found = await self._context.connection.by_id.read(id)
        if not found:
            words = "it reports a session of this name and then does not find it"
            raise ClusterError(self._cluster_name, "unknown", "no-session", words)
        return self._adopt(found)

    async def _find(self) -> Launched | None:
        """Return the session, or what it has left where the cluster has forgotten it."""
        found = await self._context.connection.by_name.read(self.name)
        if found:
            self.unsure = self.unsure or len(found) > 1
            return self._adopt(found)
        data = await self._context.pipeline_folders.read(self._spec, "exit")
        if data is not None:
            return Launched(observed=Observation(record=exit_record.read_record(data)))
        if await self._context.pipeline_folders.is_claimed(self._spec):
            return Launched(observed=Observation(gone=True, no_record=True))
        return None

    def _adopt(self, found: list[Session]) -> Launched:
        """Take the session that runs, or else the latest."""
        session = min(found, key=lambda each: each.final)
        if not plan.is_ours(session.tag, self._spec):
            return Launched(verdict=_FOREIGN)
        return Launched(session.id, Observation(session=session))
