"""Executors in processes of their own, over request/reply: the engine's end, and the worker's end.

The log is the only queue: a launch is repeated until the worker holds it in memory, and everything
outstanding is launched again, which means adopted, whenever an engine starts or a worker attaches. A report is
repeated until the engine has it on the log. So no process needs storage for what is between them.

Subjects, all under `<prefix>.exec.<name>` and of the engine's account alone: `launch` and `stop` (engine to
worker), `attach` and `report.<job>` (worker to engine), `who` (is there a worker of this name already?), and
`engine` (sent by an engine that starts, so that nobody waits for the answer of one that died).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.endpoints import close_endpoints, endpoint, new_broker, open_endpoints
from trackbook.adapters.nats.errors import Unanswered
from trackbook.adapters.nats.retrying_request import OK, RetryingRequests, refusal
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import Executor, ReportSink, SessionSpec
from trackbook.errors import UserError
from trackbook.failpoints import failpoint

if TYPE_CHECKING:
    from faststream.nats import NatsBroker

ENGINE_QUEUE = "engine"
AT_ONCE = 64
"""Launches and stops that a worker takes concurrently; more wait."""

ATTACH_PATIENCE = 60.0
"""Seconds for an engine to take up what is outstanding, which may be many jobs."""

SPEC_LIMIT = REPORT_LIMIT = 960 * 1024
"""Bytes of a session's or a report's JSON; the broker carries 1 MiB a message."""

log = structlog.get_logger("trackbook.executors")
_NAME = re.compile(r"[A-Za-z0-9_/-]{1,64}")


class ExecutorNameTaken(UserError):
    """Another worker answers under this name; two would run the same sessions."""


class Attach(Struct):
    """A worker starts: which, and where."""

    host: str
    pid: int


_REPORTS = msgspec.json.Decoder(Report)
_SPECS = msgspec.json.Decoder(SessionSpec)
OnAttach = Callable[[], Awaitable[object]]
"""Called when an executor's worker starts: launch and stop again what is outstanding there."""


def subject(prefix: str, name: str, what: str) -> str:
    """Return a subject between engine and worker; raises ValueError for a name that subjects can't hold."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"an executor's name is 1 to 64 letters, digits, -, _ or /, not {name!r}")
    return f"{prefix}.exec.{name}.{what}"


class RemoteExecutor:
    """The engine's end of an executor elsewhere; a port like any other (engine/ports/sessions.py).

    `on_attach` must launch and stop again what is outstanding for this executor, as the engine does by itself
    when it starts. Sessions and their reports survive the death of either end.
    """

    def __init__(self, connection: Connection, prefix: str, name: str, on_attach: OnAttach) -> None:
        self._nc = connection
        self._prefix = prefix
        self._name = name
        self._on_attach = on_attach
        self._requests = RetryingRequests(connection)
        self._report: ReportSink | None = None
        self._subscriptions: list[Subscription] = []
        self._answering = TaskSupervisor()
        self._reports = self._subject("report.")

    def _subject(self, what: str) -> str:
        return subject(self._prefix, self._name, what)

    async def start(self, report: ReportSink) -> None:
        """Take reports and attachments from now on."""
        self._report = report
        await self._nc.publish(self._subject("engine"))  # first: what is asked from here on is asked of us
        for filtered, handle in (("report.*", self._take_report), ("attach", self._take_attach)):
            self._subscriptions.append(await self._listen(filtered, handle))
        await self._nc.settle()

    async def launch(self, spec: SessionSpec) -> None:
        """Return once the worker has the session, however long it is away."""
        data = msgspec.json.encode(spec)
        if len(data) > SPEC_LIMIT:
            await self._refuse(spec, len(data))
        else:
            failpoint("exec.launch.before")
            await self._requests.until_ok(self._subject("launch"), data)
            failpoint("exec.launch.taken")

    async def stop(self, spec: SessionSpec) -> None:
        """Return once the worker knows that the session is to end, however long it is away."""
        data = msgspec.json.encode(spec)
        if len(data) > SPEC_LIMIT:  # its name and place in the job are all that ending a session takes
            data = msgspec.json.encode(msgspec.structs.replace(spec, command="", variables={}, settings={}))
        await self._requests.until_ok(self._subject("stop"), data)

    async def close(self, *, cancel: bool = False) -> None:  # noqa: ARG002 - sessions belong to the worker
        """Take no more reports; the worker keeps them until an engine answers again."""
        for subscription in self._subscriptions:
            with suppress(NatsError):  # the connection may be gone
                await subscription.unsubscribe()
        await self._answering.close()

    async def _listen(self, filtered: str, handle: Callable[[Msg], Awaitable[None]]) -> Subscription:
        async def answer(message: Msg) -> None:
            # A task each: reports that wait together go into one commit, which one after another never would.
            self._answering.spawn(self._answer(message, handle), message.subject)

        return await self._nc.subscribe(self._subject(filtered), queue=ENGINE_QUEUE, cb=answer)

    async def _answer(self, message: Msg, handle: Callable[[Msg], Awaitable[None]]) -> None:
        reply = OK
        try:
            await handle(message)
        except Exception as problem:
            log.warning("executor.not_heard", subject=message.subject, error=repr(problem))
            reply = refusal(problem)
        with suppress(NatsError):  # no reply: it is repeated
            await message.respond(reply)

    async def _take_report(self, message: Msg) -> None:
        assert self._report is not None
        failpoint("exec.report.received")
        await self._report(message.subject.removeprefix(self._reports), _REPORTS.decode(message.data))
        failpoint("exec.report.committed")

    async def _take_attach(self, message: Msg) -> None:
        who = msgspec.json.decode(message.data, type=Attach)
        log.info("executor.attached", executor=self._name, host=who.host, pid=who.pid)
        self._requests.again()
        await self._on_attach()

    async def _refuse(self, spec: SessionSpec, size: int) -> None:
        """Report a session that can't be sent as failed, for no later attempt would carry it either."""
        assert self._report is not None
        message = f"the task is too large for executor {self._name}: {size:,} bytes, {SPEC_LIMIT:,} can be sent"
        ended = ReportTaskEnded(spec.task, spec.attempt, "failed", datetime.now(UTC), message=message)
        await self._report(spec.job, ended)


