"""Several executors: which one runs what, what is refused, and who gets which session after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from office import CHAIN, Office, Played, opened

from trackbook.adapters.execution.kind import Host
from trackbook.engine.definition import Task, from_mapping, tasks
from trackbook.engine.job_state import JobState
from trackbook.engine.ports import SessionSpec
from trackbook.runtime.executors.configuration import Configuration, ExecutorsMisconfigured
from trackbook.runtime.executors.registry import Backends, make_backends
from trackbook.testing.executor import Play

MIXED = """\
name: mixed
executor: here
tasks:
- {name: make, command: echo one, executor: there}
- {name: use, command: echo two, dependencies: [make]}
- {name: left, command: echo three, skip: true, executor: nowhere}
"""
NAMES = ("local", "here", "there")


def _hold(_: Any) -> Play:
    return Play(hold=True)


async def _office(folder: Path, **options: Any) -> Office:
    return await opened(folder, executors=NAMES, **options)


async def _run(office: Office, text: str, **asked: Any) -> tuple[dict[str, Any], JobState]:
    await office.must("pipeline.apply", yaml=text)
    name = text.partition("name: ")[2].partition("\n")[0]
    reply = await office.must("job.start", pipeline=name, **asked)
    return reply, (await office.ended(reply["job"])).state


def _launched(office: Office) -> dict[str, list[str]]:
    return {name: [spec.task for spec in each.launches] for name, each in office.executors.items()}


async def test_each_task_runs_on_its_own_executor(tmp_path: Path) -> None:
    """A task's executor counts for it, the pipeline's for the others, and the job is one."""
    office = await _office(tmp_path)
    reply, state = await _run(office, MIXED)
    await office.close()

    assert [task.status for task in state.tasks.values()] == ["succeeded", "succeeded", "skipped"]
    assert _launched(office) == {"local": [], "here": ["use"], "there": ["make"]}
    assert state.created is not None
    assert state.created.executor == "here"
    assert [shape.executor for shape in state.created.tasks] == ["there", "", "nowhere"]
    assert [warning["code"] for warning in reply["warnings"]] == ["input_elsewhere"]
    assert "/pipeline/input1 of task 'use' is empty" in reply["warnings"][0]["message"]


async def test_the_one_that_is_asked_for_runs_all(tmp_path: Path) -> None:
    """--executor goes over what the pipeline and its tasks say, and nothing is apart then."""
    office = await _office(tmp_path)
    reply, state = await _run(office, MIXED, executor="local")
    await office.close()

    assert _launched(office) == {"local": ["make", "use"], "here": [], "there": []}
    assert state.created is not None
    assert [shape.executor for shape in state.created.tasks] == ["", "", ""]
    assert "warnings" not in reply or not reply["warnings"]


async def test_the_default_runs_what_names_none(tmp_path: Path) -> None:
    """Where neither pipeline nor task nor command names one."""
    office = await _office(tmp_path, default="there")
    _, state = await _run(office, CHAIN)
    await office.close()

    assert _launched(office) == {"local": [], "here": [], "there": ["first", "second"]}
    assert state.created is not None
    assert state.created.executor == "there"


async def test_an_unknown_executor_is_refused_with_its_place(tmp_path: Path) -> None:
    """All of them in one answer, each with the path of who named it, and what was probably meant."""
    office = await _office(tmp_path)
    text = MIXED.replace("executor: here", "executor: hree").replace("executor: there", "executor: theer")
    await office.must("pipeline.apply", yaml=text)

    refused = (await office.ask("job.start", pipeline="mixed"))["error"]
    by_option = (await office.ask("job.start", pipeline="mixed", executor="main"))["error"]
    await office.close()

    assert [(one["code"], one["path"]) for one in (refused, *refused["others"])] == [
        ("unknown_executor", "executor"),
        ("unknown_executor", "tasks[0].executor"),
    ]
    assert "Did you mean 'here'?" in refused["hint"]
    assert "Known: here, local, there" in by_option["hint"]
    assert "executors.toml" in by_option["hint"]


async def test_after_a_restart_each_session_goes_to_its_own_executor(tmp_path: Path) -> None:
    """Taking up means launching again where it ran, nowhere else; the job goes on to its end."""
    both = MIXED.replace(", dependencies: [make]", "")
    office = await _office(tmp_path, script=_hold)
    await office.must("pipeline.apply", yaml=both)
    job = (await office.must("job.start", pipeline="mixed"))["job"]
    await _until(lambda: all(office.executors[name].live for name in ("here", "there")))
    sessions = {name: set(office.executors[name].live) for name in NAMES}
    live = {name: (await office.jobs.live(name)).sessions for name in NAMES}
    await office.close()

    again = await opened(tmp_path, office.store, office.blobs, played=office.executors)
    await _until(lambda: all(len(again.executors[name].launches) == 2 for name in ("here", "there")))
    for name in ("here", "there"):
        for session in sessions[name]:
            again.executors[name].finish(session)
    state = (await again.ended(job)).state
    await again.close()

    assert live == sessions
    assert [task.status for task in state.tasks.values()] == ["succeeded", "succeeded", "skipped"]
    assert not again.executors["local"].launches
    assert {count for each in again.executors.values() for count in each.runs.values()} == {1}


async def test_a_service_is_live_until_its_job_ends(tmp_path: Path) -> None:
    """What a task offers outlives the task, and is nobody's once the job has ended."""

    def script(spec: SessionSpec) -> Play:
        return Play(service={"url": "http://there/"}) if spec.task == "make" else Play(hold=True)

    office = await _office(tmp_path, script=script)
    await office.must("pipeline.apply", yaml=MIXED)
    job = (await office.must("job.start", pipeline="mixed"))["job"]
    await _until(lambda: office.executors["here"].live)
    live = {name: (await office.jobs.live(name)).sessions for name in NAMES}
    office.executors["here"].finish(f"tb-{job}-1-1")
    await office.ended(job)
    after = {name: (await office.jobs.live(name)).sessions for name in NAMES}
    await office.close()

    assert live == {"local": set(), "here": {f"tb-{job}-1-1"}, "there": {f"tb-{job}-0-1"}}
    assert after == {name: set() for name in NAMES}


