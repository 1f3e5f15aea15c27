"""Streams written by hand: a sound one, and many that each break one rule."""

from __future__ import annotations

import hashlib
import json
from typing import Any

DIAMOND = [
    {"name": "a"},
    {"name": "b", "dependencies": ["a"], "skip": True},
    {"name": "c", "dependencies": ["b"]},
    {"name": "d", "dependencies": ["a", "c"]},
]
NOON_NS = 1_709_208_000 * 10**9
Event = dict[str, Any]


class DoctoredLog:
    """A stream written by hand, each commit a second after the one before."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, str, bytes]] = []
        self._heads: dict[tuple[str, str], tuple[int, str]] = {}

    def commit(self, kind: str, name: str, *events: Event, **rest: Any) -> DoctoredLog:
        """Append a commit; `rest` replaces or adds to its fields."""
        version, prev = self._heads.get((kind, name), (0, ""))
        seq = len(self.messages) + 1
        body = {
            "schema": 1,
            "kind": kind,
            "id": name,
            "version": version + 1,
            "at": f"2024-02-29T12:00:{seq:02}.000000Z",
            "prev": prev,
            "inputs": [{"actor": "engine", "command": {}}],
            "events": list(events),
            "causes": [0] * len(events),
        } | rest
        data = json.dumps(body).encode()
        self._heads[kind, name] = (version + 1, hashlib.sha256(data).hexdigest())
        self.messages.append((seq, f"trackbook.evt.{kind}.{name}", data))
        return self

    def job(self, *events: Event, **rest: Any) -> DoctoredLog:
        """Append a commit of the one job."""
        return self.commit("job", "j1", *events, **rest)


def task(kind: str, name: str, attempt: int = 1, **rest: Any) -> Event:
    """Return an event of an attempt."""
    return {"type": kind, "task": name, "attempt": attempt} | rest


def launch(name: str, attempt: int = 1) -> Event:
    """Return a launch."""
    return task("TaskLaunchRequested", name, attempt, session=f"s-{name}-{attempt}")


def created(tasks: list[dict[str, Any]] | None = None) -> Event:
    """Return the creation of a job."""
    return {"type": "JobCreated", "tasks": DIAMOND if tasks is None else tasks}


def ended(how: str, name: str) -> tuple[Event, Event]:
    """Return the end of an attempt, such as `Succeeded`, and with it the task's."""
    return task(f"Attempt{how}", name), {"type": f"Task{how}", "task": name}


def done(name: str) -> tuple[Event, Event]:
    """Return a success."""
    return ended("Succeeded", name)


SKIP_B = {"type": "TaskSkipped", "task": "b"}
SUCCEEDED = {"type": "JobSucceeded"}
FAILED = {"type": "JobFailed", "task": "a"}
CANCELLED = {"type": "JobCancelled"}
CANCEL = {"type": "JobCancelRequested", "reason": "enough"}
TWO = [{"name": "a"}, {"name": "c"}]


def asked(command: str, reply: Any = None) -> list[dict[str, Any]]:
    """Return the inputs of a commit that answers a command."""
    return [{"actor": "user:ann", "id": command, "command": {}, "reply": reply or {"command_id": command}}]


def sound() -> DoctoredLog:
    """Return a job that ran to its end: a, then c through the skipped b, then d."""
    log = DoctoredLog().commit("pipeline", "p1", {"type": "PipelineCreated", "name": "x"}, inputs=asked("k0"))
    log.job(created(), launch("a"), inputs=asked("k1")).job(task("TaskStarted", "a"))
    log.job(*done("a"), SKIP_B, launch("c")).job(task("TaskStarted", "c"), *done("c"), launch("d"))
    return log.job(*done("d"), SUCCEEDED)


RAN = [
    f"j1 {name} 1 {what} {NOON_NS + int(at * 10**9)}"
    for name, what, at in [
        ("a", "start", 2.1),
        ("a", "end", 3.5),
        ("c", "start", 4.1),
        ("c", "end", 4.9),
        ("d", "start", 5.1),
        ("d", "end", 5.9),
    ]
]


