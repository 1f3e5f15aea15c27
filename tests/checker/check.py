"""Checks invariants I1 to I8 from the raw event stream and a ledger that the tasks' own commands wrote.

    python tests/checker/check.py STREAM.jsonl LEDGER [--blobs DIR] [--earlier EARLIER.jsonl] [--running]

STREAM holds one message a line, {"seq": 1, "subject": "trackbook.evt.job.<id>", "data": "<base64>"}; LEDGER one
line `<job> <task> <attempt> start|end <time_ns>` for each thing that a command did; DIR the bodies of large
commits, each named by its SHA-256. An EARLIER dump must be contained in the stream. Without --running every job
must have ended. Nothing of the engine is imported, so no mistake of it can be shared. Exit 1 with what is wrong.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Message = tuple[int, str, bytes]
Attempt = tuple[str, str, int]
ENDS = {"AttemptSucceeded": "succeeded", "AttemptFailed": "failed", "AttemptCancelled": "cancelled"}
TASK_ENDS = {"TaskSucceeded": "succeeded", "TaskFailed": "failed", "TaskCancelled": "cancelled"}
JOB_ENDS = ("JobSucceeded", "JobFailed", "JobCancelled")
CLOCK_NS = 1_000_000
"""Commits carry microseconds and ledgers nanoseconds, written by different processes of one machine."""


def check(
    messages: Iterable[Message],
    ledger: Iterable[str] = (),
    blobs: Mapping[str, bytes] | Path | None = None,
    *,
    earlier: Iterable[Message] = (),
    running: bool = False,
) -> list[str]:
    """Return every violation found, in the order of the stream; none if all is well."""
    wrong: list[str] = []
    stream, outcomes, jobs = _Stream(wrong, blobs), _Outcomes(wrong), dict[str, _Job]()
    stored = list(messages)
    for seq, subject, data in stored:
        if (commit := stream.take(seq, subject, data)) is None:
            continue
        outcomes.take(seq, commit)
        if commit["kind"] == "job":
            jobs.setdefault(commit["id"], _Job(commit["id"], wrong)).take(seq, commit)
    now = {seq: (subject, data) for seq, subject, data in stored}
    lost = [seq for seq, subject, data in earlier if now.get(seq) != (subject, data)]
    wrong += [f"I3 seq {seq}: what was stored is gone or changed" for seq in lost]
    for job in jobs.values():
        job.finish(running=running)
    _Ledger(jobs, wrong).check(ledger)
    return wrong


class _Stream:
    """Messages to commits: sequences and versions without gaps, and the hash chain of each aggregate."""

    def __init__(self, wrong: list[str], blobs: Mapping[str, bytes] | Path | None) -> None:
        self._wrong, self._blobs, self._seq = wrong, blobs, 0
        self._heads: dict[tuple[str, str], tuple[int, str]] = {}

    def take(self, seq: int, subject: str, data: bytes) -> dict[str, Any] | None:
        """Return the message's commit with its body, or None when it can't be read."""
        if seq != self._seq + 1:
            self._wrong.append(f"I2 seq {seq}: follows {self._seq}")
        self._seq = seq
        try:
            commit: dict[str, Any] = json.loads(data)
            kind, aggregate, version, prev = (commit[key] for key in ("kind", "id", "version", "prev"))
            if subject.split(".")[-3:] != ["evt", kind, aggregate]:
                self._wrong.append(f"I2 seq {seq}: a commit of {kind} {aggregate} stands on {subject}")
            last, digest = self._heads.get((kind, aggregate), (0, ""))
            if version != last + 1:
                self._wrong.append(f"I2 seq {seq}: {kind} {aggregate} has version {version} after {last}")
            if prev != digest:
                self._wrong.append(f"I3 seq {seq}: {kind} {aggregate} does not carry the hash of its last commit")
            self._heads[kind, aggregate] = (version, hashlib.sha256(data).hexdigest())
            return self._with_body(seq, commit)
        except (ValueError, KeyError, TypeError) as problem:
            self._wrong.append(
                f"I2 seq {seq}: not a commit that can be read ({type(problem).__name__}: {problem})"
            )
            return None

    def _with_body(self, seq: int, commit: dict[str, Any]) -> dict[str, Any] | None:
        if blob := commit.get("blob"):
            body = self._body(blob["sha256"])
            if body is None or len(body) != blob["size"] or hashlib.sha256(body).hexdigest() != blob["sha256"]:
                self._wrong.append(f"I3 seq {seq}: the blob {blob['sha256']} is missing or changed")
                return None
            commit |= json.loads(body)
        inputs, events, causes = (commit.setdefault(key, []) for key in ("inputs", "events", "causes"))
        if not events or len(causes) != len(events):
            self._wrong.append(f"I2 seq {seq}: {len(events)} events with {len(causes)} causes")
        if any(not -index <= cause < len(inputs) for index, cause in enumerate(causes)):
            self._wrong.append(f"I2 seq {seq}: an event has no cause in its commit: {causes}")
        return commit

    def _body(self, sha256: str) -> bytes | None:
        if isinstance(self._blobs, Path):
            path = self._blobs / sha256
            return path.read_bytes() if path.is_file() else None
        return self._blobs.get(sha256) if self._blobs else None


class _Outcomes:
    """I1: each command id has one outcome, in the commit that it led to or on a subject of its own."""

    def __init__(self, wrong: list[str]) -> None:
        self._wrong, self._seen = wrong, dict[str, int]()

    def take(self, seq: int, commit: dict[str, Any]) -> None:
        """Note the outcomes that a commit holds."""
        for event in commit["events"]:
            if commit["kind"] == "outcome":
                if commit["id"] != hashlib.sha256(event["command_id"].encode()).hexdigest()[:32]:
                    self._wrong.append(f"I1 seq {seq}: an outcome of {event['command_id']} on another's subject")
                self._note(seq, event["command_id"], event.get("reply"))
        for given in commit["inputs"]:
            if given.get("id"):
                self._note(seq, given["id"], given.get("reply"))

    def _note(self, seq: int, command: str, reply: dict[str, Any] | None) -> None:
        if before := self._seen.get(command):
            self._wrong.append(f"I1 seq {seq}: command {command} had its outcome at {before} already")
        if reply is None or reply.get("command_id", command) != command:
            self._wrong.append(f"I1 seq {seq}: command {command} has no reply of its own")
        self._seen.setdefault(command, seq)


class _Job:
    """One job by its events alone: I4, I6, I7, I8."""

    def __init__(self, job: str, wrong: list[str]) -> None:
        self.id, self._wrong, self._where = job, wrong, ""
        self.dependencies: dict[str, list[str]] = {}
        self.skip, self.done = set[str](), set[str]()
        self.launched: dict[tuple[str, int], int] = {}
        self.live: dict[str, int] = {}
        self.ended: dict[tuple[str, int], str] = {}
        self.ended_at: int | None = None
        self._started, self._stopped = set[tuple[str, int]](), set[tuple[str, int]]()
        self._between: dict[str, str] = {}
        self._terminal = self._stopping = self._failed = ""

    def say(self, what: str) -> None:
        """Note a violation at the place that is looked at."""
        self._wrong.append(f"{what.partition(' ')[0]} {self._where}job {self.id}: {what.partition(' ')[2]}")

    def take(self, seq: int, commit: dict[str, Any]) -> None:
        """Follow the events of a commit."""
        self._where = f"seq {seq} "
        at = _nanoseconds(commit["at"])
        for event in commit["events"]:
            if self._terminal:
                self.say(f"I8 {event['type']} after {self._terminal}")
            self._hear(event, at)
        if self._stopping and (left := self.live.items() - self._stopped):
            self.say(f"I6 {self._stopping}, and nobody stops {sorted(left)}")
        if self._between:
            self.say(f"I7 the attempts of {', '.join(sorted(self._between))} ended, and the tasks did not")
            self._between.clear()

    def _hear(self, event: dict[str, Any], at: int) -> None:
        kind = event["type"]
        if kind == "JobCreated":
            self._create(event)
        elif kind in ("TaskLaunchRequested", "TaskSkipped"):
            self._begin(event, at)
        elif kind in ("JobCancelRequested", "JobFailing"):
            self._stopping = self._stopping or kind
        elif kind in JOB_ENDS:
            self._end(kind, at)
        elif kind in TASK_ENDS:
            self._end_task(kind, event["task"])
        elif kind.startswith(("Task", "Attempt")):
            self._of_attempt(kind, (event["task"], event["attempt"]))

    def _create(self, event: dict[str, Any]) -> None:
        if self.dependencies:
            self.say("I8 is created a second time")
        self.dependencies = {task["name"]: task.get("dependencies", []) for task in event["tasks"]}
        self.skip = {task["name"] for task in event["tasks"] if task.get("skip")}

    def _begin(self, event: dict[str, Any], at: int) -> None:
        kind, task = event["type"], event["task"]
        if self._stopping:
            self.say(f"I6 {kind} of {task} after {self._stopping}")
        if missing := set(self.dependencies.get(task, [task])) - self.done:
            self.say(f"I6 {kind} of {task} before {', '.join(sorted(missing))} succeeded")
        if (task in self.skip) is not (kind == "TaskSkipped"):
            self.say(f"I6 {kind} of {task}, against what its definition says")
        if kind == "TaskSkipped":
            if task in self.done:
                self.say(f"I4 {task} is skipped a second time")
            self.done.add(task)
            return
        attempt = event["attempt"]
        if (task, attempt) in self.launched:
            self.say(f"I4 {task} attempt {attempt} is launched a second time")
        if task in self.live or task in self.done:
            self.say(f"I4 {task} attempt {attempt} is launched, and another is live or succeeded")
        if attempt > 1 and (task, attempt - 1) not in self.ended:
            self.say(f"I4 {task} attempt {attempt} is launched, and the one before it is not gone")
        self.launched.setdefault((task, attempt), at)
        self.live[task] = attempt

    def _of_attempt(self, kind: str, attempt: tuple[str, int]) -> None:
        name = f"{kind} of {attempt[0]} attempt {attempt[1]}"
        if attempt not in self.launched:
            self.say(f"I5 {name}, and it was never launched")
        elif attempt in self.ended:
            self.say(f"{'I4' if kind in ENDS else 'I8'} {name} after it {self.ended[attempt]}")
        if kind == "TaskStarted":
            if attempt in self._started:
                self.say(f"I8 {name} a second time")
            self._started.add(attempt)
        elif kind == "TaskStopRequested":
            self._stopped.add(attempt)
        elif kind in ENDS:
            self._between[attempt[0]] = self.ended.setdefault(attempt, ENDS[kind])
            self.live.pop(attempt[0], None)

    def _end_task(self, kind: str, task: str) -> None:
        if self._between.pop(task, "") != TASK_ENDS[kind]:
            self.say(f"I4 {kind} of {task}, and its attempt did not just end like that")
        if kind == "TaskSucceeded":
            self.done.add(task)
        elif kind == "TaskFailed":
            self._failed = task
            self._stopping = self._stopping or f"the failure of {task}"

    def _end(self, kind: str, at: int) -> None:
        self._terminal, self.ended_at = kind, at
        if self.live:
            self.say(f"I7 {kind}, and {', '.join(sorted(self.live))} are live")
        undone = self.dependencies.keys() - self.done
        succeeded = not undone and not self._stopping
        if (kind == "JobFailed") is not bool(self._failed) or (kind == "JobSucceeded") is not succeeded:
            self.say(f"I7 {kind}, with{'' if self._failed else 'out'} a failed task and {len(undone)} not done")

    def finish(self, *, running: bool) -> None:
        """Check what must hold once everything has come to rest."""
        self._where = ""
        if not self._terminal and not running:
            self.say(f"I7 has not ended; live: {', '.join(sorted(self.live)) or 'nothing'}")

    def needs(self, task: str) -> Iterator[str]:
        """Yield the tasks whose commands come before this one's, through those that are skipped."""
        near = dict.fromkeys(self.dependencies.get(task, []))
        passed: set[str] = set()
        while near:
            dependency = near.popitem()[0]
            if dependency not in self.skip:
                yield dependency
            elif dependency not in passed:
                passed.add(dependency)
                near |= dict.fromkeys(self.dependencies[dependency])


