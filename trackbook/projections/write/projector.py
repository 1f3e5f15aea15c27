"""The projector follows the log and keeps the read model, which can be rebuilt from the log alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from trackbook.engine.ports import Blobs, EventStore, Stored
from trackbook.events.commit import digest
from trackbook.projections.database import Database
from trackbook.projections.decisions import Decisions, NothingDecided
from trackbook.projections.decoded_commit import DecodedCommit, closing
from trackbook.projections.errors import DamagedError, DiskFullError, LockedError
from trackbook.projections.feed import Feed, Signal
from trackbook.projections.write.batch_writer import Writer
from trackbook.projections.write.comparison import differences
from trackbook.projections.write.inbox import Inbox
from trackbook.projections.write.stall_detector import Progress

_log = logging.getLogger(__name__)
LINGER = 0.1
"""Seconds for which commits may gather while nobody looks: a batch of many costs little more than one of one."""

FOLLOWED_LINGER = 0.02
"""Seconds between batches while somebody follows; the end of a job and a read that waits are served at once."""

_BACKOFF = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class NotProjectedError(Exception):
    """The read model did not reach the sequence in the time given."""


class SequenceUnknownError(NotProjectedError):
    """The log ends before the sequence."""


class DecidedError(Exception):
    """An operator decided about damage to the log: what was projected before may be otherwise now."""


async def _nothing_decided() -> Decisions:
    return NothingDecided()


class Projector:
    """Keeps one database up to date with one log.

    `problem` says what blocks it; it is empty while all is well. `progress` measures how
    long it has not moved although there is work. `feed` carries what was projected to those who follow.
    `decisions` returns what operators decided about damage to the log; the read model is made again when that
    changes.
    """

    def __init__(
        self,
        path: Path,
        log: EventStore,
        bodies: Blobs,
        decisions: Callable[[], Awaitable[Decisions]] = _nothing_decided,
    ) -> None:
        self.database = Database(path)
        self.feed = Feed()
        self.problem = ""
        self.progress = Progress()
        self.head = 0
        self.batches = self.commits = self.events = self.restarts = 0
        self._log, self._bodies, self._decisions = log, bodies, decisions
        self._decided_at = 0
        self._writer = Writer(self.database, log, bodies)
        self._inbox = Inbox()
        self._turn = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._moved = Signal()
        self._damage = asyncio.Event()

    @property
    def checkpoint(self) -> int:
        """The last sequence that the rows hold."""
        return self._writer.checkpoint

    @property
    def decisions(self) -> Decisions:
        """What operators decided about damage to the log, as far as the rows know it."""
        return self._writer.decisions

    @property
    def quarantined(self) -> int:
        """How many entries the quarantine has."""
        return self._writer.quarantine.count

    def first_faults(self) -> list[tuple[str, str, int, str]]:
        """Return kind, id, sequence and reason of the first commit of each history that can't be projected."""
        return self._writer.quarantine.first_faults()

    async def start(self) -> None:
        """Open the file, or begin a new one beside one that is damaged; then it can be read."""
        try:
            await self._resume(await self.database.open())
        except DamagedError as damage:
            await self._begin_anew(str(damage))

    async def run(self) -> None:
        """Follow the log until cancelled; errors are reported in `problem` and retried."""
        failures, damage = 0, ""
        while True:
            before = self.checkpoint
            try:
                if damage:
                    await self._begin_anew(damage)
                    damage = ""
                await self._follow()
            except DamagedError as error:
                damage = str(error)
            except DecidedError:
                await self._make_again()
            except Exception as error:  # any error: a blocked read model reports it and retries
                self._complain(error)
            failures = 0 if self.checkpoint > before else failures + 1
            await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])

    async def close(self) -> None:
        """Close the file; those who follow come to an end."""
        self.feed.close()
        await self.database.close()

    async def wait_for(self, seq: int, timeout: float | None = None) -> None:
        """Return once the rows hold this sequence; raises NotProjectedError after `timeout` seconds."""
        if seq <= self.checkpoint:
            return
        with self._inbox.urgent():
            try:
                async with asyncio.timeout(timeout):
                    while seq > self.checkpoint:
                        await self._moved.wait()
            except TimeoutError:
                raise NotProjectedError(self._why_not(seq, timeout)) from None

    async def moved(self) -> None:
        """Return when it has projected more, met a problem, or begun again."""
        await self._moved.wait()

    async def rebuild(self) -> int:
        """Make the read model again from the whole log in a second file, exchange the two, return the checkpoint.

        The old one serves until the new one is level with it.
        """
        async with self._rebuilding:  # one after the other: they would share the second file
            await self._rebuild()
        return self.checkpoint

    async def _make_again(self) -> None:
        try:
            await self.rebuild()
        except Exception as error:  # as in `run`: the old one serves on, and the next turn tries again
            self._complain(error)

    async def _rebuild(self) -> None:
        database = Database(self.database.path.with_name(self.database.path.name + ".new"))
        await database.remove()
        writer = Writer(database, self._log, self._bodies, await self._decisions())
        try:
            await writer.resume(await database.open())
            await self._catch_up(writer, await self._log.head())
            async with self._turn:
                await self._catch_up(writer, self.checkpoint)
                await database.close()
                await self._writer.resume(await self.database.replace_by(database.path))
                if self.checkpoint > self.feed.head:  # the new one overtook the old: followers read the log
                    self.feed.restart(self.checkpoint)
        finally:
            await database.remove()
        self._moved.fire()

    async def compare(self) -> list[str]:
        """Make the read model again in a file beside it, and return in words in which tables the two differ."""
        async with self._rebuilding:
            database = Database(self.database.path.with_name(self.database.path.name + ".compared"))
            await database.remove()
            writer = Writer(database, self._log, self._bodies, await self._decisions())
            try:
                await writer.resume(await database.open())
                await self._catch_up(writer, self.checkpoint)
                async with self._turn:
                    await self._catch_up(writer, self.checkpoint)
                    await database.close()
                    return await asyncio.to_thread(differences, self.database.path, database.path)
            finally:
                await database.remove()

    def damaged(self) -> None:
        """Take note that a reader found the file damaged: it is rebuilt."""
        self._damage.set()

    async def _catch_up(self, writer: Writer, upto: int) -> None:
        if writer.checkpoint >= upto:
            return
        async with closing(self._log.read_all(writer.checkpoint + 1)) as batches:
            async for batch in batches:
                await writer.write([message for message in batch if message.seq <= upto])
                if writer.checkpoint >= upto:
                    return

    async def _follow(self) -> None:
        first = await self._first_to_read()
        self._writer.decisions = await self._decisions()
        # Rows that were made before a decision lack it; a file that is begun now gets all of them.
        self._decided_at = self.checkpoint or self.head
        self._inbox.clear()
        pump = asyncio.create_task(self._pump(first), name="projection-pump")
        damage = asyncio.create_task(self._damage.wait(), name="projection-damage")
        writing = asyncio.create_task(self._write_batches(), name="projection-write")
        try:
            done, _ = await asyncio.wait((pump, damage, writing), return_when=asyncio.FIRST_COMPLETED)
            for task in done - {damage}:
                task.result()
            raise DamagedError("a reader found the read model's file damaged")
        finally:
            for task in (pump, damage, writing):
                task.cancel()
            await asyncio.gather(pump, damage, writing, return_exceptions=True)

    async def _first_to_read(self) -> int:
        """Return where to follow from: the checkpoint's own message, to see that it is the same log still."""
        self.head = await self._log.head()
        if self.head < self.checkpoint:
            raise DamagedError(f"the log ends at sequence {self.head}, before the checkpoint {self.checkpoint}")
        if self.head == self.checkpoint:
            self._well_again()  # with nothing to write there is nothing in the way either
        return max(self.checkpoint, 1)

    def _well_again(self) -> None:
        if self.problem:
            _log.info("the read model continues at sequence %d", self.checkpoint)
            self.problem = ""

    async def _pump(self, first: int) -> None:
        async with closing(self._log.tail(first)) as batches:
            async for batch in batches:
                self.head = max(self.head, batch[-1].seq)
                self.progress.observe(self.head, self.checkpoint)
                await self._inbox.put(self._beyond_checkpoint(batch))

    def _beyond_checkpoint(self, batch: Sequence[Stored]) -> Sequence[Stored]:
        for message in batch:
            if message.seq == self.checkpoint and digest(message.data) != self._writer.digest:
                raise DamagedError(f"the log has another commit at the checkpoint, sequence {self.checkpoint}")
            if message.seq > self.checkpoint:
                break
        return batch

    async def _write_batches(self) -> None:
        while True:
            messages = await self._inbox.take(FOLLOWED_LINGER if self.feed.listeners else LINGER)
            if any(message.kind == "log" and message.seq > self._decided_at for message in messages):
                raise DecidedError  # before it is written, so that it is met again until the rows are made again
            async with self._turn:
                commits = await self._writer.write(messages)
            self._inbox.written()
            if commits:
                self._tell(commits)

    def _tell(self, commits: list[DecodedCommit]) -> None:
        self._well_again()
        self.progress.observe(self.head, self.checkpoint)
        self.batches += 1
        self.commits += len(commits)
        self.events += sum(commit.count for commit in commits)
        self.feed.publish(commits, self.checkpoint)
        self._moved.fire()

    async def _resume(self, checkpoint: tuple[int, str]) -> None:
        await self._writer.resume(checkpoint)
        self.feed.restart(self.checkpoint)

    async def _begin_anew(self, reason: str) -> None:
        aside = self.database.path.name + ".damaged"
        _log.warning("%s; it is made again from the log, the old file is kept as %s", reason, aside)
        self._damage.clear()
        async with self._turn:
            await self.database.set_aside(aside)
            await self._resume(await self.database.open())
        self.restarts += 1
        self._moved.fire()

    def _complain(self, error: Exception) -> None:
        behind = self.head - self.checkpoint
        problem = f"{error}; the read model is at sequence {self.checkpoint}, {behind} behind the log"
        if isinstance(error, DiskFullError):
            problem += "; it continues once there is space"
        if isinstance(error, LockedError):
            problem += "; it continues once that program ends or releases the lock"
        if problem != self.problem:
            _log.error("%s", problem, exc_info=None if isinstance(error, DiskFullError | LockedError) else error)
        self.problem = problem
        self._moved.fire()

    def _why_not(self, seq: int, timeout: float | None) -> str:
        if self.problem:
            return self.problem
        if seq > self.head:
            return f"the log has no sequence {seq} yet: it ends at {self.head}"
        return f"sequence {seq} was not projected within {timeout} s: the read model is at {self.checkpoint}"
