"""Serving tasks on real managers: services made, brought up to date, stopped, failed, taken down with their job.

On 26.8 the app proxy is the release's own; on 23.09 a stand-in, since none of its time can be had: there no
request goes through a service's address. The model is a web server of the standard library, in sandboxes.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.stack.proxy import point, proxied
from backendai.worlds import ClusterWorld
from trackbook.adapters.backendai.api import service_calls
from trackbook.adapters.backendai.api.service_calls import Service
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.backend import BackendAIBackend
from trackbook.adapters.execution import folders
from trackbook.engine.job import ReportTaskEnded, ReportTaskStatus
from trackbook.engine.ports import ExecutorUnavailable, Owned, SessionSpec

LONG = 900.0
"""26.8 takes four minutes until a service is healthy: it looks at most things once a minute."""
DEFINITION = """\
models:
- name: pages
  model_path: /models
  service:
    start_command: [python3, -m, http.server, "8000", --bind, 127.0.0.1, --directory, /models]
    port: 8000
    health_check:
      path: {path}
      max_retries: {tries}
      max_wait_time: 1
"""
NEWER = "      enable: true\n      interval: 1\n      initial_delay: 20\n"


@pytest.fixture(scope="module")
def serving(stack: Cluster) -> Iterator[Cluster]:
    """Give a manager whose scaling group has an app proxy."""
    with proxied(stack.own):
        yield stack


class ServiceWorld(ClusterWorld):
    """A world with a backend beside its executors, a model's folder, and specifications of one task."""

    def __init__(self, cluster: Cluster, folder: Path, **other: Any) -> None:
        super().__init__(cluster, folder, **{"poll_interval": 1.0, "stop_timeout": 90.0} | other)
        self.reports.patience = LONG
        self.cluster = cluster
        self.backend = BackendAIBackend("backendai/main", self.settings, folder, self.installation)
        self.connection = self.backend._connection
        self.model = f"model-{self.installation}"

    async def made(self, path: str = "/model-definition.yml", tries: int = 30, usage: str = "model") -> str:
        """Make the model's folder; return its name."""
        await self.connection.client.request("POST", "/folders", body={"name": self.model, "usage_mode": usage})
        text = DEFINITION.format(path=path, tries=tries) + (NEWER if self.cluster.newer else "")
        storage = Storage(self.connection.client)
        for name in ("model-definition.yml", "model-definition.yaml"):
            await storage.write_small(self.model, name, text.encode())
        return self.model

    def spec(self, job: str, variables: dict[str, str] | None = None, **service: Any) -> SessionSpec:
        """Return a run of the one pipeline's serving task."""
        return SessionSpec(
            session=f"tb-{job}-0-1",
            job=job,
            pipeline="p1",
            pipeline_name="pages",
            task="serve",
            index=0,
            attempt=1,
            command="",
            variables=variables or {},
            resources={"cpu": 1, "mem": 128 * 2**20},
            service={"model": self.model, **service},
        )

    async def run(self, spec: SessionSpec) -> ReportTaskEnded:
        """Launch it and wait for its end."""
        executor = await self.open()
        count = len(self.reports.of("serve", ReportTaskEnded))
        await executor.launch(spec)
        return await self.reports.ended("serve", count + 1)

    async def services(self) -> list[Service]:
        """Return this installation's services."""
        found = await service_calls.list_services(self.connection.client, await self.connection.version())
        return [
            each for each in found if each.variables.get("TRACKBOOK_SERVICE", "").startswith(self.installation)
        ]

    async def close(self) -> None:
        """Take the services down too, and remove the pipeline's folder."""
        await super().close()
        await self.backend.folders.purge("p1")
        try:
            for service in await self.services():
                await self.backend._services._end(await self.connection.version(), [service])
        finally:
            await self.backend.close()


@pytest.fixture
async def world(serving: Cluster, tmp_path: Path) -> AsyncIterator[ServiceWorld]:
    """Give a world where models can be served."""
    made = ServiceWorld(serving, tmp_path)
    yield made
    await made.close()