CASES: dict[str, tuple[DoctoredLog, list[str], str]] = {
    "a command answered twice": (
        sound().commit("outcome", "x", inputs=asked("k1")),
        RAN,
        "I1 seq 7: command k1 had its outcome at 2 already",
    ),
    "an outcome under another's name": (
        DoctoredLog().commit("outcome", "x", {"type": "CommandAnswered", "command_id": "k9", "reply": {}}),
        [],
        "I1 seq 1: an outcome of k9 on another's subject",
    ),
    "a reply to someone else": (
        DoctoredLog().commit("name", "x", {"type": "A"}, inputs=asked("k1", {"command_id": "k2"})),
        [],
        "I1 seq 1: command k1 has no reply of its own",
    ),
    "a gap in versions": (
        DoctoredLog().job(created([]), SUCCEEDED, version=2),
        [],
        "I2 seq 1: job j1 has version 2 after 0",
    ),
    "no events": (DoctoredLog().commit("name", "x"), [], "I2 seq 1: 0 events with 0 causes"),
    "a cause outside the commit": (
        DoctoredLog().commit("name", "x", {"type": "A"}, causes=[1]),
        [],
        "I2 seq 1: an event has no cause in its commit: [1]",
    ),
    "a cause that comes later": (
        DoctoredLog().commit("name", "x", {"type": "A"}, causes=[-1]),
        [],
        "I2 seq 1: an event has no cause in its commit: [-1]",
    ),
    "a broken chain": (
        DoctoredLog().commit("name", "x", {"type": "A"}, prev="0" * 64),
        [],
        "I3 seq 1: name x does not carry the hash",
    ),
    "a body that is gone": (
        DoctoredLog().commit("name", "x", blob={"sha256": "0" * 64, "size": 3}),
        [],
        "I3 seq 1: the blob 000",
    ),
    "a second launch": (
        DoctoredLog().job(created(TWO), launch("a")).job(launch("a")),
        [],
        "I4 seq 2 job j1: a attempt 1 is launched a second time",
    ),
    "a second attempt while the first is live": (
        DoctoredLog().job(created(TWO), launch("a")).job(launch("a", 2)),
        [],
        "I4 seq 2 job j1: a attempt 2 is launched, and another is live",
    ),
    "an attempt left out": (
        DoctoredLog().job(created(TWO), launch("a", 2)),
        [],
        "I4 seq 1 job j1: a attempt 2 is launched, and the one before it is not gone",
    ),
    "a second end": (
        DoctoredLog().job(created(TWO), launch("a"), *done("a")).job(*ended("Failed", "a")),
        [],
        "I4 seq 2 job j1: AttemptFailed of a attempt 1 after it succeeded",
    ),
    "a task that ends otherwise than its attempt": (
        DoctoredLog().job(created(TWO), launch("a"), task("AttemptFailed", "a"), done("a")[1]),
        [],
        "I4 seq 1 job j1: TaskSucceeded of a, and its attempt did not just end like that",
    ),
    "a task that ends without its attempt": (
        DoctoredLog().job(created(TWO), launch("a"), *done("a")).job(done("a")[1]),
        [],
        "I4 seq 2 job j1: TaskSucceeded of a, and its attempt did not just end like that",
    ),
    "an attempt that ends without its task": (
        DoctoredLog().job(created(TWO), launch("a"), task("AttemptSucceeded", "a")),
        [],
        "I7 seq 1 job j1: the attempts of a ended, and the tasks did not",
    ),
    "skipped twice": (
        DoctoredLog().job(created(), SKIP_B).job(SKIP_B),
        [],
        "I4 seq 2 job j1: b is skipped a second time",
    ),
    "an end without a launch": (
        DoctoredLog().job(created(TWO), *done("a")),
        [],
        "I5 seq 1 job j1: AttemptSucceeded of a attempt 1, and it was never launched",
    ),
    "a launch before its dependencies": (
        DoctoredLog().job(created(), launch("a"), launch("d")),
        [],
        "I6 seq 1 job j1: TaskLaunchRequested of d before a, c succeeded",
    ),
    "a task that is not in the graph": (
        DoctoredLog().job(created(), launch("z")),
        [],
        "I6 seq 1 job j1: TaskLaunchRequested of z before z succeeded",
    ),
    "a skipped task launched": (
        DoctoredLog().job(created([{"name": "b", "skip": True}]), launch("b")),
        [],
        "I6 seq 1 job j1: TaskLaunchRequested of b, against what its definition says",
    ),
    "a launch after a cancel": (
        DoctoredLog().job(created(TWO), launch("a")).job(CANCEL, launch("c")),
        [],
        "I6 seq 2 job j1: TaskLaunchRequested of c after JobCancelRequested",
    ),
    "a launch after a failure": (
        DoctoredLog().job(created(TWO), launch("a")).job(*ended("Failed", "a"), launch("c")),
        [],
        "I6 seq 2 job j1: TaskLaunchRequested of c after the failure of a",
    ),
    "a cancel that stops nothing": (
        DoctoredLog().job(created(TWO), launch("a")).job(CANCEL),
        [],
        "I6 seq 2 job j1: JobCancelRequested, and nobody stops [('a', 1)]",
    ),
    "an end while something is live": (
        DoctoredLog().job(created(TWO), launch("a"), launch("c")).job(*done("a"), SUCCEEDED),
        [],
        "I7 seq 2 job j1: JobSucceeded, and c are live",
    ),
    "a success with something undone": (
        DoctoredLog().job(created(TWO), launch("a")).job(*done("a"), SUCCEEDED),
        [],
        "I7 seq 2 job j1: JobSucceeded, without a failed task and 1 not done",
    ),
    "a failure of nothing": (
        DoctoredLog().job(created([]), FAILED),
        [],
        "I7 seq 1 job j1: JobFailed, without a failed task and 0 not done",
    ),
    "a cancel that nobody asked for": (
        DoctoredLog().job(created([]), CANCELLED),
        [],
        "I7 seq 1 job j1: JobCancelled, without a failed task and 0 not done",
    ),
    "a job that never ends": (
        DoctoredLog().job(created(TWO), launch("a")),
        [],
        "I7 job j1: has not ended; live: a",
    ),
    "an event after the end": (
        sound().job(task("TaskStatusReported", "d")),
        RAN,
        "I8 seq 7 job j1: TaskStatusReported after JobSucceeded",
    ),
    "a second terminal event": (sound().job(CANCELLED), RAN, "I8 seq 7 job j1: JobCancelled after JobSucceeded"),
    "a job created twice": (
        DoctoredLog().job(created()).job(created()),
        [],
        "I8 seq 2 job j1: is created a second time",
    ),
    "a report after the end": (
        DoctoredLog().job(created(TWO), launch("a"), *done("a")).job(task("TaskStarted", "a")),
        [],
        "I8 seq 2 job j1: TaskStarted of a attempt 1 after it succeeded",
    ),
    "a second start": (
        DoctoredLog().job(created(TWO), launch("a"), task("TaskStarted", "a")).job(task("TaskStarted", "a")),
        [],
        "I8 seq 2 job j1: TaskStarted of a attempt 1 a second time",
    ),
    "a command that ran twice": (
        sound(),
        [*RAN, *RAN[:2]],
        "I4 ledger j1 a attempt 1: the command ran 2 times and ended 2 times",
    ),
    "an end that had no beginning": (
        sound(),
        RAN[1:],
        "I4 ledger j1 a attempt 1: the command ended and had not begun",
    ),
    "a success that never ran": (
        sound(),
        RAN[:4],
        "I4 ledger j1 d attempt 1: it succeeded, without exactly one start and one end",
    ),
    "a success that did not end": (sound(), RAN[:5], "I4 ledger j1 d attempt 1: it succeeded, without"),
    "a command without a launch": (
        sound(),
        [*RAN, f"j1 d 2 start {NOON_NS}"],
        "I5 ledger j1 d attempt 2: the command ran and the log has no launch",
    ),
    "a command of no job": (
        sound(),
        [*RAN, f"j2 a 1 start {NOON_NS}"],
        "I5 ledger j2 a attempt 1: the command ran",
    ),
    "a command before its launch was stored": (
        sound(),
        [f"j1 a 1 start {NOON_NS + 10**9}", *RAN[1:]],
        "I5 ledger j1 a attempt 1: the command began before its launch was on the log",
    ),
    "a command before its dependency, through a skipped one": (
        sound(),
        [RAN[0], f"j1 a 1 end {NOON_NS + 45 * 10**8}", *RAN[2:]],
        "I6 ledger j1 c attempt 1: the command began before a had ended",
    ),
    "a command alive after the job": (
        sound(),
        [*RAN[:5], f"j1 d 1 end {NOON_NS + 7 * 10**9}"],
        "I7 ledger j1 d attempt 1: the command was alive after the job had ended",
    ),
    "a torn line": (sound(), [*RAN, "j1 a 1 sta"], "ledger line 7 can't be read: 'j1 a 1 sta'"),
    "a line of something else": (sound(), [*RAN, "j1 a 1 began 5"], "ledger line 7 can't be read"),
}
