"""Histories as the engine would write them: random graphs, failures, cancels, many jobs woven together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from trackbook.engine import job
from trackbook.engine.decider import Decision, answer, take_due
from trackbook.engine.job_state import JobState, TaskState
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Append
from trackbook.events import pipeline as edits
from trackbook.events.commit import BlobRef, Body, Commit, Input, digest
from trackbook.events.job import TaskShape
from trackbook.events.outcome import CommandAnswered
from trackbook.testing.store import MemoryBlobs, MemoryEventStore

JOB = KINDS["job"].decider
ROOM = 256
"""Events that a commit adds of what is due."""
BEGIN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class History:
    """Writes commits to a store as the engine does, with a clock that ticks a millisecond a commit."""

    def __init__(self, store: MemoryEventStore | None = None, blobs: MemoryBlobs | None = None) -> None:
        self.store = store or MemoryEventStore()
        self.blobs = blobs or MemoryBlobs()
        self.jobs: dict[str, JobState] = {}
        self._heads: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._ticks = 0

    @property
    def now(self) -> datetime:
        """The time of the next commit."""
        return BEGIN + timedelta(milliseconds=self._ticks)

    async def commit(
        self,
        kind: str,
        id: str,  # noqa: A002
        inputs: list[Input[Any]],
        events: list[Any],
        causes: list[int] | None = None,
        *,
        blob: bool = False,
        **changes: Any,
    ) -> int:
        """Append a commit and return its sequence; `changes` replace fields of the commit."""
        seq, version, prev = self._heads.get((kind, id), (0, 0, ""))
        causes = [0] * len(events) if causes is None else causes
        commit = Commit[Any, Any](1, kind, id, version + 1, self.now, prev, inputs, events, causes)
        if blob:
            body = msgspec.json.encode(Body(inputs, events, causes))
            commit.inputs, commit.events, commit.causes = [], [], []
            commit.blob = BlobRef(await self.blobs.put(body), len(body))
        data = msgspec.json.encode(msgspec.structs.replace(commit, **changes))
        return await self.append(kind, id, data, seq, version + 1)

    async def append(self, kind: str, id: str, data: bytes, expected: int, version: int) -> int:  # noqa: A002
        """Append bytes whatever they are."""
        [seq] = await self.store.append(Append(kind, id, expected, data, f"{kind}/{id}/{version}"))
        self._heads[kind, id] = (seq, version, digest(data))
        self._ticks += 1
        return seq

    def head_of(self, kind: str, id: str) -> tuple[int, int, str]:  # noqa: A002
        """Return sequence, version and digest of an aggregate's last commit."""
        return self._heads.get((kind, id), (0, 0, ""))

    async def pipeline(self, id: str, name: str, tasks: list[TaskShape], *, blob: bool = False) -> int:  # noqa: A002
        """Create a pipeline of these tasks."""
        events: list[Any] = [edits.PipelineCreated(name)]
        events += [edits.TaskAdded({"name": task.name, "dependencies": task.dependencies}) for task in tasks]
        return await self.commit("pipeline", id, [_input("user:ann", f"apply-{id}")], events, blob=blob)

    async def answered(self, command_id: str) -> int:
        """Write the outcome of a refused command."""
        event = CommandAnswered(command_id, "00", {"status": "rejected"})
        return await self.commit(
            "outcome", digest(command_id.encode())[:32], [_input("nats", command_id)], [event]
        )

    async def tell(self, id: str, *commands: Any, actor: str = "executor:local") -> int:  # noqa: A002
        """Let a job decide on commands, and on what is due, in one commit; returns its sequence, 0 for none."""
        decision = Decision[Any, Any](self.jobs.setdefault(id, JobState(id)))
        version = self.head_of("job", id)[1]
        inputs = [_input(actor, f"{id}-{version}-{index}", command) for index, command in enumerate(commands)]
        for index, command in enumerate(commands):
            answer(JOB, decision, command, index)
        if take_due(JOB, decision, len(inputs), ROOM):
            inputs.append(Input("engine", None, correlation=f"corr-{id}-0-0"))
        if not decision.events:
            return 0
        return await self.commit("job", id, inputs, decision.events, decision.causes)

    async def launch_rest(self, id: str) -> None:  # noqa: A002
        """Have the job launch all that is due, commit by commit."""
        while await self.tell(id):
            pass

    async def start(self, id: str, pipeline: str, tasks: list[TaskShape], **more: Any) -> int:  # noqa: A002
        """Start a job of these tasks."""
        command = job.StartJob(pipeline, f"name of {pipeline}", 1, "ab" * 32, tasks, **more)
        return await self.tell(id, command, actor="user:ann")

    def open_jobs(self) -> list[JobState]:
        """Return the jobs that have not ended."""
        return [state for state in self.jobs.values() if not state.ended]

    async def advance(self, random: Random, state: JobState, *, trouble: float = 0.02) -> None:
        """Let one thing happen to a job."""
        live = list(state.live())
        if not live:
            await self.tell(state.id)
            return
        task = random.choice(live)
        if random.random() < trouble:
            await self.tell(state.id, job.CancelJob("enough"), actor="user:bob")
        elif task.status == "launching" and random.random() < 0.7:
            await self.tell(state.id, job.ReportTaskStarted(task.shape.name, task.attempt, self.now))
        elif random.random() < 0.2:
            status = random.choice(("PULLING", "RUNNING"))
            await self.tell(state.id, job.ReportTaskStatus(task.shape.name, task.attempt, status))
        else:
            await self.tell(state.id, self.ended(random, task, trouble))

    def ended(self, random: Random, task: TaskState, trouble: float = 0.02) -> job.ReportTaskEnded:
        """Return the report of a session's end, now and then a failure."""
        began = self.now - timedelta(milliseconds=3)
        name, attempt = task.shape.name, task.attempt
        if task.stop_requested:
            return job.ReportTaskEnded(name, attempt, "cancelled", self.now, began, None, 15, "stopped")
        if random.random() < trouble:
            return job.ReportTaskEnded(name, attempt, "failed", self.now, began, 3, None, "exit code 3", "boom\n")
        return job.ReportTaskEnded(name, attempt, "succeeded", self.now, began, 0)

    async def finish(self, random: Random, id: str, *, trouble: float = 0.0) -> None:  # noqa: A002
        """Run a job to its end."""
        while not self.jobs[id].ended:
            await self.advance(random, self.jobs[id], trouble=trouble)


