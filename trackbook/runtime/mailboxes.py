"""Mailboxes: the inputs that wait for each aggregate, and the aggregate in memory while nobody decides on it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct, field

from trackbook.engine.kinds import KINDS
from trackbook.events.commit import Input
from trackbook.runtime.aggregate import Aggregate

WAITING = 1024
"""Inputs that wait in one mailbox; who has one more waits until there is room."""

Admit = Callable[[Any], None]
Complete = Callable[[Any, list[Any], int], Awaitable[dict[str, Any]]]


class Answered(Struct, frozen=True):
    """Where an input ended: the sequence and version of its commit, and whether it changed anything."""

    seq: int
    version: int
    changed: bool


class AnsweredBefore(Exception):
    """The aggregate has answered the command of this id already: its reply is in the history."""

    def __init__(self, kind: str, id: str) -> None:  # noqa: A002
        self.kind, self.id = kind, id
        super().__init__(f"{kind}/{id} has answered the command already")


class Waiting(Struct):
    """An input that waits for a commit, and who waits for it; see `Owner.submit`."""

    given: Input[Any]
    admit: Admit | None
    complete: Complete | None
    done: asyncio.Future[Answered] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, problem: Exception) -> None:
        """Raise the problem where the input was submitted."""
        if not self.done.done():
            self.done.set_exception(problem)


class Mailbox(Struct):
    """The inputs that wait for one aggregate, and the aggregate itself while no commit is under way.

    One who holds the lock decides on the aggregate; `users` count those that keep the mailbox in memory.
    """

    inbox: deque[Waiting] = field(default_factory=deque)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WAITING))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    aggregate: Aggregate[Any] | None = None
    worker: asyncio.Task[None] | None = None
    users: int = 0


class Mailboxes:
    """The mailboxes of all aggregates that are in use or in memory."""

    def __init__(self) -> None:
        self._of_kind: dict[str, OrderedDict[str, Mailbox]] = {kind: OrderedDict() for kind in KINDS}

    def get(self, kind: str, id: str) -> Mailbox | None:  # noqa: A002
        """Return the aggregate's mailbox, if it has one."""
        return self._of_kind[kind].get(id)

    def all(self) -> list[tuple[str, str]]:
        """Return kind and id of each aggregate that has a mailbox."""
        return [(kind, id_) for kind, mailboxes in self._of_kind.items() for id_ in mailboxes]

    def use(self, kind: str, id: str) -> _Use:  # noqa: A002
        """Keep the aggregate's mailbox in memory."""
        return _Use(self._of_kind[kind], kind, id)

    @asynccontextmanager
    async def lock(self, kind: str, id: str) -> AsyncIterator[Mailbox]:  # noqa: A002
        """Have the aggregate alone. Who holds several took them in the order of kind and id, companions last."""
        with self.use(kind, id) as mailbox:
            async with mailbox.lock:
                yield mailbox


class _Use:
    """A use of a mailbox; a class with few calls, since each command comes by here several times."""

    __slots__ = ("_id", "_kind", "_mailbox", "_mailboxes")

    def __init__(self, mailboxes: OrderedDict[str, Mailbox], kind: str, id: str) -> None:  # noqa: A002
        self._mailboxes, self._kind, self._id = mailboxes, kind, id

    def __enter__(self) -> Mailbox:
        mailbox = self._mailboxes.get(self._id)
        if mailbox is None:
            mailbox = self._mailboxes[self._id] = Mailbox()
        mailbox.users += 1
        self._mailbox = mailbox
        return mailbox

    def __exit__(self, *_: object) -> None:
        mailbox = self._mailbox
        mailbox.users -= 1
        if not mailbox.users and mailbox.worker is None and self._id in self._mailboxes:
            _settle(self._mailboxes, self._kind, self._id, mailbox)


def _settle(mailboxes: OrderedDict[str, Mailbox], kind: str, id: str, mailbox: Mailbox) -> None:  # noqa: A002
    """Evict a mailbox that holds nothing, and the one that is idle for longest where too many are kept."""
    mailboxes.move_to_end(id)
    aggregate = mailbox.aggregate
    if aggregate is None or not aggregate.version or KINDS[kind].ended(aggregate.state):
        del mailboxes[id]
    elif len(mailboxes) > KINDS[kind].kept:
        idle = (each for each, its in mailboxes.items() if not its.users and not its.worker)
        del mailboxes[next(idle)]
