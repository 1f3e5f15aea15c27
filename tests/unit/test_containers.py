"""Containers without an engine: settings, what is refused and warned about, and what an engine is asked for."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from trackbook.adapters.container import attempt_state, outcome
from trackbook.adapters.container.backend import ContainerBackend
from trackbook.adapters.container.client import Facts, Seen
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.output import Passing, SessionLog
from trackbook.adapters.container.plan import Planner, container_name
from trackbook.adapters.execution.exit_record import ExitRecord
from trackbook.adapters.execution.outcome import verdict
from trackbook.engine.definition import Task, from_mapping, tasks
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import ExecutorUnavailable, Owned, SessionSpec

FACTS = Facts("Docker", "28.0", False, False, 4, 2**33, [], False)
AT = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = SessionSpec("tb-j1-0-1", "j1", "p1", "pipeline", "a", 0, 1, "true", image="python:3.12")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sockt": "/x"}, "Did you mean 'socket'?"),
        ({"socket": "ssh://there"}, "unix:///… or tcp://HOST:PORT"),
        ({"socket": 5}, "socket must be text"),
        ({"image": " python"}, "image must be text without blanks"),
        ({"user": "ann"}, "UID or UID:GID"),
        ({"limit": 0}, "limit must be a number, at least 1"),
        ({"limit": 1.5}, "limit must be a number"),
        ({"grace": True}, "grace must be a number"),
    ],
)
def test_mistakes_in_the_settings_are_reported(settings: dict[str, Any], words: str) -> None:
    """The words name the setting and what it may be."""
    with pytest.raises(ValueError, match=r".") as refused:
        Engine.from_mapping(settings)
    assert words in str(refused.value)


def test_where_the_engine_is_looked_for(tmp_path: Path) -> None:
    """The settings go over the environment, that over the usual sockets, of which one must be there."""
    podman = tmp_path / "podman" / "podman.sock"
    podman.parent.mkdir()
    usual = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert Engine.from_mapping({"socket": "/a.sock"}).address({"DOCKER_HOST": "tcp://b:1"}) == "unix:///a.sock"
    assert Engine().address({"DOCKER_HOST": "tcp://b:1", "CONTAINER_HOST": "unix:///c"}) == "tcp://b:1"
    assert Engine().address({"CONTAINER_HOST": "unix:///c"} | usual) == "unix:///c"
    podman.touch()
    found = Engine().address(usual)
    assert found == f"unix://{podman}" or os.access("/run/podman/podman.sock", os.W_OK)


def backend(folder: Path, **settings: Any) -> ContainerBackend:
    """Return a backend whose engine is nowhere."""
    return ContainerBackend(
        "container", Engine(**{"socket": f"unix://{folder}/none.sock", **settings}), folder, "0" * 8
    )


def judged(folder: Path, *listed: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    """Return the kind and code of each verdict about tasks."""
    document = {"name": "p", "tasks": [{"name": f"t{n}", **task} for n, task in enumerate(listed)]}
    found: list[Task] = list(tasks(from_mapping(document)).values())
    verdicts: list[Refused | Warned] = backend(folder, **settings).validate(found)
    return [(type(each).__name__, each.code) for each in verdicts]


def test_what_containers_cannot_do_is_refused_or_reported(tmp_path: Path) -> None:
    """Before a job starts, and without asking the engine."""
    image = {"environment": {"image": "python:3.12"}}
    assert judged(tmp_path, {"command": "true", **image}) == []
    assert judged(tmp_path, {"command": "true"}) == [("Refused", "image_missing")]
    assert judged(tmp_path, {"command": "true"}, image="python:3.12") == []
    assert judged(tmp_path, {"type": "serving", "service": {}, **image}) == [("Refused", "serving_unsupported")]
    asked = {"resources": {"cpu": 1, "mem": "1g", "cuda.device": 1, "cuda.shares": 0.5}}
    assert judged(tmp_path, {"command": "true", "cluster_size": 2, **asked, **image}) == [
        ("Warned", "cluster_ignored"),
        ("Warned", "resource_ignored"),
    ]


def test_that_no_engine_is_there_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job may be started all the same: the engine may be where the executor is."""
    monkeypatch.setattr("trackbook.adapters.container.config.Engine.address", lambda _: None)
    image = {"environment": {"image": "python:3.12"}}
    assert judged(tmp_path, {"command": "true", **image}) == [("Warned", "no_container_engine")]


