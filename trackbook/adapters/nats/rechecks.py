"""A look at the log after each reconnect, before anything else is appended to it.

While the connection was lost the broker may have been restarted on a store that has lost its end. What is
appended then would take the sequences of what was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import BrokerUnreachable
from trackbook.engine.ports import LossFound

Recheck = Callable[[], Awaitable[None]]
"""Looks whether the log is what it was. It must not append.

Raises LossFound for what it found and keeps: then it is not repeated until the next reconnect. After any other
error it is repeated before the next append.
"""

log = structlog.get_logger("trackbook.store")


class Rechecks:
    """Runs `recheck` once after each reconnect; `count` says how often it has run."""

    def __init__(self, nc: Connection) -> None:
        self.recheck: Recheck | None = None
        self.count = 0
        self._nc = nc
        self._checked = nc.epoch
        self._loss: LossFound | None = None
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        nc.on_reconnect(self._reconnected)

    async def admit(self, began: int) -> None:
        """Return once the log was checked on this connection; `began` is the count when the append began.

        Raises what was found by a recheck that ran since then. An append that begins later is its caller's to
        refuse.
        """
        if self.recheck is None:
            return
        while self._checked != self._nc.epoch:
            async with self._turn:
                if self._checked != self._nc.epoch:
                    await self._run(self.recheck)
        if self._loss is not None and began < self.count:
            raise self._loss

    async def _run(self, recheck: Recheck) -> None:
        epoch = self._nc.epoch
        try:
            await recheck()
            self._loss = None
        except LossFound as loss:
            self._loss = loss
        self._checked = epoch
        self.count += 1

    def _reconnected(self) -> None:
        if self.recheck is not None:
            self._task = asyncio.create_task(self._at_once(), name="recheck")

    async def _at_once(self) -> None:
        """Check also while nobody appends."""
        try:
            await self.admit(self.count)
        except LossFound as loss:
            log.warning("store.loss_found", found=str(loss))
        except BrokerUnreachable:
            return  # the connection was closed meanwhile
        except Exception as error:
            log.warning("store.not_rechecked", error=str(error), hint="it is repeated before the next append")
