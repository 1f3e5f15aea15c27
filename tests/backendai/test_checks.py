"""What is said to fail before a run, against what a real manager then does."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backendai.cluster import Cluster
from backendai.stack.settings import KEYS
from backendai.worlds import settings
from trackbook.adapters.backendai.api import inventory, session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import NewSession
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.backend import BackendAIBackend
from trackbook.engine.ports import Finding, SessionInput, SessionSpec

JOB = "00000000000000ff"
SMALL = {"cpu": 1, "mem": 128 << 20}


class Looker:
    """A backend on the manager, under an installation of its own."""

    def __init__(self, cluster: Cluster, folder: Path, **other: Any) -> None:
        self.cluster = cluster
        self.backend = BackendAIBackend(
            "backendai/main", settings(cluster, **other), folder, secrets.token_hex(4)
        )
        self.pipeline = secrets.token_hex(8)

    def spec(self, index: int = 0, **other: Any) -> SessionSpec:
        """Return a task's session as a start would make it."""
        given: dict[str, Any] = {
            "session": f"tb-{JOB}-{index}-1", "job": JOB, "pipeline": self.pipeline, "pipeline_name": "train",
            "task": f"t{index}", "index": index, "attempt": 1, "command": "true", "image": self.cluster.image,
            "resources": SMALL,
        }  # fmt: skip
        return SessionSpec(**given | other)

    async def check(self, *specs: SessionSpec) -> list[Finding]:
        """Look before a run of these."""
        return await self.backend.preflight(specs)

    async def failing(self, *specs: SessionSpec) -> list[tuple[str, str]]:
        """Return what would fail, in short: what, and the task."""
        return [(each.what, each.task) for each in await self.check(*specs) if each.verdict == "fail"]


@pytest.fixture
async def looker(stack: Cluster, tmp_path: Path) -> AsyncIterator[Looker]:
    """Give a backend on the manager."""
    made = Looker(stack, tmp_path)
    yield made
    await made.backend.close()


async def test_nothing_is_amiss_with_what_would_run(looker: Looker) -> None:
    """Cluster, image and folder are reported as good, once, and nothing else."""
    found = await looker.check(looker.spec(), looker.spec(1, inputs=[SessionInput("j1", "t0", 0, 1)]))

    assert [(each.what, each.verdict) for each in found] == [
        ("cluster", "ok"),
        ("image", "ok"),
        ("folder", "ok"),
    ]
    assert looker.cluster.version in found[0].found
    assert "will be made" in found[2].found


async def refusal(looker: Looker, spec: SessionSpec) -> str:
    """Ask the manager for the session itself, and return why it refuses; '' where it takes it."""
    client = Client(settings(looker.cluster))
    new = NewSession(
        name=f"raw-{secrets.token_hex(6)}",
        image=spec.image,
        command="true",
        resources=dict(spec.resources),
        shmem=spec.shmem,
        scaling_group=spec.scaling_group,
        project=spec.project or "default",
        cluster_size=spec.cluster_size,
        mounts={mount: f"/home/work/{mount}" for mount in spec.mounts},
    )
    try:
        await session_calls.destroy(client, await session_calls.create_session(client, new))
    except ClusterError as error:
        return str(error.message)
    finally:
        await client.close()
    return ""


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"image": "sim-registry/stable/python:3.8"}, "image"),
        ({"resources": SMALL | {"cuda.shares": 1}}, "resources"),
        ({"resources": SMALL | {"mem": 1 << 20}}, "resources"),
        ({"shmem": 128 << 20}, "resources"),
        ({"scaling_group": "gpu"}, "scaling group"),
        ({"project": "research"}, "project"),
        ({"cluster_size": 9}, "cluster size"),
        ({"mounts": ["no-such-folder"]}, "mounts"),
    ],
)
async def test_what_is_said_to_fail_the_manager_refuses(looker: Looker, asked: dict[str, Any], what: str) -> None:
    """The check says no more and no less than the manager, and says what there is instead."""
    spec = looker.spec(**asked)
    found = [each for each in await looker.check(spec) if each.verdict == "fail"]

    assert what in [each.what for each in found], found
    assert await refusal(looker, spec)


async def test_what_would_wait_for_ever_is_said_to_fail(looker: Looker) -> None:
    """A task that no agent could hold is taken by the manager, and never runs."""
    found = [each for each in await looker.check(looker.spec(resources=SMALL | {"cpu": 900})) if each.task]

    assert [each.what for each in found] == ["agents"]
    assert "wait for ever" in found[0].found
    assert " cpu" in found[0].hint


async def test_all_that_would_fail_is_reported_at_once(looker: Looker) -> None:
    """Each with its task; the same about many tasks is one line."""
    many = [looker.spec(index, image="sim-registry/none:1") for index in range(2, 50)]
    found = await looker.check(looker.spec(0, mounts=["a:x", "b:x"]), looker.spec(1, mounts=["../up"]), *many)
    failing = [each for each in found if each.verdict == "fail"]

    assert found[: len(failing)] == failing
    assert any("mounted at one another's place" in each.found and each.task == "t0" for each in failing)
    assert any(each.what == "session" and each.task == "t1" for each in failing)
    assert [each.found for each in failing if each.what == "image"] == [
        "the cluster does not know the image sim-registry/none:1 (tasks t2, t3, t4 and 45 more)"
    ]