class ExecutorWorker:
    """The worker's end: gives an executor what the engine sends, and the engine what the executor reports.

    One name belongs to one executor with one data directory: a session launched under another has no claim there.
    """

    def __init__(self, executor: Executor, access: Access, prefix: str, name: str) -> None:
        self._executor = executor
        self._access = access
        self._prefix = prefix
        self._name = name
        self._nc: Connection | None = None
        self._requests: RetryingRequests | None = None
        self._broker = worker_broker(access, prefix, name, self._launch, self._stop, self._who)
        self._tasks = TaskSupervisor()
        self.attached = asyncio.Event()

    async def start(self, patience: float = 10.0) -> None:
        """Take sessions from now on, and ask the engine for what is outstanding until it answers.

        Raises BrokerUnreachable after `patience` seconds, ExecutorNameTaken while another worker has the name.
        """
        self._nc = await connect(self._access, name=f"trackbook executor {self._name}", patience=patience)
        self._requests = RetryingRequests(self._nc)
        try:
            await self._refuse_twin()
            await self._nc.subscribe(self._subject("engine"), cb=self._engine_started)
            await self._executor.start(self._report)
            await open_endpoints(self._broker, patience)
        except BaseException:
            await self.close()
            raise
        self._tasks.keep(self._attach, "attaching to the engine")

    async def close(self, *, cancel: bool = False) -> None:
        """Take nothing more; sessions run on, or end, and are reported ended, when `cancel` is set."""
        await self._tasks.close()
        await close_endpoints(self._broker)
        await self._executor.close(cancel=cancel)
        if self._nc:
            await self._nc.close()

    def _subject(self, what: str) -> str:
        return subject(self._prefix, self._name, what)

    async def _refuse_twin(self) -> None:
        assert self._nc is not None
        with suppress(Unanswered):
            twin = msgspec.json.decode((await self._nc.ask(self._subject("who"), timeout=1.0)).data, type=Attach)
            raise ExecutorNameTaken(
                f"executor {self._name} runs already, as process {twin.pid} on {twin.host}; stop it, or take "
                "another name"
            )

    async def _attach(self) -> None:
        assert self._requests is not None
        await self._requests.until_ok(self._subject("attach"), msgspec.json.encode(_me()), ATTACH_PATIENCE)
        self.attached.set()

    async def _engine_started(self, _message: Msg) -> None:
        assert self._requests is not None
        self._requests.again()

    async def _report(self, job: str, report: Report) -> None:
        assert self._requests is not None
        failpoint("worker.report.before")
        await self._requests.until_ok(self._subject(f"report.{job}"), _encode_report(report))
        failpoint("worker.report.answered")

    async def _launch(self, message: Msg) -> bytes:
        failpoint("worker.launch.received")
        return await _said(self._executor.launch(_SPECS.decode(message.data)))

    async def _stop(self, message: Msg) -> bytes:
        return await _said(self._executor.stop(_SPECS.decode(message.data)))

    async def _who(self, _message: Msg) -> bytes:
        return msgspec.json.encode(_me())


def worker_broker(
    access: Access,
    prefix: str,
    name: str,
    launch: Callable[[Msg], Awaitable[bytes]],
    stop: Callable[[Msg], Awaitable[bytes]],
    who: Callable[[Msg], Awaitable[bytes]],
) -> NatsBroker:
    """Return the broker object with a worker's endpoints."""
    broker = new_broker(access, f"trackbook executor {name} sessions")
    for what, handle, text in (
        ("launch", launch, "Run the session, or adopt it; one that has ended is reported again."),
        ("stop", stop, "End the session; one never launched can't be launched any more."),
    ):
        title = f"exec.{what}"
        endpoint(
            broker,
            subject(prefix, name, what),
            "worker",
            handle,
            payload=SessionSpec,
            title=title,
            description=text,
            at_once=AT_ONCE,
        )
    endpoint(broker, subject(prefix, name, "who"), "worker", who, at_once=1)
    return broker


def _encode_report(report: Report) -> bytes:
    """Return a report as a message can carry it: without a result that is too large, which it then says."""
    data = msgspec.json.encode(report)
    if len(data) <= REPORT_LIMIT or not isinstance(report, ReportTaskEnded):
        return data
    words = f"the result is not used: of its {len(data):,} bytes {REPORT_LIMIT:,} can be sent to the engine"
    return msgspec.json.encode(msgspec.structs.replace(report, result=None, message=words))


async def _said(work: Coroutine[Any, Any, None]) -> bytes:
    try:
        await work
    except Exception as problem:
        log.warning("worker.failed", error=repr(problem))
        return refusal(problem)
    return OK


def _me() -> Attach:
    return Attach(socket.gethostname(), os.getpid())
