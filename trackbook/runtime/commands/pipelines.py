"""Pipelines: each edit session one commit, together with the commits of the names that it takes or frees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import to_builtins

from trackbook.adapters.yaml.load import Loaded, load, locate
from trackbook.engine import definition, name, pipeline
from trackbook.engine.decider import step
from trackbook.engine.diff import describe
from trackbook.engine.edits import Change, Rename
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.kinds import KINDS
from trackbook.engine.names import forms
from trackbook.engine.pipeline import PipelineState
from trackbook.events.commit import Input, digest
from trackbook.runtime.aggregate import Aggregate, Draft
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands.requests import (
    ApplyPipeline,
    CommandRequest,
    CreatePipeline,
    DeletePipeline,
    EditPipeline,
    Invalid,
    RenamePipeline,
    Reply,
    RestorePipeline,
    Warning_,
)
from trackbook.runtime.pipeline_contents import History

_KEPT = 256


def derived_id(command_id: str) -> str:
    """Return the id of what a command creates: the same command sent again creates the same thing."""
    return digest(command_id.encode())[:16]


class Pipelines:
    """Decides on pipelines, one command at a time: edits are rare, and names are unique across all of them."""

    def __init__(self, aggregates: AggregateStore, history: History) -> None:
        self._aggregates = aggregates
        self._history = history
        self._lock = asyncio.Lock()
        self._kept: dict[tuple[str, str], Aggregate[Any]] = {}

    async def create(self, asked: CommandRequest) -> Reply:
        """`pipeline.create`."""
        request = asked.request
        assert isinstance(request, CreatePipeline)
        content: dict[str, Any] = {"name": request.name}
        if request.description:
            content["description"] = request.description
        if request.variables:
            content["environment"] = {"envs": request.variables}
        command = pipeline.CreatePipeline(content)

        async def decide() -> Reply:
            return await self._commit(await self._new(asked), command, asked)

        return await self._deciding(decide)

    async def apply(self, asked: CommandRequest) -> Reply:
        """`pipeline.apply`."""
        reply, _ = await self.preview(asked)
        return reply

    async def preview(self, asked: CommandRequest) -> tuple[Reply, Loaded]:
        """Apply, or say what would become of it where that is a dry run; returns what was read, too."""
        request = asked.request
        assert isinstance(request, ApplyPipeline)
        loaded = await asyncio.to_thread(_load_content, request)
        command = pipeline.ApplyDefinition(loaded.content, request.expected_version)

        async def decide() -> Reply:
            target = await self._target(request, loaded.content, asked)
            return await self._commit(target, command, asked, loaded)

        try:
            return await self._deciding(decide), loaded
        except Refused as refused:
            raise locate(refused, loaded.positions) from None

    async def _target(
        self, request: ApplyPipeline, content: dict[str, Any], asked: CommandRequest
    ) -> Aggregate[Any]:
        if request.pipeline is not None:
            return await self._find(request.pipeline)
        bearer = await self._bearer(str(content.get("name", "")))
        return await self._load("pipeline", bearer) if bearer else await self._new(asked)

    async def edit(self, asked: CommandRequest) -> Reply:
        """`pipeline.edit`."""
        request = asked.request
        assert isinstance(request, EditPipeline)
        return await self._change(
            asked, request.pipeline, pipeline.EditPipeline(request.changes, request.expected_version)
        )

    async def rename(self, asked: CommandRequest) -> Reply:
        """`pipeline.rename`."""
        request = asked.request
        assert isinstance(request, RenamePipeline)
        changes: list[Change] = [Rename(request.name)]
        return await self._change(
            asked, request.pipeline, pipeline.EditPipeline(changes, request.expected_version)
        )

    async def restore(self, asked: CommandRequest) -> Reply:
        """`pipeline.restore`."""
        request = asked.request
        assert isinstance(request, RestorePipeline)

        async def decide() -> Reply:
            aggregate = await self._find(request.pipeline)
            content = await self._history.content(aggregate.id, request.version)
            command = pipeline.RestoreVersion(request.version, content, request.expected_version)
            return await self._commit(aggregate, command, asked)

        return await self._deciding(decide)

    async def delete(self, asked: CommandRequest) -> Reply:
        """`pipeline.delete`."""
        request = asked.request
        assert isinstance(request, DeletePipeline)
        return await self._change(asked, request.pipeline, pipeline.DeletePipeline(request.expected_version))

    async def find(self, ref: str) -> Aggregate[PipelineState]:
        """Return the pipeline of this name, id, or unique prefix of an id; raises Refused.

        Waits for an edit that is being committed: until then its state in memory is ahead of the log. The caller
        reads what it needs before it awaits anything else.
        """
        async with self._lock:
            return await self._find(ref)

    async def _find(self, ref: str) -> Aggregate[PipelineState]:
        for form in forms(ref):
            if bearer := await self._bearer(form):
                return await self._load("pipeline", bearer)
        ids = self._aggregates.ledger.ids("pipeline", ref) if ref else []
        if len(ids) == 1 or ref in ids:
            return await self._load("pipeline", ids[0])
        if ids:
            raise Refused("ambiguous_id", f"{ref!r} begins several ids: {', '.join(ids)}", "pipeline")
        raise Refused(
            "pipeline_not_found",
            f"there is no pipeline {ref!r}",
            "pipeline",
            hint="`trackbook pipeline list` shows what there is.",
        )

    async def _bearer(self, of: str) -> str | None:
        aggregate = await self._load("name", name.name_id(of))
        bearer: str | None = aggregate.state.pipeline
        return bearer

    async def _load(self, kind: str, id: str) -> Aggregate[Any]:  # noqa: A002
        kept, head = self._kept.get((kind, id)), self._aggregates.ledger.head(kind, id)
        if kept is None or (head is not None and head.version > kept.version):  # another engine wrote it
            self._kept[kind, id] = await self._aggregates.load(kind, id)
            while len(self._kept) > _KEPT:
                self._kept.pop(next(iter(self._kept)))
        return self._kept[kind, id]

    def forget(self) -> None:
        """Drop what is kept: an operator left commits out."""
        self._kept.clear()

    async def _new(self, asked: CommandRequest) -> Aggregate[Any]:
        """Return the pipeline that a command creates; it may be there already, its outcome not known."""
        new_id = derived_id(asked.command_id)
        if self._aggregates.ledger.head("pipeline", new_id):
            return await self._load("pipeline", new_id)
        return Aggregate("pipeline", new_id, KINDS["pipeline"].decider.initial(new_id))

    async def _deciding(self, decide: Callable[[], Awaitable[Reply]]) -> Reply:
        """Run a decision alone, and forget what a failure left behind."""
        async with self._lock:
            try:
                return await decide()
            except Refused:
                raise
            except BaseException:
                self._kept.clear()
                raise

    async def _change(self, asked: CommandRequest, ref: str, command: pipeline.AnyPipelineCommand) -> Reply:
        async def decide() -> Reply:
            return await self._commit(await self._find(ref), command, asked)

        return await self._deciding(decide)

    async def _commit(
        self,
        aggregate: Aggregate[PipelineState],
        command: pipeline.AnyPipelineCommand,
        asked: CommandRequest,
        loaded: Loaded | None = None,
    ) -> Reply:
        old_name, old_code = aggregate.state.name, aggregate.state.settings.get("code_sha256")
        # On a thread, since a large pipeline takes a second; the lock keeps the aggregate to this decision.
        state, events, causes = await asyncio.to_thread(step, KINDS["pipeline"].decider, aggregate.state, command)
        reply = await asyncio.to_thread(_reply, asked, aggregate, state, events, loaded)
        if not events or getattr(asked.request, "dry_run", False):
            self._kept.pop(("pipeline", aggregate.id), None)
            return reply
        await self._refuse_unknown_code(old_code, state)
        reply.version = aggregate.version + 1
        aggregate.state = state
        names = await self._names(aggregate, old_name, asked)
        draft = Draft(aggregate, [asked.input(command, reply)], events, causes)
        reply.seq = await self._aggregates.write(*names, draft)
        self._kept["pipeline", aggregate.id] = aggregate
        return reply

    async def _refuse_unknown_code(self, old: str | None, state: PipelineState) -> None:
        """Raise Refused where the content comes to name an archive of code that is not stored."""
        sha256 = state.settings.get("code_sha256")
        if sha256 and sha256 != old and not await self._aggregates.blobs.has(sha256):
            self._kept.pop(("pipeline", state.id), None)
            message = f"no archive with the SHA-256 {sha256[:12]}… is stored here"
            hint = "Upload it first, by PUT /api/code/SHA256; or leave out `code_sha256` and apply by the CLI."
            raise Refused("code_unknown", message, "code_sha256", hint=hint)

    async def _names(self, aggregate: Aggregate[PipelineState], old: str, asked: CommandRequest) -> list[Draft]:
        """Return the commits of the names that change hands with this edit; raises Refused for a taken one."""
        new = "" if aggregate.state.deleted else aggregate.state.name
        if new == old:
            return []
        steps: list[tuple[str, name.AnyNameCommand]] = []
        if new:
            steps.append((new, name.TakeName(new, aggregate.id)))
        if old:
            steps.append((old, name.ReleaseName(old, aggregate.id)))
        drafts = []
        for of, command in steps:
            holder = await self._load("name", name.name_id(of))
            try:
                holder.state, events, causes = step(KINDS["name"].decider, holder.state, command)
            except Refused:
                self._kept.clear()
                raise
            given = Input(asked.actor, command, correlation=asked.correlation)
            drafts.append(Draft(holder, [given], events, causes))
        return drafts


def _load_content(request: ApplyPipeline) -> Loaded:
    """Return the content that is asked for; raises Invalid with line and column where it can't be read."""
    if (request.yaml is None) == (request.definition is None):
        raise Invalid(Refused("invalid_payload", "give either `yaml` or `definition`", "yaml"))
    try:
        if request.yaml is not None:
            loaded = load(request.yaml)
        else:
            loaded = Loaded(definition.from_mapping(request.definition or {}))
        if request.name is not None:
            loaded.content["name"] = request.name
        if request.code_sha256 is not None:
            loaded.content["code_sha256"] = request.code_sha256
    except Refused as refused:
        raise Invalid(refused) from None
    return loaded


def _reply(
    asked: CommandRequest,
    aggregate: Aggregate[PipelineState],
    state: PipelineState,
    events: list[Any],
    loaded: Loaded | None,
) -> Reply:
    warned = [] if state.deleted else definition.check(state.content)
    return Reply(
        command_id=asked.command_id,
        status="accepted",
        pipeline=aggregate.id,
        name=state.name,
        version=aggregate.version,
        changes=[describe(event) for event in events[:_DESCRIBED]],
        summary=None if state.deleted else to_builtins(definition.summary(state.content)),
        warnings=[_warning(warning, loaded) for warning in warned],
    )


_DESCRIBED = 50
"""Changes that a reply describes; all of them are on the log."""


def _warning(warned: Warned, loaded: Loaded | None) -> Warning_:
    if loaded is not None:
        warned = locate(warned, loaded.positions)
    return Warning_(
        code=warned.code,
        message=warned.message,
        path=warned.path or None,
        line=warned.line,
        column=warned.column,
    )
