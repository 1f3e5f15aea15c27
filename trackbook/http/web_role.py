"""The web role: the projector with its read model, and HTTP over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from trackbook.adapters.execution import folders, logs, output_log
from trackbook.adapters.execution.output_log import Kept, Piece
from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import NAMED, LedgerDamaged, Written
from trackbook.adapters.yaml.dump import dump
from trackbook.engine.diff import describe, diff, hunks
from trackbook.http.app import create_app
from trackbook.http.configured_executors import Configured, read_executors
from trackbook.http.endpoints.health import QUARANTINE
from trackbook.http.transport.connections import Connections, most_connections
from trackbook.http.transport.server import HttpServer
from trackbook.private_files import private_file
from trackbook.projections.errors import DamagedError
from trackbook.projections.read.finders import ReadModel
from trackbook.projections.write.projector import NotProjectedError, Projector
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.backup.writer import Backups
from trackbook.runtime.engine_role import open_aggregates
from trackbook.runtime.integrity.evidence import Integrity, evidence_json
from trackbook.runtime.pipeline_contents import History
from trackbook.runtime.process.descriptors import descriptor_limit
from trackbook.runtime.system import System

log = structlog.get_logger(__name__)
T = TypeVar("T")
_LOOK = 0.1  # seconds between looks at a log that somebody follows
_CUT_PAUSE, _CUT_LOOKS = 0.01, 20
"""Seconds between looks at a log that is being cut, and how often."""
_NAMED = 5
"""Damaged histories that readiness names."""
_LEVEL_WITHIN = 5.0
"""Seconds for the read model to be level with the log before it is shown: the last process may not have been."""


async def serve(system: System, stack: AsyncExitStack) -> str:
    """Start the projector and HTTP, stopped with `stack`; returns the address."""
    config = system.config
    aggregates = system.aggregates or _reader(system, stack)

    async def decisions() -> Integrity:
        aggregates.integrity.set_decisions((await aggregates.load_log()).state)
        return aggregates.integrity

    projector = Projector(config.data / "readmodel.db", aggregates.store, aggregates.blobs, decisions)
    stack.push_async_callback(projector.close)  # first: a start that is given up must leave no file open
    async with system.phase("the read model to be opened", f"Look at the disk of {config.data}."):
        await projector.start()
    running = asyncio.create_task(projector.run(), name="projector")
    stack.push_async_callback(_cancel, running)
    async with system.phase("the read model to be level with the log"):
        await _catch_up(projector, aggregates)
    async with system.phase("the configuration of the executors"):
        await read_executors(system, stack)
    connections = Connections(most_connections(descriptor_limit()))
    application = create_app(
        ReadModel(projector, aggregates.store, aggregates.blobs),
        system.gateway or _remote_gateway(system),
        Logs(config.data),
        Contents(system.history or History(aggregates)),
        Health(system, connections),
        LogTools(aggregates, projector),
        Configured(system),
        blobs=aggregates.blobs,
        backups=Backups(system, aggregates),
        token=system.token,
    )
    host, _, port = config.http.rpartition(":")
    server = HttpServer(
        application, host or "127.0.0.1", int(port), stopping=projector.feed.close, connections=connections
    )
    url = await server.start()
    stack.push_async_callback(server.stop)
    return url


async def _catch_up(projector: Projector, aggregates: AggregateStore) -> None:
    """Wait until the read model is level with the log, as far as that can be had quickly."""
    try:
        async with asyncio.timeout(_LEVEL_WITHIN):
            await _wait_for_all(projector, aggregates)
    except TimeoutError:  # a long catch-up continues in the background
        return
    except Exception as error:  # no stream yet, or the broker is unreachable: health reports it
        log.info("web.not_level", why=str(error))


async def _wait_for_all(projector: Projector, aggregates: AggregateStore) -> None:
    """Return once the read model has what the log has; its last messages may be lost."""
    head, before = await aggregates.store.head(), -1
    while projector.checkpoint != before or await _has_more(aggregates, before + 1):
        before = projector.checkpoint
        with contextlib.suppress(NotProjectedError):
            await projector.wait_for(head, _LOOK)
            return


async def _has_more(aggregates: AggregateStore, seq: int) -> bool:
    async for _ in aggregates.store.read_all(seq):
        return True
    return False


def _reader(system: System, stack: AsyncExitStack) -> AggregateStore:
    """Return an aggregate store that only reads. Its ledger is the engine's, as far as that is written."""
    ledger = Ledger(private_file(system.config.data / "engine.db"), owner=False)
    stack.callback(ledger.close)
    return open_aggregates(system, ledger)


