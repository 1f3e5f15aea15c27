"""The gateway of commands from NATS and HTTP: validates each and has it decided."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from trackbook.adapters.sql.rows import LedgerDamaged
from trackbook.engine.content import normal_task
from trackbook.engine.errors import Refused
from trackbook.engine.names import normal
from trackbook.engine.ports import StoreUnanswered
from trackbook.events.commit import digest
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands.idempotency import CommandOutcomes, OutcomeUnknown
from trackbook.runtime.commands.requests import (
    REQUESTS,
    CommandRequest,
    Handler,
    Invalid,
    Problem,
    Reply,
    Request,
    encode_reply,
    rejection,
)
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.integrity.evidence import LogDamaged
from trackbook.runtime.process.disk_full import FREE_SPACE, is_full

log = structlog.get_logger(__name__)

_KEPT_FOR = 15.0
"""Seconds for which the answer to a read-only command is kept for repeated requests."""

_AGAIN = "Send it again with the same command_id."
UNANSWERED = "`/health/ready` says how things stand. Copy the data directory, then restart the server."

_RESERVED = frozenset(("engine", "executor"))
"""Actors that are parts of Trackbook: `engine`, `executor:local`."""


class Gateway:
    """Answers commands. Accepted means committed; no reply, or `unknown`: send it again under the same id."""

    def __init__(self, aggregates: AggregateStore, handlers: Mapping[tuple[str, str], Handler]) -> None:
        self._aggregates = aggregates
        self._handlers = handlers
        self._outcomes = CommandOutcomes(aggregates)
        self._looks: dict[tuple[str, str], asyncio.Task[dict[str, Any]]] = {}

    async def handle(self, kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        """Return the reply to a command's JSON payload; `actor` is who carried it in, `user:ann` or `nats`."""
        command_id = ""
        try:
            asked = _read(kind, verb, payload, actor)
            command_id = asked.command_id
            if not asked.request.stored:
                return await self._look(kind, verb, asked)
            return await self._outcomes.once(asked, self._handlers[kind, verb])
        except Invalid as invalid:
            return encode_reply(rejection(command_id or _command_id_of(payload), invalid.refused))
        except Exception as problem:
            reply = _failed_reply(command_id, problem)
            assert reply.error is not None
            report = log.warning if isinstance(problem, _EXPECTED) else log.exception
            report("command.failed", kind=kind, verb=verb, command_id=command_id, error=reply.error.message)
            return encode_reply(reply)

    async def give(self, request: Request, causation: str = "") -> dict[str, Any]:
        """Carry out a command that the engine gives itself, on a client's path; raises what keeps it from that.

        `causation` names the event that it follows from. An id of its own makes it be carried out once.
        """
        kind, verb = next(key for key, each in REQUESTS.items() if each is type(request))
        plain = msgspec.to_builtins(request)
        asked = _asked(request, "engine", _digest(kind, verb, plain), causation)
        return await self._outcomes.once(asked, self._handlers[kind, verb])

    async def _look(self, kind: str, verb: str, asked: CommandRequest) -> dict[str, Any]:
        """Answer a read-only command; a request that is repeated because the answer takes long gets the same."""
        key = (asked.command_id, asked.digest)
        if key not in self._looks:
            self._looks[key] = asyncio.create_task(self._answer_read(kind, verb, asked))
            self._looks[key].add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(self._looks[key])

    def _forget(self, key: tuple[str, str], done: asyncio.Task[dict[str, Any]]) -> None:
        if done.cancelled() or done.exception():
            self._looks.pop(key)
        else:
            done.get_loop().call_later(_KEPT_FOR, self._looks.pop, key)

    async def _answer_read(self, kind: str, verb: str, asked: CommandRequest) -> dict[str, Any]:
        await self._aggregates.keep_up()
        try:
            return encode_reply(await self._handlers[kind, verb](asked))
        except Refused as refused:
            return encode_reply(rejection(asked.command_id, refused))


