"""Requests of clients: one struct per `<kind>.<verb>`, the same over NATS and HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field, to_builtins

from trackbook.engine.edits import Change
from trackbook.engine.errors import Refused
from trackbook.events.commit import Input

Name = Annotated[str, Meta(description="a pipeline's name or id (a unique prefix of the id will do)")]
CommandId = Annotated[str, Meta(min_length=1, max_length=128, description="chosen by the client: send it again and get the same outcome")]  # fmt: skip  # noqa: E501


class Request(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every command may carry; the engine mints the ids that are missing."""

    stored: ClassVar[bool] = True
    """Whether the outcome is on the log; where it isn't, the same request again looks again."""

    command_id: CommandId | None = None
    correlation_id: Annotated[str, Meta(max_length=128)] | None = None
    actor: Annotated[str, Meta(max_length=128)] | None = None


class CreatePipeline(Request, kw_only=True):
    """`pipeline.create`: an empty pipeline of this name."""

    name: str
    description: str = ""
    variables: dict[str, Any] = field(default_factory=dict)


class ApplyPipeline(Request, kw_only=True):
    """`pipeline.apply`: make the pipeline be what the YAML (or the mapping) says; creates it if need be.

    `name` overrides the document's; `pipeline` says which pipeline to change where its name changes too.
    `code_sha256` is that of the archive of the pipeline's `code`, over one in the document. `dry_run` reports
    what would change.
    """

    yaml: str | None = None
    definition: dict[str, Any] | None = None
    name: str | None = None
    pipeline: Name | None = None
    expected_version: int | None = None
    dry_run: bool = False
    code_sha256: str | None = None


class EditPipeline(Request, kw_only=True):
    """`pipeline.edit`: an edit session, its changes in order, as one version."""

    pipeline: Name
    changes: list[Change]
    expected_version: int | None = None


class RenamePipeline(Request, kw_only=True):
    """`pipeline.rename`: give the pipeline another name."""

    pipeline: Name
    name: str
    expected_version: int | None = None


class RestorePipeline(Request, kw_only=True):
    """`pipeline.restore`: a new version with the content of an old one."""

    pipeline: Name
    version: int
    expected_version: int | None = None


class DeletePipeline(Request, kw_only=True):
    """`pipeline.delete`: no more edits or jobs; the history stays, the name becomes free."""

    pipeline: Name
    expected_version: int | None = None


class StartJob(Request, kw_only=True):
    """`job.start`: run a version of a pipeline (by default the latest), with variables of this run's own.

    `virtual_env` is the folder of a Python virtual environment that tasks of the local executor get.
    """

    pipeline: Name
    version: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    executor: str | None = None
    virtual_env: Annotated[str, Meta(max_length=4096)] = ""


class CancelJob(Request, kw_only=True):
    """`job.cancel`: stop what runs, start nothing more."""

    job: str
    reason: str = "on request"


class PauseJob(Request, kw_only=True):
    """`job.pause`: launch no task until the job is resumed; running tasks continue."""

    job: str
    reason: str = "on request"


class ResumeJob(Request, kw_only=True):
    """`job.resume`: continue, and launch the tasks that became ready during the pause."""

    job: str


class CheckJob(Request, kw_only=True):
    """`job.check`: say what would become of a job, and start none.

    Of a version of a `pipeline` (by default the latest), or of a `yaml` or `definition` as it would be applied.
    It is checked as a start would be, and its executors are asked what would fail there: see `ok` and `findings`.
    With `offline` no executor is asked. The archive of the pipeline's `code` need not be stored yet.
    Nothing is put on the log.
    """

    stored: ClassVar[bool] = False

    pipeline: Name | None = None
    version: int | None = None
    yaml: str | None = None
    definition: dict[str, Any] | None = None
    name: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    executor: str | None = None
    offline: bool = False
    code_sha256: str | None = None


class SweepExecutors(Request, kw_only=True):
    """`executor.sweep`: find sessions that this installation left on its executors and no job owns.

    With `end` they are terminated, else only listed in `findings`. Nothing is written to the log.
    """

    stored: ClassVar[bool] = False

    executor: str | None = None
    end: bool = False