async def test_looking_at_an_engine_that_is_not_there(tmp_path: Path) -> None:
    """It says which one was tried, and what could be done."""
    nobody = backend(tmp_path)
    for found in (await nobody.diagnose(), await nobody.preflight([SPEC])):
        assert [each.verdict for each in found] == ["fail"]
        assert "none.sock can't be reached" in found[0].found
        assert "DOCKER_HOST" in found[0].hint

    async def live() -> Owned:
        raise AssertionError("nothing was found that anybody could own")

    assert await nobody.sweep(live, end=True) == []  # no container was ever made
    (tmp_path / "sessions" / "tb-j1-0-1").mkdir(parents=True)
    attempt_state.take_note(tmp_path / "sessions" / "tb-j1-0-1", "tb-00000000-j1-0-1")
    with pytest.raises(ExecutorUnavailable, match="can't be reached"):
        await nobody.sweep(live, end=True)
    await nobody.close()


def body(folder: Path, spec: SessionSpec, facts: Facts = FACTS, **settings: Any) -> dict[str, Any]:
    """Return what the engine is asked for."""
    return Planner(folder, Engine(**settings), "0" * 8).plan(spec, facts)


def test_commands_run_as_who_runs_trackbook(tmp_path: Path) -> None:
    """So that files are its own: that account, or root in a container that a user's own engine runs."""
    assert body(tmp_path, SPEC)["User"] == f"{os.geteuid()}:{os.getegid()}"
    assert body(tmp_path, SPEC, replace(FACTS, rootless=True))["User"] == "0:0"
    assert body(tmp_path, SPEC, user="1000:1000")["User"] == "1000:1000"
    assert "User" not in body(tmp_path, SPEC, user="image")


def test_what_is_asked_for(tmp_path: Path) -> None:
    """Labels relabel folders where SELinux needs it; GPUs come as a request; nothing is privileged."""
    asked = replace(SPEC, resources={"cuda.device": 2})
    host = body(tmp_path, asked, replace(FACTS, selinux=True), network="host")["HostConfig"]
    assert host["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]
    assert all(bind.endswith((":rw,z", ":ro,z")) for bind in host["Binds"])
    assert host["NetworkMode"] == "host"
    assert "Privileged" not in host
    assert body(tmp_path, SPEC)["HostConfig"]["NetworkMode"] == "default"
    assert container_name("0f0f0f0f", SPEC.session) == "tb-0f0f0f0f-j1-0-1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": ""}, "names no image"),
        ({"command": "a\0b"}, "NUL"),
        ({"variables": {"A=B": ""}}, "can't be the name of a variable"),
        ({"mounts": ["../x"]}, "can't be the name of a folder"),
        ({"mounts": ["x:../y"]}, "can't be the name of a folder"),
        ({"resources": {"cuda.device": 0.5}}, "whole ones"),
    ],
)
def test_what_no_container_can_be_given(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """It is refused in words, before the engine is asked."""
    with pytest.raises(ValueError, match=words):
        body(tmp_path, replace(SPEC, **change))


def test_a_folder_whose_path_the_engine_would_cut(tmp_path: Path) -> None:
    """Engines take a colon in a path for its end."""
    with pytest.raises(ValueError, match="':'"):
        body(tmp_path / "a:b", SPEC)


def test_an_attempt_is_taken_once(tmp_path: Path) -> None:
    """By the container, which leaves an empty claim, or by a record, which then stands."""
    record = ExitRecord(ended_at=AT, stopped=True)
    (attempt_state.make_box(tmp_path / "ran") / attempt_state.CLAIM).touch()
    assert not attempt_state.withdraw(tmp_path / "ran", record)
    assert attempt_state.read(tmp_path / "ran") is None

    assert attempt_state.withdraw(tmp_path / "new", record)
    assert attempt_state.withdraw(tmp_path / "new", ExitRecord(ended_at=AT, message="later"))
    assert attempt_state.read(tmp_path / "new") == record
    assert attempt_state.leave(tmp_path / "new", ExitRecord(ended_at=AT, message="later")) == record


def test_a_forged_claim_is_no_record(tmp_path: Path) -> None:
    """A command may write to its own claim; what it writes is not read."""
    claim = attempt_state.make_box(tmp_path) / attempt_state.CLAIM
    claim.write_text('{"ended_at": "2026-01-01T00:00:00Z", "exit_code": 0}')
    assert attempt_state.read(tmp_path) is None
    assert attempt_state.is_claimed(tmp_path)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("pull access denied for x, repository does not exist", "permanent"),
        ("manifest unknown", "permanent"),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory', "permanent"),
        ("could not select device driver", "permanent"),
        ("dial tcp: lookup registry: no such host", "infrastructure"),
        ("connection refused", "infrastructure"),
        ("write /x: no space left on device", "operator"),
        ("something that nobody foresaw", "infrastructure"),
    ],
)
def test_whose_failure_a_refusal_is(said: str, fault: str) -> None:
    """As far as its words tell."""
    assert outcome.fault_of(said) == fault