def _remote_gateway(system: System) -> Any:
    from trackbook.adapters.nats.gateway import RemoteGateway

    assert system.connection is not None
    return RemoteGateway(system.connection, system.config.prefix)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class Logs:
    """The output of local sessions, from their files."""

    def __init__(self, data: Path) -> None:
        self._data = data

    async def extent(self, session: str) -> Kept | None:
        """Return which bytes are there, None before the session's command ran."""
        try:
            log = folders.log_file(self._data, session)
            logs.want(log)
            found = await _read_consistently(lambda: output_log.find_kept(log))
            return found or output_log.head_alone(log)
        except (FileNotFoundError, ValueError):
            return None

    async def read(self, session: str, offset: int, limit: int) -> Piece:
        """Return up to `limit` bytes from `offset`, or from the first one behind it that is kept."""
        log = folders.log_file(self._data, session)
        return await _read_consistently(lambda: output_log.read(log, offset, limit)) or Piece(offset, b"")

    async def follow(self, session: str, offset: int) -> AsyncIterator[Piece]:
        """Yield what is there and what comes, looked for while somebody follows."""
        while True:
            found = await self.extent(session)
            piece = await self.read(session, offset, 65536) if found and found.end > offset else None
            if piece and piece.data:
                offset = piece.end
                yield piece
            else:
                await asyncio.sleep(_LOOK)


async def _read_consistently(look: Callable[[], T | None]) -> T | None:
    """Look until the log is not being cut, for a moment: its writer may have died while it did."""
    for pause in (0, *[_CUT_PAUSE] * _CUT_LOOKS):
        await asyncio.sleep(pause)
        if (found := look()) is not None:
            return found
    return None


