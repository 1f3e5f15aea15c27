"""Requests between our own processes that are repeated until the other end says ok."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import Unanswered

ANSWER_PATIENCE = 5.0
"""Seconds for the other end to answer; it is asked again then. A lost connection is noticed at once."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
"""Seconds between attempts, cut short by news of the other end."""

log = structlog.get_logger("trackbook.executors")


class Answer(Struct, omit_defaults=True):
    """The answer to every request between engine and worker; `message` says what was wrong."""

    status: Literal["ok", "error"] = "ok"
    message: str = ""


OK = msgspec.json.encode(Answer())
_ANSWERS = msgspec.json.Decoder(Answer)


def refusal(problem: Exception) -> bytes:
    """Return the answer that says what was wrong."""
    return msgspec.json.encode(Answer("error", str(problem) or repr(problem)))


class RetryingRequests:
    """Requests that are repeated until the other end says ok; `again` repeats all of them now."""

    def __init__(self, connection: Connection) -> None:
        self._nc = connection
        self._waits: set[asyncio.Timeout] = set()
        self._news = 0
        self._away = False
        connection.on_reconnect(self.again)

    async def until_ok(self, subject: str, data: bytes, patience: float = ANSWER_PATIENCE) -> None:
        """Return once the other end said ok; ask again where it says nothing for `patience` seconds."""
        wait = FIRST_WAIT
        while (problem := await self._ask(subject, data, patience)) is not None:
            news = self._news
            self._note(subject, problem, lasting=wait >= LONGEST_WAIT)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait) as pause:
                    with self._cut_short(pause):
                        await asyncio.Event().wait()
            wait = min(2 * wait, LONGEST_WAIT) if news == self._news else FIRST_WAIT
        if self._away:
            self._away = False
            log.info("other_end.back", subject=subject)

    def again(self) -> None:
        """Repeat now what waits: the other end has started, and what was asked of its predecessor is lost."""
        self._news += 1
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(0)

    async def _ask(self, subject: str, data: bytes, patience: float) -> str | None:
        """Return what was wrong, None if nothing was."""
        try:
            async with asyncio.timeout(None) as wait:
                with self._cut_short(wait):
                    message = await self._nc.ask(subject, data, timeout=patience)
        except Unanswered as problem:
            return str(problem)
        except TimeoutError:
            return "the other end has started again"
        answer = _ANSWERS.decode(message.data)
        return None if answer.status == "ok" else answer.message

    def _note(self, subject: str, problem: str, *, lasting: bool) -> None:
        """Log a warning once, however many requests wait."""
        if lasting and not self._away:
            self._away = True
            log.warning("other_end.away", subject=subject, why=problem, hint="asking again until it answers")
        else:
            log.debug("asked.again", subject=subject, why=problem)

    @contextmanager
    def _cut_short(self, wait: asyncio.Timeout) -> Iterator[None]:
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)