def graph(random: Random, size: int) -> list[TaskShape]:
    """Return a random graph; some tasks are to be skipped."""
    names = [f"t{number}.part" for number in range(size)]
    return [
        TaskShape(name, random.sample(names[:at], random.randint(0, min(at, 3))), random.random() < 0.1)
        for at, name in enumerate(names)
    ]


async def world(seed: int, jobs: int = 4, size: int = 6, trouble: float = 0.04) -> History:
    """Return a history of pipelines and jobs that all reach their end, woven together at random."""
    random = Random(seed)
    history = History()
    for number in range(jobs):
        tasks = graph(random, random.randint(1, size))
        pipeline = f"p{number % 2}"
        if history.head_of("pipeline", pipeline)[0] == 0:
            await history.pipeline(pipeline, f"Pipe {number}", tasks, blob=random.random() < 0.5)
        await history.start(f"job{number:02}", pipeline, tasks)
        if random.random() < 0.5:
            await history.answered(f"refused-{number}")
    while open_jobs := history.open_jobs():
        await history.advance(random, random.choice(open_jobs), trouble=trouble)
    return history


async def example() -> History:
    """Return two pipelines, one of two versions, a job that failed and one that runs; names as in real files."""
    tasks = [TaskShape("a"), TaskShape("NFCORE.ALIGN.SORT_7", ["a"])]
    history = History()
    await history.pipeline("p1", "RAG-vs-nonRAG", tasks)
    await history.commit("pipeline", "p1", [Input("user:bob", {})], [edits.VariableSet("rate", 1)])
    await history.pipeline("p2", "other", tasks, blob=True)
    await history.start("failed-job", "p1", tasks)
    report = job.ReportTaskEnded("a", 1, "failed", history.now, history.now, 3, None, "exit code 3", "boom\n")
    await history.tell("failed-job", report)
    await history.start("running-job", "p2", tasks)
    await history.tell("running-job", job.ReportTaskStarted("a", 1, history.now))
    return history


def _input(actor: str, id: str, command: Any = None) -> Input[Any]:  # noqa: A002
    return Input(actor, command or {"type": "Asked"}, id, f"corr-{id}")