class _Ledger:
    """What really ran, by the commands' own word, against the log."""

    def __init__(self, jobs: dict[str, _Job], wrong: list[str]) -> None:
        self._jobs, self._wrong = jobs, wrong
        self._times: dict[str, dict[Attempt, list[int]]] = {"start": defaultdict(list), "end": defaultdict(list)}
        self._first_end: dict[tuple[str, str], int] = {}

    def check(self, lines: Iterable[str]) -> None:
        """Check every line, and every success for its lines."""
        for place, line in enumerate(lines, 1):
            if line.strip():
                self._read(place, line)
        for (name, task, _), times in self._times["end"].items():
            self._first_end[name, task] = min([*times, self._first_end.get((name, task), times[0])])
        for attempt in sorted({*self._times["start"], *self._times["end"]}):
            self._check_run(attempt)
        for job in self._jobs.values():
            for (task, number), how in job.ended.items():
                if how == "succeeded":
                    self._check_success((job.id, task, number))

    def _read(self, place: int, line: str) -> None:
        job, *task, attempt, what, time = line.split() if len(line.split()) >= 5 else [""] * 5
        try:
            self._times[what][job, " ".join(task), int(attempt)].append(int(time))
        except (KeyError, ValueError):
            self._wrong.append(f"ledger line {place} can't be read: {line.strip()!r}")

    def _check_run(self, attempt: Attempt) -> None:
        starts, ends = self._times["start"][attempt], self._times["end"][attempt]
        name = f"ledger {attempt[0]} {attempt[1]} attempt {attempt[2]}:"
        if len(starts) > 1 or len(ends) > 1:
            self._wrong.append(f"I4 {name} the command ran {len(starts)} times and ended {len(ends)} times")
        if ends and (not starts or min(ends) < min(starts)):
            self._wrong.append(f"I4 {name} the command ended and had not begun")
        job = self._jobs.get(attempt[0])
        if job is None or attempt[1:] not in job.launched:
            self._wrong.append(f"I5 {name} the command ran and the log has no launch")
            return
        if starts and min(starts) < job.launched[attempt[1:]] - CLOCK_NS:
            self._wrong.append(f"I5 {name} the command began before its launch was on the log")
        if job.ended_at is not None and max([*starts, *ends]) > job.ended_at + CLOCK_NS:
            self._wrong.append(f"I7 {name} the command was alive after the job had ended")
        for dependency in job.needs(attempt[1]):
            ended = self._first_end.get((job.id, dependency))
            if starts and (ended is None or ended > min(starts)):
                self._wrong.append(f"I6 {name} the command began before {dependency} had ended")

    def _check_success(self, attempt: Attempt) -> None:
        if (len(self._times["start"][attempt]), len(self._times["end"][attempt])) != (1, 1):
            name = f"ledger {attempt[0]} {attempt[1]} attempt {attempt[2]}:"
            self._wrong.append(f"I4 {name} it succeeded, without exactly one start and one end")


def _nanoseconds(time: str) -> int:
    moment = datetime.fromisoformat(time)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def read_dump(path: Path) -> list[Message]:
    """Return the messages of a dump, a JSON object a line."""
    with path.open() as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [(row["seq"], row["subject"], base64.b64decode(row["data"], validate=True)) for row in rows]


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line, print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stream", type=Path)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--blobs", type=Path, help="a directory of bodies, each named by its SHA-256")
    parser.add_argument("--earlier", type=Path, help="a dump made before, which the stream must still contain")
    parser.add_argument("--running", action="store_true", help="jobs may still be running")
    asked = parser.parse_args(arguments)
    stream, earlier = read_dump(asked.stream), read_dump(asked.earlier) if asked.earlier else []
    ledger = asked.ledger.read_text().splitlines()
    wrong = check(stream, ledger, asked.blobs, earlier=earlier, running=asked.running)
    print("\n".join(wrong) or f"{len(stream)} commits and {len(ledger)} ledger lines: all invariants hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
