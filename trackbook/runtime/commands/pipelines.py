"""Commands about pipelines: each edit session is one version."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct, to_builtins

from trackbook.adapters.yaml.load import Loaded, load, locate
from trackbook.engine import definition, name, pipeline
from trackbook.engine.decider import step
from trackbook.engine.diff import describe
from trackbook.engine.edits import Change, Rename
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.names import forms
from trackbook.engine.pipeline import PipelineState
from trackbook.engine.ports import AppendConflict
from trackbook.events.commit import digest
from trackbook.events.pipeline import SettingChanged
from trackbook.runtime.aggregate import Aggregate
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
    encode_reply,
)
from trackbook.runtime.owner import Owner
from trackbook.runtime.pipeline_contents import History


def derived_id(command_id: str) -> str:
    """Return the id of what a command creates: the same command sent again creates the same thing."""
    return digest(command_id.encode())[:16]


class PipelineCommands:
    """Handlers of `pipeline.create`, `apply`, `edit`, `rename`, `restore` and `delete`."""

    def __init__(self, owner: Owner, history: History) -> None:
        self._owner = owner
        self._history = history

    async def create(self, asked: CommandRequest) -> Reply:
        """`pipeline.create`."""
        request = asked.request
        assert isinstance(request, CreatePipeline)
        content: dict[str, Any] = {"name": request.name}
        if request.description:
            content["description"] = request.description
        if request.variables:
            content["environment"] = {"envs": request.variables}
        return await self._submit(asked, _Target(derived_id(asked.command_id)), pipeline.CreatePipeline(content))

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
        target = await self._target(request, loaded.content, asked)
        decide = self._decide_only if request.dry_run else self._submit
        try:
            return await decide(asked, target, command, loaded), loaded
        except Refused as refused:
            if refused.code == "name_taken" and not target.name:
                raise AppendConflict("the pipeline was created meanwhile") from None
            raise locate(refused, loaded.positions) from None

    async def _target(self, request: ApplyPipeline, content: dict[str, Any], asked: CommandRequest) -> _Target:
        if request.pipeline is not None:
            return _target_of(await self.find(request.pipeline))
        if bearer := await self._bearer(str(content.get("name", ""))):
            return _target_of(await self._owner.wait_for_state("pipeline", bearer))
        return _Target(derived_id(asked.command_id))

    async def edit(self, asked: CommandRequest) -> Reply:
        """`pipeline.edit`."""
        request = asked.request
        assert isinstance(request, EditPipeline)
        command = pipeline.EditPipeline(request.changes, request.expected_version)
        return await self._change(asked, request.pipeline, command)

    async def rename(self, asked: CommandRequest) -> Reply:
        """`pipeline.rename`."""
        request = asked.request
        assert isinstance(request, RenamePipeline)
        changes: list[Change] = [Rename(request.name)]
        command = pipeline.EditPipeline(changes, request.expected_version)
        return await self._change(asked, request.pipeline, command)

    async def restore(self, asked: CommandRequest) -> Reply:
        """`pipeline.restore`."""
        request = asked.request
        assert isinstance(request, RestorePipeline)
        target = _target_of(await self.find(request.pipeline))
        content = await self._history.content(target.id, request.version)
        command = pipeline.RestoreVersion(request.version, content, request.expected_version)
        return await self._submit(asked, target, command)

    async def delete(self, asked: CommandRequest) -> Reply:
        """`pipeline.delete`."""
        request = asked.request
        assert isinstance(request, DeletePipeline)
        return await self._change(asked, request.pipeline, pipeline.DeletePipeline(request.expected_version))

    async def find(self, ref: str) -> Aggregate[PipelineState]:
        """Return the pipeline of this name, id, or unique prefix of an id; raises Refused.

        Waits for an edit that is being committed. Read what you need of it before you await anything else.
        """
        for form in forms(ref):
            if bearer := await self._bearer(form):
                return await self._owner.wait_for_state("pipeline", bearer)
        ids = self._owner.aggregates.ledger.ids("pipeline", ref) if ref else []
        if len(ids) == 1 or ref in ids:
            return await self._owner.wait_for_state("pipeline", ids[0])
        if ids:
            raise Refused("ambiguous_id", f"{ref!r} begins several ids: {', '.join(ids)}", "pipeline")
        raise Refused(
            "pipeline_not_found",
            f"there is no pipeline {ref!r}",
            "pipeline",
            hint="`trackbook pipeline list` shows what there is.",
        )

    async def _bearer(self, of: str) -> str | None:
        aggregate = await self._owner.wait_for_state("name", name.name_id(of))
        bearer: str | None = aggregate.state.pipeline
        return bearer

    async def _change(self, asked: CommandRequest, ref: str, command: pipeline.AnyPipelineCommand) -> Reply:
        return await self._submit(asked, _target_of(await self.find(ref)), command)

    async def _submit(
        self,
        asked: CommandRequest,
        target: _Target,
        command: pipeline.AnyPipelineCommand,
        loaded: Loaded | None = None,
    ) -> Reply:
        reply = Reply(command_id=asked.command_id, status="accepted")

        async def complete(state: PipelineState, events: list[Any], version: int) -> dict[str, Any]:
            nonlocal reply
            await self._refuse_unknown_code(state, events)
            reply = await asyncio.to_thread(_reply, asked, state, events, version, loaded)
            return encode_reply(reply)

        answered = await self._owner.submit("pipeline", target.id, asked.input(command), target.admit, complete)
        reply.seq = answered.seq if answered.changed else 0
        return reply

    async def _decide_only(
        self,
        asked: CommandRequest,
        target: _Target,
        command: pipeline.AnyPipelineCommand,
        loaded: Loaded | None = None,
    ) -> Reply:
        """Return what a command would do to the pipeline, on a copy of it."""
        aggregate = await self._owner.aggregates.load("pipeline", target.id)
        state, events, _ = await asyncio.to_thread(step, pipeline.PIPELINE, aggregate.state, command)
        return await asyncio.to_thread(_reply, asked, state, events, aggregate.version, loaded)

    async def _refuse_unknown_code(self, state: PipelineState, events: list[Any]) -> None:
        """Raise Refused where the content comes to name an archive of code that is not stored."""
        sha256 = state.settings.get("code_sha256")
        names = any(isinstance(event, SettingChanged) and event.path == ["code_sha256"] for event in events)
        if sha256 and names and not await self._owner.aggregates.blobs.has(sha256):
            message = f"no archive with the SHA-256 {sha256[:12]}… is stored here"
            hint = "Upload it first, by PUT /api/code/SHA256; or leave out `code_sha256` and apply by the CLI."
            raise Refused("code_unknown", message, "code_sha256", hint=hint)


class _Target(Struct, frozen=True):
    """The pipeline that a command is about, and its name when that was found; '' for one to be created."""

    id: str
    name: str = ""

    def admit(self, state: PipelineState) -> None:
        """Raise AppendConflict where the pipeline was renamed meanwhile: the name may be another's now."""
        if state.name != self.name:
            raise AppendConflict(f"the pipeline {self.id} was {self.name!r}, and is {state.name!r} now")


def _target_of(aggregate: Aggregate[PipelineState]) -> _Target:
    return _Target(aggregate.id, aggregate.state.name)


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
    asked: CommandRequest, state: PipelineState, events: list[Any], version: int, loaded: Loaded | None
) -> Reply:
    warned = [] if state.deleted else definition.check(state.content)
    return Reply(
        command_id=asked.command_id,
        status="accepted",
        pipeline=state.id,
        name=state.name,
        version=version,
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
