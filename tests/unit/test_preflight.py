"""`job.check` and `executor.sweep`: what the executors find is reported, and nothing is put on the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from office import CHAIN, Office, opened

from trackbook.adapters.local.backend import LocalBackend
from trackbook.engine.job import job_of
from trackbook.engine.ports import Finding, Live, SessionSpec
from trackbook.runtime.commands import preflight
from trackbook.testing.executor import Play

MIXED = """\
name: mixed
environment: {envs: {COLOUR: red}}
tasks:
- {name: make, command: echo one, executor: far, resources: {mem: 1g}, environment: {image: tiny}}
- {name: left, command: echo three, skip: true, executor: far}
- {name: use, command: echo two, dependencies: [make, left], executor: far}
"""


class Far(LocalBackend):
    """An executor that finds what it is asked to, and keeps what it was asked."""

    def __init__(self, folder: Path, found: Callable[[], Sequence[Finding]] = list) -> None:
        super().__init__("far", folder, self._none)
        self.found = found
        self.asked: list[SessionSpec] = []
        self.ends: list[bool] = []
        self.live: set[str] = set()
        self.unknown: list[bool] = []
        self.knows: Callable[[str], bool] = bool
        self.gate = asyncio.Event()
        self.gate.set()

    @staticmethod
    def _none() -> Any:
        raise AssertionError("no session is to run")

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:
        """Find what is to be found, once the gate is open."""
        await self.gate.wait()
        self.asked = list(specs)
        return list(self.found())

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Note what is live, and find what is to be found."""
        self.ends.append(end)
        self.unknown.append(unknown)
        owned = await live()
        self.live, self.knows = owned.sessions, owned.knows_job
        return list(self.found())


async def _office(folder: Path, far: Far, **options: Any) -> Office:
    office = await opened(folder, executors=("local", "far"), **options)
    office.backends._backends["far"] = far
    return office


async def test_a_check_asks_each_executor_and_starts_nothing(tmp_path: Path) -> None:
    """The sessions are those of a start: merged variables, the run's own, inputs in order, none skipped."""
    far = Far(
        tmp_path, lambda: [Finding("image", "not there", "fail", "Build it.", "make"), Finding("key", "good")]
    )
    office = await _office(tmp_path, far)
    applied = await office.must("pipeline.apply", yaml=MIXED)
    commits = len(office.store.commits)

    reply = await office.must("job.check", pipeline="mixed", parameters={"EPOCHS": "3"})
    await office.close()

    assert (reply["ok"], reply["version"], reply["pipeline"]) == (False, 1, applied["pipeline"])
    assert reply["findings"] == [
        {"what": "image", "found": "not there", "verdict": "fail", "hint": "Build it.", "task": "make",
         "executor": "far"},
        {"what": "key", "found": "good", "verdict": "ok", "executor": "far"},
    ]  # fmt: skip
    assert len(office.store.commits) == commits
    assert [spec.task for spec in far.asked] == ["make", "use"]
    assert far.asked[0].variables == {"COLOUR": "red", "EPOCHS": "3"}
    assert (far.asked[0].image, far.asked[0].resources) == ("tiny", {"mem": 1 << 30})
    assert [(one.task, one.index, one.skipped) for one in far.asked[1].inputs] == [
        ("make", 0, False),
        ("left", 1, True),
    ]
    assert {spec.pipeline for spec in far.asked} == {applied["pipeline"]}


async def test_a_text_is_checked_without_being_applied(tmp_path: Path) -> None:
    """What would change is reported; refusals and warnings have their line."""
    far = Far(tmp_path)
    office = await _office(tmp_path, far)
    reply = await office.must("job.check", yaml=MIXED.replace("far}\n- {name: left", "local}\n- {name: left"))
    refused = await office.ask(
        "job.check", yaml=MIXED.replace("executor: far, resources", "executor: fra, resources")
    )
    await office.close()

    assert (reply["ok"], reply["version"], reply["name"]) == (True, 0, "mixed")
    assert reply["changes"]
    assert refused["error"]["code"] == "unknown_executor"
    assert refused["error"]["line"] == 4
    assert office.kinds() == []


async def test_the_local_executor_has_nothing_to_find(tmp_path: Path) -> None:
    """A check of a local job is good, and has the warnings of a start."""
    office = await opened(tmp_path)
    text = CHAIN.replace("command: echo one", "command: echo one, environment: {image: tiny}")
    await office.must("pipeline.apply", yaml=text)
    reply = await office.must("job.check", pipeline="chain", version=1)
    started = await office.must("job.start", pipeline="chain", version=1)
    await office.ended(started["job"])
    await office.close()

    assert (reply["ok"], reply["findings"]) == (True, [])
    assert reply["warnings"] == started["warnings"]
    assert [warning["code"] for warning in reply["warnings"]] == ["image_ignored"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "invalid_payload"),
        ({"yaml": "x", "definition": {}}, "invalid_payload"),
        ({"yaml": CHAIN, "version": 1}, "invalid_payload"),
        ({"pipeline": "none"}, "pipeline_not_found"),
        ({"yaml": "name: empty\ntasks: []\n"}, "no_tasks"),
        ({"yaml": CHAIN, "executor": "moon"}, "unknown_executor"),
    ],
)
async def test_what_no_start_would_take_is_refused(tmp_path: Path, payload: dict[str, Any], code: str) -> None:
    """In the words of a start, or of an apply."""
    office = await opened(tmp_path)
    reply = await office.ask("job.check", **payload)
    await office.close()

    assert reply["error"]["code"] == code


