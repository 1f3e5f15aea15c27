"""The roles in processes of their own start in any order."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from trackbook.http.system import running
from trackbook.runtime.system import Config


async def test_the_web_role_may_start_before_any_engine_has_made_the_streams(tmp_path: Path) -> None:
    """Its health says what is missing, and it goes on by itself once an engine has come."""
    common = {"data": tmp_path, "durability": "fast", "http": "127.0.0.1:0"}
    async with (
        running(Config(roles=frozenset({"broker"}), **common)),  # type: ignore[arg-type]
        running(Config(roles=frozenset({"web"}), **common)) as web,  # type: ignore[arg-type]
    ):
        before = await _health(web.url)
        unknown = await _json(f"{web.url}/api/executors", web.base.token)
        async with running(Config(roles=frozenset({"engine", "executor"}), **common)):  # type: ignore[arg-type]
            async with asyncio.timeout(60):
                while (await _health(web.url))["status"] == "not ready":  # noqa: ASYNC110 - health has to be polled
                    await asyncio.sleep(0.05)
                while "items" not in (executors := await _json(f"{web.url}/api/executors", web.base.token)):  # noqa: ASYNC110 - so too
                    await asyncio.sleep(0.05)

    assert before["status"] == "not ready"
    assert before["problems"]
    assert unknown["error"]["code"] == "executor_unavailable"
    assert "local" in [each["name"] for each in executors["items"]]


async def test_an_executor_in_a_process_of_its_own_fetches_the_code(tmp_path: Path) -> None:
    """A task starts in the code of its pipeline also where its executor has nothing but the broker's address."""
    common = {"data": tmp_path, "durability": "fast", "http": "127.0.0.1:0"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("here"))
    async with (
        running(Config(roles=frozenset({"broker", "engine"}), **common)) as system,  # type: ignore[arg-type]
        running(Config(roles=frozenset({"executor"}), **common)),  # type: ignore[arg-type]
    ):
        engine = system.engine
        assert engine is not None
        tasks = [{"name": "a", "command": "test -f here"}]
        sha256 = await engine.aggregates.blobs.put(file.getvalue())
        definition = {"name": "p", "code": ".", "code_sha256": sha256, "tasks": tasks}
        await engine.gateway.handle("pipeline", "apply", json.dumps({"definition": definition}).encode(), "t")
        job = await engine.gateway.handle("job", "start", b'{"pipeline": "p"}', "t")
        async with asyncio.timeout(60):
            await engine.jobs.all_ended()
        state = (await engine.jobs.state(job["job"])).state

    assert [task.status for task in state.tasks.values()] == ["succeeded"]


async def test_the_system_of_a_command_that_lasts_takes_commands_over_nats(tmp_path: Path) -> None:
    """A NATS client can cancel the job of a `trackbook run` as on a server, once it has lasted a while."""
    async with running(Config(data=tmp_path, durability="fast", http="127.0.0.1:0", for_command=True)) as system:
        reply: dict[str, Any] = {}
        async with asyncio.timeout(60):
            while not reply:
                try:
                    answer = await system.base.connection.request("trackbook.cmd.job.cancel", b'{"job": "0"}')
                    reply = json.loads(answer.data)
                except (NoRespondersError, NatsTimeoutError):
                    await asyncio.sleep(0.05)

    assert reply["error"]["code"] == "job_not_found"


async def _health(url: str) -> dict[str, Any]:
    return await _json(f"{url}/health/ready")


async def _json(url: str, token: str = "") -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})

    def ask() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))

    return await asyncio.to_thread(ask)