class Contents:
    """Contents of pipelines at any version, for HTTP."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def content(self, pipeline: str, version: int) -> dict[str, Any]:
        """Return the content as a mapping."""
        return await self._history.content(pipeline, version)

    async def yaml(self, pipeline: str, version: int) -> str:
        """Return the content as YAML."""
        return await asyncio.to_thread(dump, await self._history.content(pipeline, version))

    async def diff(self, pipeline: str, first: int, last: int) -> list[dict[str, Any]]:
        """Return the changes between two versions, each with a line in `text` and the `hunks` of long texts."""
        old = await self._history.content(pipeline, first)
        new = await self._history.content(pipeline, last)

        def described() -> list[dict[str, Any]]:
            return [
                {**msgspec.to_builtins(event), "text": describe(event, old), "hunks": hunks(event, old)}
                for event in diff(old, new)
            ]

        return await asyncio.to_thread(described)


class Health:
    """What the parts of this process say of themselves."""

    def __init__(self, system: System, connections: Connections) -> None:
        self._system = system
        self._connections = connections

    def problems(self) -> Sequence[str]:
        """Return in words what keeps the system from working."""
        system = self._system
        found = []
        if system.connection is None or not system.connection.is_connected:
            found.append("the broker can't be reached")
        if system.broker is not None and (problem := system.broker.space_problem()):
            found.append(problem)
        if system.aggregates is not None and system.aggregates.store.problem:
            found.append(system.aggregates.store.problem)
        if system.watchdog is not None and system.watchdog.problem:
            found.append(system.watchdog.problem)
        if system.aggregates is not None:
            found += system.aggregates.integrity.problems()
        return found + self._connections.problems()

    def warnings(self) -> Sequence[str]:
        """Return in words what else is wrong."""
        warnings = list(self._connections.warnings())
        if self._system.aggregates is not None:
            warnings += self._system.aggregates.integrity.warnings()
            if faults := self._system.aggregates.ledger.faults():
                names = [f"{each.kind}/{each.id}" for each in faults]
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                shown = ", ".join(names[:_NAMED]) + more
                warnings.append(f"damaged histories are in quarantine: {shown}; {QUARANTINE}")
        return warnings

    def metrics(self) -> Mapping[str, float]:
        """Return figures of the broker and the executor."""
        system = self._system
        figures: dict[str, float] = {
            "trackbook_http_connections": len(self._connections.open),
            "trackbook_http_connections_most": self._connections.most,
        }
        if system.broker is not None:
            figures["trackbook_broker_restarts_total"] = system.broker.restarts
        return figures


def _lacking(rows: list[str]) -> str:
    """Return in words which rows the ledger lacks."""
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"engine.db lacks rows: {', '.join(rows[:NAMED])}{more}"


class LogTools:
    """Checks of the log for HTTP."""

    def __init__(self, aggregates: AggregateStore, projector: Projector) -> None:
        self._aggregates = aggregates
        self._projector = projector

    async def verify(self) -> dict[str, Any]:
        """Check the whole log against itself and its witnesses, and the read model against the log."""
        ledger = self._aggregates.ledger
        problems: list[str] = []
        try:
            ledger.flush()
            await asyncio.to_thread(ledger.check)
            written = await asyncio.to_thread(ledger.written)
        except LedgerDamaged as damage:
            problems.append(f"{damage}; it is made again from the log")
            ledger.on_damage()
            written = Written()
        found = await log_checks.verify(self._aggregates, written.heads, written)
        known = {(defect.seq, defect.aggregate) for defect in found.defects}
        found.defects += [  # only a fold shows what can't be folded
            log_checks.Defect(seq, f"{kind}/{id_}", 0, reason)
            for kind, id_, seq, reason in self._projector.first_faults()
            if (seq, f"{kind}/{id_}") not in known
        ]
        if found.ok and found.lacking:
            ledger.on_damage()
            problems.append(f"{_lacking(found.lacking)}; it is made again from the log")
        differing: list[str] = []
        if found.ok:  # a log that is damaged itself is no measure: the read model may know more
            try:
                differing = await self._projector.compare()
            except DamagedError as damage:
                differing = [str(damage)]
        if differing:
            self._projector.damaged()
        problems += [f"{each}; it is made again from the log" for each in differing]
        found.defects += [log_checks.Defect(0, "", 0, problem) for problem in problems]
        shown = msgspec.to_builtins(found)
        del shown["lacking"]
        return {"ok": found.ok, **shown}

    async def log(self) -> dict[str, Any]:
        """Return how the log is: its end, evidence of loss, and the first fault of each damaged history."""
        integrity = self._aggregates.integrity
        return {
            "head": await self._aggregates.store.head(),
            "witness": {"seq": integrity.head.seq, "sha256": integrity.head.sha256},
            "evidence": evidence_json(integrity.open),
            "accepted": evidence_json(integrity.accepted.values()),
            "dismissed": len(integrity.dismissed),
            "faults": [msgspec.to_builtins(each) for each in self._aggregates.ledger.faults()],
        }

    async def quarantined(self, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
        """Read a damaged history: how far it is intact, and each message that can't follow."""
        return await log_checks.quarantined(self._aggregates, kind, id)

    async def replay(self, job: str) -> dict[str, Any]:
        """Decide a job's history again."""
        plain: dict[str, Any] = msgspec.to_builtins(await log_checks.replay(self._aggregates, "job", job))
        return plain