async def test_all_that_would_fail_is_found_in_one_pass(tmp_path: Path) -> None:
    """Secrets, executors and what these find are reported together, each once, with its task and its line."""
    text = """\
name: broken
tasks:
- {name: a, command: "echo ${{secrets.KEY}}", executor: far}
- {name: b, command: echo two, executor: moon}
- {name: c, command: echo three, type: serving, service: {}}
- {name: d, command: echo four, executor: far}
"""
    far = Far(
        tmp_path,
        lambda: [
            Finding("image", "not there", "fail", "Build it.", "d"),
            Finding("cluster", "what is left of the limits can't be read", "warn"),
        ],
    )
    office = await _office(tmp_path, far)
    reply = await office.ask("job.check", yaml=text)
    again = await office.ask("job.check", yaml=text)
    await office.close()

    error = reply["error"]
    found = [(each["code"], each.get("path"), each.get("line")) for each in (error, *error["others"])]
    assert found == [
        ("secrets_unsupported", "tasks[0].command", 3),
        ("unknown_executor", "tasks[1].executor", 4),
        ("serving_unsupported", "tasks[2]", 5),
        ("would_fail", "tasks[3]", 6),
    ]
    assert error["others"][-1]["message"] == "task 'd': image: not there"
    assert error["others"][-1]["hint"] == "Build it."
    assert again["error"] == error


async def test_an_executor_that_breaks_or_hangs_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that is away never makes the check itself fail, or wait for ever."""
    monkeypatch.setattr(preflight, "_WITHIN", 0.05)

    def breaks() -> list[Finding]:
        raise ConnectionError("it is away")

    far = Far(tmp_path, breaks)
    office = await _office(tmp_path, far)
    broken = await office.must("job.check", yaml=MIXED)
    far.gate.clear()
    hanging = await office.must("job.check", yaml=MIXED)
    await office.close()

    assert (broken["ok"], hanging["ok"]) == (False, False)
    assert "it is away" in broken["findings"][0]["found"]
    assert "did not answer" in hanging["findings"][0]["found"]


async def test_who_asks_again_gets_the_same_answer(tmp_path: Path) -> None:
    """An answer that takes longer than its carrier waits is looked for once, and given to all who ask for it."""
    looks = iter(range(10))
    far = Far(tmp_path, lambda: [Finding("look", f"number {next(looks)}")])
    far.gate.clear()
    office = await _office(tmp_path, far)
    first = asyncio.create_task(office.must("job.check", command_id="c-1", yaml=MIXED))
    second = asyncio.create_task(office.must("job.check", command_id="c-1", yaml=MIXED))
    first.cancel()
    await asyncio.wait([first])
    far.gate.set()
    answers = [await second, await office.must("job.check", command_id="c-1", yaml=MIXED)]
    other = await office.must("job.check", command_id="c-2", yaml=MIXED)
    await office.close()

    assert answers[0] == answers[1]
    assert answers[0]["findings"][0]["found"] == "number 0"
    assert other["findings"][0]["found"] == "number 1"


async def test_too_much_is_reported_in_fewer_words(tmp_path: Path) -> None:
    """What fails comes first then, and what is left out is counted."""
    far = Far(tmp_path, lambda: [*[Finding("a", "b")] * 300, Finding("c", "d", "fail")])
    office = await _office(tmp_path, far)
    reply = await office.must("job.check", yaml=MIXED)
    await office.close()

    assert len(reply["findings"]) == 201
    assert reply["findings"][0]["verdict"] == "fail"
    assert "101 more findings" in reply["findings"][-1]["found"]


async def test_a_sweep_knows_the_live_sessions(tmp_path: Path) -> None:
    """Each executor gets its own sessions alone; what it finds is reported, and ended only where asked."""
    far = Far(tmp_path, lambda: [Finding("session", "left over", "warn")])
    office = await _office(tmp_path, far, script=lambda _: Play(hold=True))
    await office.must("pipeline.apply", yaml=MIXED)
    await office.must("pipeline.apply", yaml=CHAIN)
    job = (await office.must("job.start", pipeline="mixed"))["job"]
    await office.must("job.start", pipeline="chain")
    commits = len(office.store.commits)

    reported = await office.must("executor.sweep")
    ended = await office.must("executor.sweep", executor="far", end=True)
    unknown = await office.ask("executor.sweep", executor="fra")
    known = (far.knows(job_of(f"tb-{job}-0-1")), far.knows("00"))
    await office.close()

    assert far.live == {f"tb-{job}-0-1"}
    assert far.ends == far.unknown == [False, True]
    assert known == (True, False)
    assert [one["findings"][0]["found"] for one in (reported, ended)] == ["left over"] * 2
    assert reported["ok"] is True
    assert unknown["error"]["code"] == "unknown_executor"
    assert len(office.store.commits) == commits