async def test_mounts_that_are_there_are_good(looker: Looker) -> None:
    """A folder of the user's own may be mounted, or parts of it; not twice, nor a part beside the whole."""
    client = Client(settings(looker.cluster))
    name = f"data-{secrets.token_hex(4)}"
    folder = await Storage(client).ensure(name)
    try:
        await Storage(client).mkdir(name, ["part", "other"])
        whole = await looker.failing(looker.spec(mounts=[name]))
        parts = await looker.failing(looker.spec(mounts=[f"{name}/part:part", f"{name}/other"]))
        twice = await looker.failing(looker.spec(mounts=[name, f"{name}:again"]))
        both = await looker.failing(looker.spec(mounts=[name, f"{name}/part:part"]))
    finally:
        await Storage(client).remove(folder)
        await client.close()

    assert whole == parts == []
    assert twice == both == [("mounts", "t0")]


async def test_a_pipelines_folder_that_was_removed_is_reported(looker: Looker) -> None:
    """Its files are gone: that is for somebody to say yes to, before anything runs."""
    folders = looker.backend.folders
    state = await folders.create(looker.pipeline)
    present = await looker.check(looker.spec())
    client = Client(settings(looker.cluster))
    found = await Storage(client).folder(state.name)
    assert found is not None
    await Storage(client).remove(found)
    await client.close()
    missing = [each for each in await looker.check(looker.spec()) if each.what == "folder"]

    assert ("folder", "ok") in [(each.what, each.verdict) for each in present]
    assert missing[0].verdict == "fail"
    assert "trackbook files create train" in missing[0].hint


async def test_quotas_are_compared(stack: Cluster, tmp_path: Path) -> None:
    """What one task alone may not have would wait for ever; what all may not have at once, some wait for."""
    if stack.newer:
        pytest.skip("the newer manager's seed has no key with a small quota")
    small = KEYS["small"]
    looker = Looker(stack, tmp_path, access_key=small.access, secret_key=small.secret)
    wide = [looker.spec(index) for index in range(4)]
    chain = [
        looker.spec(index, inputs=[SessionInput("j1", f"t{index - 1}", index - 1, 1)]) for index in (1, 2, 3)
    ]
    too_large = await looker.check(looker.spec(resources={"cpu": 4, "mem": 4 << 30}))
    side_by_side = await looker.check(*wide)
    one_by_one = await looker.check(wide[0], *chain)
    await looker.backend.close()

    assert [each.found for each in too_large if each.verdict == "fail"] == [
        "4 cpu are more than the key may use (2 cpu)",
        "4 GiB of memory are more than the key may use (2 GiB of memory)",
    ]
    assert [each.found for each in side_by_side if each.verdict != "ok"] == [
        "tasks side by side ask for 4 cpu, and the key may use 2 cpu",
        "up to 4 tasks run side by side, and the key may have 2 sessions at once",
    ]
    assert [each.verdict for each in one_by_one if each.verdict != "ok"] == []


@pytest.mark.parametrize(
    ("other", "what", "words"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, "endpoint", "can't be reached"),
        ({"secret_key": "wrong"}, "key", "mismatch"),
        ({"access_key": "AKIANOBODY"}, "key", "Access key not found"),
    ],
)
async def test_a_cluster_that_cant_be_asked_is_a_finding(
    stack: Cluster, tmp_path: Path, other: dict[str, Any], what: str, words: str
) -> None:
    """No exception, and no key in the words."""
    looker = Looker(stack, tmp_path, **other)
    found = await looker.check(looker.spec())
    await looker.backend.close()

    assert [(each.what, each.verdict) for each in found] == [(what, "fail")]
    assert words in found[0].found
    assert KEYS[stack.key].secret not in str(found)


async def test_the_folder_quota_of_23_09_is_the_keys(stack: Cluster, tmp_path: Path) -> None:
    """Its policy allows two folders: a third, the pipeline's, could not be made."""
    if stack.newer:
        pytest.skip("newer managers have it in the user's policy")
    small = KEYS["small"]
    looker = Looker(stack, tmp_path, access_key=small.access, secret_key=small.secret)
    client = Client(settings(stack, access_key=small.access, secret_key=small.secret))
    storage = Storage(client)
    before = sum(each.owned and not each.project for each in await storage.folders())
    made = [await storage.ensure(f"quota-{secrets.token_hex(4)}", "") for _ in range(before, 2)]
    found = await looker.check(looker.spec())
    for each in made:
        await storage.remove(each)
    await client.close()
    await looker.backend.close()

    (folder,) = [each for each in found if each.what == "folder"]
    assert folder.verdict == "fail"
    assert "2 are allowed" in folder.found


async def test_a_fault_of_a_service_is_found_once(looker: Looker) -> None:
    """Its session and the service are looked at apart, and what both find is reported once, with the task."""
    specs = [looker.spec(service={"model": "no-such-folder"}), looker.spec(1, service={})]
    failing = await looker.failing(*specs)

    assert sorted(each for each in failing if each[1]) == [("mounts", "t0"), ("service", "t1")]


async def test_what_cannot_be_checked_is_a_warning(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy manager answers check-presets with 500 at times: a run may go well all the same."""

    async def broken(*_: Any) -> Any:
        raise ClusterError("main", "unknown", "internal-server-error", "it broke", status=500)

    monkeypatch.setattr(inventory, "usage", broken)
    found = await looker.check(looker.spec())

    assert [each.found for each in found if each.verdict == "warn"] == [
        "what is left of the limits can't be read, and was not checked: it broke"
    ]
    assert not [each for each in found if each.verdict == "fail"]