async def test_a_service_is_made_and_its_address_is_reported(world: ServiceWorld) -> None:
    """The task has succeeded once the replicas are healthy; another run replaces what it runs, not its name."""
    await world.made()
    limits = {"max_surge": 1, "max_unavailable": 0} if world.cluster.newer else {}
    first = world.spec("job1", {"GREETING": "hello"}, open_to_public=True)
    ended = await world.run(first)
    assert (ended.outcome, ended.message) == ("succeeded", "")
    assert ended.started_at
    assert set(ended.service) == {"url", "service", "id"}
    (service,) = await world.services()
    assert (service.name, service.id, service.url) == (
        ended.service["service"],
        ended.service["id"],
        ended.service["url"],
    )
    assert service.variables["GREETING"] == "hello"
    assert service.variables["BACKENDAI_PIPELINE_JOB_ID"] == "job1"
    if world.cluster.newer:
        assert "pages" in await _page(f"{service.url}model-definition.yml")
    written = world.backend.folders.read("p1", "jobs/job1/0-serve/1/outputs/service.json")
    assert json.loads(b"".join([chunk async for chunk in written])) == ended.service
    assert "model-definition.yml" in folders.log_file(world.folder, first.session).read_text()
    reported = [each.status for each in world.reports.of("serve", ReportTaskStatus)]  # type: ignore[union-attr]
    assert "PREPARING" in reported

    again = await world.run(first)
    assert again.service == ended.service, "a session that has ended is reported again, and nothing is made"

    second = await world.run(world.spec("job2", {"GREETING": "good day"}, replicas=2, **limits))
    assert (second.outcome, second.message) == ("succeeded", "")
    (after,) = await world.services()
    assert (after.name, after.replicas, sum(route.healthy for route in after.routes)) == (service.name, 2, 2)
    assert (after.variables["GREETING"], after.public) == ("good day", False)
    if world.cluster.newer:
        assert (after.id, after.url) == (service.id, service.url)


async def test_an_older_manager_is_led_through_a_change(world: ServiceWorld) -> None:
    """23.09 rolls nothing out: image and number change in place all the same, and a stop sets that back."""
    if world.cluster.newer:
        pytest.skip("26.8 rolls out by itself")
    await world.made()
    made = await world.run(world.spec("job1", replicas=2))
    (before,) = await world.services()
    other = f"{world.cluster.image}-cuda11.8"
    changed = await world.run(replace(world.spec("job2"), image=other))
    assert (changed.outcome, changed.message) == ("succeeded", "")
    assert changed.service == made.service
    (after,) = await world.services()
    assert (after.image, after.replicas, len(after.routes)) == (other, 1, 1)
    assert not {route.session for route in after.routes} & {route.session for route in before.routes}

    third = world.spec("job3", replicas=3)
    executor = await world.open()
    await executor.launch(third)
    await world.reports.started("serve", 3)
    await executor.stop(third)
    assert (await world.reports.ended("serve", 3)).outcome == "cancelled"
    (left,) = await world.services()
    assert (left.id, left.image, left.replicas) == (after.id, other, 1)


async def test_an_ephemeral_service_ends_with_its_job(world: ServiceWorld) -> None:
    """Release takes down the services of the job that has ended, and no others."""
    await world.made()
    ended = await world.run(world.spec("job1", name=f"own-{world.installation}", ephemeral="true"))
    assert ended.outcome == "succeeded", ended.message
    assert ended.service["service"] == f"own-{world.installation}"
    await world.backend.release("job2")
    assert len(await world.services()) == 1
    await _released(world, "job1")
    assert await world.services() == []
    await world.backend.release("job1")


async def test_the_sweep_takes_down_what_a_crash_left(world: ServiceWorld) -> None:
    """An ephemeral service whose job is not open is found; one whose session is live, and a kept one, aren't."""
    await world.made()
    if world.cluster.newer:
        pytest.skip("the same on 23.09, in minutes less")
    await world.run(world.spec("job1", name=f"kept-{world.installation}"))
    await world.run(world.spec("job2", ephemeral=True))

    async def live() -> Owned:
        return Owned({"tb-job2-0-1"})

    async def none() -> Owned:
        return Owned(set())

    assert await world.backend.sweep(live, end=True) == []
    (found,) = await world.backend.sweep(none, end=False)
    assert (found.verdict, "job job2" in found.found) == ("warn", True)
    assert len(await world.services()) == 2
    await world.backend.sweep(none, end=True)
    assert [each.name for each in await world.services()] == [f"kept-{world.installation}"]


async def test_a_stopped_task_leaves_no_service(world: ServiceWorld) -> None:
    """Stopped before it is healthy: service and replicas are gone when that is reported."""
    await world.made()
    executor = await world.open()
    spec = world.spec("job1", {"SIM_START_DELAY": "60"})
    await executor.launch(spec)
    await world.reports.started("serve")
    await executor.stop(spec)
    ended = await world.reports.ended("serve")
    assert (ended.outcome, ended.service) == ("cancelled", {})
    assert await world.services() == []
    await executor.launch(spec)
    assert (await world.reports.ended("serve", 2)).outcome == "cancelled"
    assert await world.services() == []


async def test_a_service_whose_replicas_fail_is_taken_down(world: ServiceWorld) -> None:
    """The cause is in the manager's words."""
    await world.made()
    if world.cluster.newer:
        pytest.skip("26.8 takes more than two minutes for each try")
    ended = await world.run(world.spec("job1", {"SIM_START_FAIL": "1"}))
    assert (ended.outcome, ended.fault) == ("failed", "infrastructure")
    assert "simulated failure to create the container" in ended.message
    assert await world.services() == []