def test_what_an_end_means(tmp_path: Path) -> None:
    """A stop that came after the end does not count; memory and signals are reported."""
    (attempt_state.make_box(tmp_path) / attempt_state.CLAIM).touch()

    def message(code: int, *, memory: bool = False, limit: int = 0) -> str:
        seen = Seen("exited", code, memory, "", AT, AT + timedelta(seconds=1))
        record = outcome.conclude(seen, replace(SPEC, resources={"mem": limit}), tmp_path, None)
        return verdict(record).message

    assert message(0) == ""
    assert message(3) == "the command ended with exit code 3"
    assert message(143) == "the command ended with exit code 143, which stands for SIGTERM"
    assert message(137, memory=True, limit=2**26) == (
        "the command ran out of memory: its limit is 64 MiB (exit code 137)"
    )
    assert "it may have run out of memory; its limit is" in message(137, limit=2**26)
    attempt_state.mark_stop(tmp_path)
    assert message(3) == "the command ended with exit code 3"


@pytest.mark.parametrize(("seconds", "kept"), [(1, 1), (0, 0), (-0.008, 0), (-60, -60)])
def test_a_short_command_does_not_end_before_it_starts(tmp_path: Path, seconds: float, kept: float) -> None:
    """An engine's own times differ by milliseconds; what a clock that was set made of them stays to be seen."""
    (attempt_state.make_box(tmp_path) / attempt_state.CLAIM).touch()
    seen = Seen("exited", 0, False, "", AT, AT + timedelta(seconds=seconds))

    assert outcome.conclude(seen, SPEC, tmp_path, None).ended_at == AT + timedelta(seconds=kept)


def test_a_log_is_gone_on_with(tmp_path: Path) -> None:
    """Opened again at any moment, and given the whole stream again, it has what one that stayed open has."""
    stream = b"".join(b"line %d\n" % number for number in range(3000))
    for limit in (4096, 2**20):
        whole, pieces = tmp_path / f"whole{limit}", tmp_path / f"pieces{limit}"
        log = SessionLog(whole, limit)
        for start in range(0, len(stream), 500):
            log.write(stream[start : start + 500])
        log.close()
        for end in range(500, len(stream) + 500, 500):
            log = SessionLog(pieces, limit)
            passing = Passing(log)
            for start in range(0, min(end, len(stream)), 250):
                passing.write(stream[start : start + 250])
            assert log.received == min(end, len(stream))
            log.close()
        assert pieces.read_bytes()[-500:] == whole.read_bytes()[-500:] == stream[-500:]
        assert pieces.read_bytes()[: limit // 2] == whole.read_bytes()[: limit // 2]


def test_the_page_has_every_setting() -> None:
    """The settings that it shows can be used, and are all there are."""
    page = (Path(__file__).parents[2] / "docs" / "containers.md").read_text()
    shown = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["container"]
    assert set(shown) == set(Engine.__struct_fields__)
    assert Engine.from_mapping(shown).limit == 8
