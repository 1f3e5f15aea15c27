"""A whole job by a client in another language: Node.js with a NATS client, and no library of ours."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from node import FOLDER, MODULES, missing, node

from trackbook.adapters.nats.asyncapi import document
from trackbook.http.system import running
from trackbook.runtime.commands.requests import REQUESTS, Reply
from trackbook.runtime.system import Config

_EXAMPLE = Path(__file__).parents[2] / "examples" / "node"
_YAML = """\
name: from-node
tasks:
  - name: make
    command: echo 42 > $PIPELINE_OUTPUTS/answer
  - name: tell
    command: grep 42 $PIPELINE_INPUT1/answer
    dependencies: [make]
"""


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """Put the example where the installed packages are found."""
    if trouble := missing():
        pytest.skip(trouble)
    script = shutil.copy(_EXAMPLE / "client.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    return Path(script)


async def test_a_node_client_runs_a_pipeline(client: Path, tmp_path: Path) -> None:
    """It applies, starts and follows a job to its end; the start that it repeats has the same outcome.

    What it gets, and what is reported live meanwhile, is what the AsyncAPI document says.
    """
    (tmp_path / "pipeline.yaml").write_text(_YAML)
    data = tmp_path / "data"
    heard: list[tuple[str, Any]] = []

    async def hear(message: Msg) -> None:
        heard.append((".".join(message.subject.split(".")[1:3]), json.loads(message.data)))

    roles = frozenset(("broker", "engine", "executor"))
    async with running(Config(data=data, roles=roles, durability="fast")) as system:
        await system.base.connection.subscribe("trackbook.live.>", cb=hear)
        said = await asyncio.to_thread(
            node, client, str(data / "nats.json"), str(tmp_path / "pipeline.yaml"), patience=60
        )
        await system.base.connection.flush()
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    replies = [line["reply"] for line in lines if "reply" in line]
    events = [line for line in lines if "type" in line]
    assert [reply["status"] for reply in replies] == ["accepted"] * 3
    assert replies[1] == replies[2]
    types = [event["type"] for event in events]
    assert types[0] == "JobCreated"
    assert types[-1] == "JobSucceeded"
    assert types.count("TaskSucceeded") == 2
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert {event["version"] for event in events} == set(range(1, events[-1]["version"] + 1))
    payloads = [*heard, *(("reply", reply) for reply in replies)]
    assert {kind for kind, _ in payloads} >= {"live.pipeline", "live.name", "live.job", "reply"}
    assert _misfits(payloads) == []


def _misfits(payloads: list[tuple[str, Any]]) -> list[Any]:
    """Return what doesn't fit the AsyncAPI document's schemas."""
    given = {"document": document("trackbook", REQUESTS, Reply), "payloads": payloads}
    checked = json.loads(node(FOLDER / "validate.mjs", given=json.dumps(given)))["checked"]
    assert len(checked) >= len(payloads)
    return [check for check in checked if check["errors"]]


def test_the_example_uses_what_is_tested() -> None:
    """The example's dependencies are among those that the tests install."""
    example = json.loads((_EXAMPLE / "package.json").read_text())["dependencies"]
    tested = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    assert example.items() <= tested.items()