async def test_a_model_that_is_not_healthy_fails(world: ServiceWorld) -> None:
    """What its replica has written ends the report."""
    await world.made(path="/nothing-here", tries=2)
    if world.cluster.newer:
        pytest.skip("26.8 takes more than two minutes for each try")
    ended = await world.run(world.spec("job1"))
    assert ended.outcome == "failed"
    assert "health check" in ended.message
    assert "/nothing-here" in ended.tail
    assert await world.services() == []


async def test_a_deadline_ends_the_waiting(serving: Cluster, tmp_path: Path) -> None:
    """A service that isn't healthy in time fails with what it last did."""
    world = ServiceWorld(serving, tmp_path, service_timeout=4.0)
    await world.made()
    ended = await world.run(world.spec("job1", {"SIM_START_DELAY": "8"}))
    assert ended.outcome == "failed"
    assert "service_timeout" in ended.message
    assert await world.services() == []
    await world.close()


async def test_a_crash_is_followed_by_adoption(world: ServiceWorld) -> None:
    """Another executor, with or without the first one's notes, goes on with the service that was begun."""
    await world.made()
    spec = world.spec("job1", {"SIM_START_DELAY": "3"})
    first = await world.open()
    await first.launch(spec)
    await world.reports.started("serve")
    await first.close()
    (begun,) = await world.services()
    for note in folders.session_folder(world.folder, spec.session).iterdir():
        note.unlink()
    ended = await world.run(spec)
    assert (ended.outcome, ended.service["id"]) == ("succeeded", begun.id)
    assert len(await world.services()) == 1


async def test_another_ones_service_is_left_alone(world: ServiceWorld, tmp_path: Path) -> None:
    """A name that somebody else's service has is refused; what is there is not touched."""
    await world.made()
    other = ServiceWorld(world.cluster, tmp_path / "other", service_timeout=600.0)
    other.model = world.model
    name = f"same-{world.installation}"
    executor = await other.open()
    await executor.launch(other.spec("job1", name=name))
    await other.reports.started("serve")
    ended = await world.run(world.spec("job2", name=name))
    assert (ended.outcome, ended.fault) == ("failed", "permanent")
    assert "did not make" in ended.message
    assert len(await other.services()) == 1
    await other.close()


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"model": "no-such-folder"}, "there is no folder 'no-such-folder'"),
        ({"runtime_variant": "vllm"}, "vllm"),
        ({"replicas": 99}, "Cannot spawn more than 10 sessions"),
    ],
)
async def test_what_can_not_be_made_fails_at_once(
    world: ServiceWorld, service: dict[str, Any], words: str
) -> None:
    """Refused for good, in words."""
    await world.made()
    ended = await world.run(world.spec("job1", **service))
    assert (ended.outcome, ended.fault) == ("failed", "permanent")
    assert words in ended.message
    assert await world.services() == []


async def test_a_folder_for_other_use_is_no_model(world: ServiceWorld) -> None:
    """The usage mode must be `model`."""
    await world.made(usage="general")
    ended = await world.run(world.spec("job1"))
    assert (ended.outcome, ended.fault) == ("failed", "permanent")
    assert "usage mode `model`" in ended.message


async def test_limits_of_the_version(world: ServiceWorld) -> None:
    """What a version lacks is refused, before the job where the version is known by then."""
    await world.made()
    if world.cluster.newer:
        pytest.skip("26.8 lacks nothing of it")
    spec = world.spec("job1", max_surge=1, model_definition_path="other.yml")
    ended = await world.run(replace(spec, mounts=["data"]))
    assert (ended.outcome, ended.fault) == ("failed", "permanent")
    for words in ("model-definition.yml", "mounts"):
        assert words in ended.message


async def test_without_an_app_proxy(serving: Cluster, tmp_path: Path) -> None:
    """The failure names what the scaling group lacks."""
    if serving.newer:
        pytest.skip("26.8 takes the service, and gives it up after its own time")
    world = ServiceWorld(serving, tmp_path)
    await world.made()
    port = serving.own.settings.port("proxy")
    point(serving.own, "null", "null")
    try:
        ended = await world.run(world.spec("job1"))
    finally:
        point(serving.own, f"'http://127.0.0.1:{port}'", "'sim-app-proxy-token'")
    assert (ended.outcome, ended.fault) == ("failed", "operator")
    assert "app proxy" in ended.message
    await world.close()


async def _page(url: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


async def _released(world: ServiceWorld, job: str) -> None:
    """Release a job as the engine does: until it is done."""
    while True:
        try:
            return await world.backend.release(job)
        except ExecutorUnavailable:
            continue