def _read(kind: str, verb: str, payload: bytes, actor: str) -> CommandRequest:
    if (kind, verb) not in REQUESTS:
        known = ", ".join(f"{k}.{v}" for k, v in REQUESTS)
        raise Invalid(Refused("unknown_command", f"there is no command {kind}.{verb}", hint=f"Known: {known}."))
    try:
        plain = msgspec.json.decode(payload or b"{}")
        request = msgspec.convert(_normalise(plain), REQUESTS[kind, verb])
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Invalid(Refused("invalid_payload", message, path.rstrip("`").lstrip("."))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(Refused("invalid_json", f"the payload is not JSON: {error}")) from None
    except RecursionError:
        raise Invalid(Refused("invalid_json", "the payload is nested too deeply")) from None
    for claimed in (actor, request.actor or ""):
        _refuse_reserved(claimed)
    who = f"{actor.split(':', maxsplit=1)[0]}:{request.actor}" if request.actor else actor
    return _asked(request, who, _digest(kind, verb, plain))


def _asked(request: Request, actor: str, payload_digest: str, causation: str = "") -> CommandRequest:
    command_id = request.command_id or uuid.uuid4().hex
    correlation = request.correlation_id or command_id
    return CommandRequest(request, command_id, correlation, actor, payload_digest, causation)


def _normalise(plain: Any) -> Any:
    """Return a request with its names in normal form; those in a definition are left to its reader."""
    if not isinstance(plain, dict):
        return plain
    found = _normalise_values(plain, ("pipeline", "name"))
    if isinstance(changes := found.get("changes"), list):
        found["changes"] = [_normalise_change(change) for change in changes]
    return found


def _normalise_change(change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    found = _normalise_values(change, ("task", "name", "dependency", "after"))
    if isinstance(given := found.get("set"), dict):
        found["set"] = normal_task(given)
    return found


def _normalise_values(plain: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    found = dict(plain)
    for key in keys:
        if isinstance(value := found.get(key), str):
            found[key] = normal(value)
        elif isinstance(value, dict):
            found[key] = normal_task(value)
    return found


def _failed_reply(command_id: str, problem: Exception) -> Reply:
    """Return the reply to a command that was not carried out, or may be later."""
    if isinstance(problem, OutcomeUnknown):
        message = f"the command has no outcome yet, and may be carried out later: {problem}"
        hint = f"{_AGAIN} It is carried out once. `/health/ready` says how things stand."
        error = Problem(code="outcome_unknown", message=message, hint=hint)
        return Reply(command_id=command_id, status="unknown", error=error)
    return rejection(command_id, _failure(problem))


def _failure(problem: Exception) -> Refused:
    """Return the refusal of a command that could not be carried out now, or that a damaged log keeps from it."""
    if isinstance(problem, HistoryDamaged):
        return Refused("history_damaged", str(problem), hint=problem.hint)
    if isinstance(problem, LogDamaged):
        return Refused("log_damaged", str(problem), hint=problem.hint)
    if isinstance(problem, StoreUnanswered):
        return Refused("store_unanswered", f"the command could not be carried out: {problem}", hint=UNANSWERED)
    if is_full(problem):
        return Refused("disk_full", f"there is no room for the command: {problem}", hint=f"{FREE_SPACE} {_AGAIN}")
    return Refused("unavailable", f"the command could not be carried out now: {problem}", hint=_AGAIN)


_EXPECTED = (OutcomeUnknown, HistoryDamaged, LogDamaged, LedgerDamaged, StoreUnanswered)
"""What ends a command and is no fault of this program; a ledger is made again meanwhile."""


def _refuse_reserved(actor: str) -> None:
    """Refuse a client that gives itself out as a part of Trackbook, whose acts the log must distinguish."""
    if actor.partition(":")[0].strip().casefold() in _RESERVED:
        hint = "Name the person or program that gives the command, such as user:ann."
        raise Invalid(Refused("reserved_actor", f"no client may act as {actor!r}", "actor", hint=hint))


def _digest(kind: str, verb: str, plain: dict[str, Any]) -> str:
    """Return the digest of what was asked, whatever the order of keys, the ids and the actor left out."""
    asked = {k: v for k, v in plain.items() if k not in ("command_id", "correlation_id", "actor")}
    return digest(msgspec.json.encode([kind, verb, asked], order="deterministic"))


def _command_id_of(payload: bytes) -> str:
    try:
        given = msgspec.json.decode(payload).get("command_id", "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return ""
    return given if isinstance(given, str) else ""