async def test_an_executor_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    """A cluster taken out of the configuration leaves its sessions outstanding; the others go on."""
    both = MIXED.replace(", dependencies: [make]", "")
    office = await _office(tmp_path, script=_hold)
    await office.must("pipeline.apply", yaml=both)
    job = (await office.must("job.start", pipeline="mixed"))["job"]
    await _until(lambda: all(office.executors[name].live for name in ("here", "there")))
    await office.close()

    fewer: Played = {name: office.executors[name] for name in ("local", "here")}
    again = await opened(tmp_path, office.store, office.blobs, played=fewer)
    await _until(lambda: len(again.executors["here"].launches) == 2)
    state = (await again.jobs.state(job)).state
    await again.close()

    assert {task.shape.name for task in state.live()} == {"make", "use"}


def _tasks(*given: dict[str, Any]) -> list[Task]:
    return list(
        tasks(from_mapping({"name": "p", "tasks": [{"command": "c", **each} for each in given]})).values()
    )


def test_containers_and_processes_share_their_folders(tmp_path: Path) -> None:
    """Both write to the data directory, so nothing is apart between them."""
    backends = Backends(
        dict.fromkeys(("local", "container"), make_backends(Host(data=tmp_path, installation="0" * 8))["local"])
    )
    mixed = _tasks({"name": "a", "executor": "container"}, {"name": "b", "dependencies": ["a"]})

    assert backends.validate(mixed, None) == ("local", [], [])


async def test_a_wide_fan_is_reported_in_few_words(tmp_path: Path) -> None:
    """A thousand empty inputs are twenty warnings, and one that counts the rest."""
    far = {"endpoint": "https://cluster.example.org", "access_key": "a", "secret_key": "b"}
    found = Configuration(tmp_path / "executors.toml", clusters={"far": far})
    backends = make_backends(Host(data=tmp_path, installation="0" * 8), found)
    wide = [{"name": f"t{number}", "dependencies": ["a"], "executor": "backendai/far"} for number in range(1000)]

    _, _, warned = backends.validate(_tasks({"name": "a"}, *wide), None)
    await backends.close()

    assert len(warned) == 21
    assert "980 more" in warned[-1].message


def test_an_unknown_default_is_reported(tmp_path: Path) -> None:
    """The words say where it was said, and which there are."""
    found = Configuration(tmp_path / "executors.toml", "locale", "TRACKBOOK_EXECUTOR")

    with pytest.raises(ExecutorsMisconfigured, match=r"TRACKBOOK_EXECUTOR.*'locale'.*Did you mean 'local'"):
        make_backends(Host(data=tmp_path, installation="0" * 8), found)


async def test_clusters_are_executors_by_their_names(tmp_path: Path) -> None:
    """Each is `backendai/NAME`, and may be the default."""
    settings = {"endpoint": "https://cluster.example.org", "access_key": "a", "secret_key": "b"}
    path, sources = tmp_path / "executors.toml", {"backendai/main": "somewhere"}
    found = Configuration(path, "backendai/main", clusters={"main": settings}, sources=sources)

    backends = make_backends(Host(data=tmp_path, installation="0" * 8), found)

    assert list(backends)[:2] == ["local", "backendai/main"]
    assert backends.default == backends["backendai/main"].name == "backendai/main"
    await backends.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "endpoint and access_key and secret_key must be set"),
        ({"endpont": "x"}, "Did you mean 'endpoint'?"),
        ({"endpoint": "x", "access_key": "a", "secret_key": "s3cr3t"}, "not an address"),
        ({"endpoint": "http://x", "access_key": "a", "secret_key": 3}, "secret_key must be text"),
        ({"endpoint": "http://x", "access_key": "a", "secret_key": "s3cr3t ", "project": "p"}, "has blanks"),
    ],
)
def test_mistakes_in_a_clusters_settings_are_reported(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    """The words name the cluster, the setting and where it was said, and never the key."""
    path = tmp_path / "executors.toml"
    found = Configuration(path, clusters={"main": settings}, sources={"backendai/main": str(path)})

    with pytest.raises(ExecutorsMisconfigured) as refused:
        make_backends(Host(data=tmp_path, installation="0" * 8), found)

    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for is in many places
            await asyncio.sleep(0)