class AcceptLoss(Request, kw_only=True):
    """`log.accept-loss`: continue without what the log has lost; see `GET /api/log`.

    `evidence` are the ids of what is accepted, none for all that is open.
    """

    evidence: list[str] = field(default_factory=list)


class ReleaseQuarantine(Request, kw_only=True):
    """`quarantine.release`: leave out the commits of an aggregate that can't follow the intact ones before them.

    The aggregate continues as of its last intact version.
    """

    kind: str
    id: str


REQUESTS: dict[tuple[str, str], type[Request]] = {
    ("pipeline", "create"): CreatePipeline,
    ("pipeline", "apply"): ApplyPipeline,
    ("pipeline", "edit"): EditPipeline,
    ("pipeline", "rename"): RenamePipeline,
    ("pipeline", "restore"): RestorePipeline,
    ("pipeline", "delete"): DeletePipeline,
    ("job", "start"): StartJob,
    ("job", "cancel"): CancelJob,
    ("job", "pause"): PauseJob,
    ("job", "resume"): ResumeJob,
    ("job", "check"): CheckJob,
    ("executor", "sweep"): SweepExecutors,
    ("log", "accept-loss"): AcceptLoss,
    ("quarantine", "release"): ReleaseQuarantine,
}


class Problem(Struct, kw_only=True, omit_defaults=True):
    """Why a command was not accepted: a stable code, words, and the place in the payload or its YAML."""

    code: str
    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None
    others: list[Problem] | None = None


class Warning_(Struct, kw_only=True, omit_defaults=True):  # noqa: N801
    """What was accepted and is not acted on as its author may expect."""

    code: str
    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None


class Found(Struct, kw_only=True, omit_defaults=True):
    """One line of a check: what was checked, what was found, and what to do; `task` where it is about one."""

    what: str
    found: str
    verdict: Literal["ok", "warn", "fail"]
    hint: str = ""
    task: str = ""
    executor: str = ""


class Reply(Struct, kw_only=True, omit_defaults=True):
    """The outcome of a command; `seq` is its place on the log (0 if nothing was written).

    `status` is `accepted`, `rejected`, or `unknown` where the broker does not say whether it stored the command.
    Such a command may be carried out yet; sent again with the same id, it gets its outcome.
    """

    command_id: str
    status: str
    seq: int = 0
    pipeline: str | None = None
    name: str | None = None
    job: str | None = None
    version: int | None = None
    changes: list[str] | None = None
    summary: dict[str, Any] | None = None
    warnings: list[Warning_] | None = None
    ok: bool | None = None
    """Of a check: whether nothing was found that would fail."""
    findings: list[Found] | None = None
    error: Problem | None = None
    omitted: list[str] | None = None
    """Fields left out since the reply would have been larger than the broker carries."""


class CommandRequest(Struct, frozen=True):
    """A request that is to be decided: who asks, under which ids, and the digest of what was asked."""

    request: Request
    command_id: str
    correlation: str
    actor: str
    digest: str
    causation: str = ""

    def input(self, command: Any, reply: Reply | None = None) -> Input[Any]:
        """Return what a commit keeps of the request: the command that it became, and its reply if it is known."""
        plain = encode_reply(reply) if reply is not None else None
        return Input(self.actor, command, self.command_id, self.correlation, self.digest, plain, self.causation)


Handler = Callable[[CommandRequest], Awaitable[Reply]]


class Invalid(Exception):
    """The payload alone is refused; nothing is written, and asking again computes the same."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused


def encode_reply(reply: Reply) -> dict[str, Any]:
    """Return the reply as JSON has it."""
    plain: dict[str, Any] = to_builtins(reply)
    return plain


def rejection(command_id: str, refused: Refused) -> Reply:
    """Return the reply that says no, with everything that was found."""
    return Reply(command_id=command_id, status="rejected", error=_problem(refused))


def _problem(refused: Refused) -> Problem:
    return Problem(
        code=refused.code,
        message=refused.message,
        path=refused.path or None,
        line=refused.line,
        column=refused.column,
        hint=refused.hint or None,
        others=[_problem(other) for other in refused.others] or None,
    )
