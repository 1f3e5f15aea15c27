"""Jobs as large as users have them: more records and outputs than the storage proxy lists.

TRACKBOOK_LONG_TESTS=1 runs them at full length.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.stack.config import SCANDIR_LIMIT
from backendai.worlds import ClusterWorld, settings, spec
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.session import wrapper
from trackbook.adapters.execution import folders
from trackbook.engine.ports import CutListing, NoSuchFile

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
from command_line import CommandLine

LONG = os.environ.get("TRACKBOOK_LONG_TESTS", "") not in ("", "0")
TIMEOUT, RUNTIME, BEAT = (60, 180, 10) if LONG else (20, 40, 2)
"""Seconds of silence after which a session counts as lost, of a task's run, and between two heartbeats."""
FILES = 1500 if LONG else 60
BRIEF, LASTING = (50, 10) if LONG else (8, 2)
"""Tasks that end at once, and tasks that run on."""


@pytest.fixture
async def world(stack: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterWorld]:
    """Give a world on the manager, with heartbeats in proportion."""
    script = wrapper._SCRIPT.replace(f"sleep {wrapper.BEAT} &", f"sleep {BEAT} &")
    monkeypatch.setattr(wrapper, "_SCRIPT", script)
    made = ClusterWorld(stack, tmp_path, unreachable_timeout=float(TIMEOUT), poll_interval=1.0)
    yield made
    await made.close()


async def test_no_task_is_lost_because_a_listing_was_cut(world: ClusterWorld) -> None:
    """Tasks run on for longer than silence is allowed while their heartbeats are in no listing, and succeed."""
    executor = await world.open()
    brief = [f"b{number}" for number in range(BRIEF)]
    lasting = [f"l{number}" for number in range(LASTING)]
    assert 4 * len(brief) > SCANDIR_LIMIT  # each leaves a claim, a heartbeat, a log and an exit record
    for name in brief:
        await executor.launch(spec(name, "true"))
    for name in brief:
        assert (await world.reports.ended(name)).outcome == "succeeded"
    for name in lasting:
        await executor.launch(spec(name, f"sleep {RUNTIME}; echo done"))
    world.reports.patience += RUNTIME
    for name in lasting:
        end = await world.reports.ended(name)
        assert (end.outcome, end.message, end.exit_code) == ("succeeded", "", 0)
        assert world.log(name) == "done\n"


async def test_variables_arrive_as_they_are(world: ClusterWorld) -> None:
    """Line breaks, blanks, `=` and emptiness reach the command, though an agent has one line for a variable."""
    values = {
        "A_FIRST": "1",
        "KEY": "-----BEGIN KEY-----\nMIIB=\n\n-----END KEY-----\n",
        "OTHERS": 'tab\t, \\n as it is, it\'s "$HOME"\r\nnext\u2028line',
        "NOTHING": "",
        "Z_LAST": "a = b",
    }
    executor = await world.open()
    shown = "".join(f'printf "%s|" "${{{name}-unset}}"; ' for name in values)
    await executor.launch(replace(spec("vars", shown), variables=values))

    assert (await world.reports.ended("vars")).outcome == "succeeded"
    log = (folders.log_file(world.folder, spec("vars", "").session)).read_bytes().decode()
    assert log.split("|") == [*values.values(), ""]


async def test_no_file_is_missing_because_a_listing_was_cut(world: ClusterWorld) -> None:
    """A list that the storage has cut says so; each file can be looked at, read and replaced all the same."""
    cluster = settings(world.cluster, listing_limit=SCANDIR_LIMIT)
    client = Client(cluster)
    files = ClusterFolders(Storage(client), world.folder, world.installation)
    names = [f"f{number:04}" for number in range(FILES)]
    executor = await world.open()
    made = "mkdir d && cd d && for name in " + " ".join(names) + "; do echo $name >$name; done; mkdir sub"
    await executor.launch(spec("many", f"cd /pipeline/vfroot && {made}"))
    assert (await world.reports.ended("many")).outcome == "succeeded"
    try:
        listed = await files.entries("p1", "vfroot/d")
        assert isinstance(listed, CutListing)
        assert len(listed) == SCANDIR_LIMIT
        assert not isinstance(await files.entries("p1", "vfroot"), CutListing)
        for name in (*names[:3], *names[-3:]):
            assert (await files.stat("p1", f"vfroot/d/{name}")).size == len(name) + 1
            read = b"".join([chunk async for chunk in files.read("p1", f"vfroot/d/{name}")])
            assert read == f"{name}\n".encode()
        assert (await files.stat("p1", "vfroot/d/sub")).type == "folder"
        await files.delete("p1", f"vfroot/d/{names[-1]}")
        with pytest.raises(NoSuchFile):
            await files.stat("p1", f"vfroot/d/{names[-1]}")
    finally:
        await files.purge("p1")
        await client.close()


PIPELINE = """\
name: real use
environment:
  envs: {EMPTY: "", LINES: "one\\ntwo=2\\n\\nfour"}
mounts: [MOUNTED]
tasks:
- name: make
  command: |
    [ "${EMPTY-unset}" = "" ] && [ "$(printf '%s\\n' "$LINES" | wc -l)" = 4 ] || exit 3
    i=0
    while [ $i -lt COUNT ]; do cp /home/work/MOUNTED/seed /pipeline/outputs/$i; i=$((i + 1)); done
  resources: {cpu: 1, mem: 128m}
- name: count
  command: ls /pipeline/input1 | wc -l > /pipeline/outputs/count; cat /pipeline/input1/0
  dependencies: [make]
  resources: {cpu: 1, mem: 128m}
"""


def test_a_pipeline_as_users_write_it(stack: Cluster, tmp_path: Path) -> None:
    """Plain mounts, variables with line breaks and without a value, and many outputs: the job runs whole."""
    line = CommandLine(tmp_path)
    key = stack.keys[stack.key]
    line.environment |= {
        "TRACKBOOK_BACKENDAI_ENDPOINT": stack.endpoint,
        "TRACKBOOK_BACKENDAI_ACCESS_KEY": key.access,
        "TRACKBOOK_BACKENDAI_SECRET_KEY": key.secret,
        "TRACKBOOK_BACKENDAI_IMAGE": stack.image,
        "TRACKBOOK_BACKENDAI_LISTING_LIMIT": str(SCANDIR_LIMIT),
        "TRACKBOOK_EXECUTOR": "backendai/main",
    }
    mounted = asyncio.run(_seeded(stack))
    text = PIPELINE.replace("MOUNTED", mounted).replace("COUNT", str(FILES))
    (tmp_path / "real-use.yaml").write_text(text)
    try:
        line("run", "real-use.yaml")
        outputs = ("--job", line.json("job", "list")[0]["id"], "--task")
        last = line("files", "cat", str(FILES - 1), *outputs, "make")
        count = line("files", "cat", "count", *outputs, "count")
        _, warning = line.both("files", "list", *outputs, "make")
        line("files", "get", ".", "got", *outputs, "make")
        line("files", "get", ".", "got", *outputs, "make")
        line("pipeline", "delete", "real use", "--purge", "--yes")
    finally:
        asyncio.run(_removed(stack, mounted))

    assert (last, count.strip()) == ("a seed\n", str(FILES))
    assert "may be incomplete" in warning
    assert len(list((tmp_path / "got").iterdir())) == FILES


async def _seeded(stack: Cluster) -> str:
    """Make a folder of the user's own with a file in it, and return its name."""
    storage = Storage(Client(settings(stack)))
    name = f"seed-{secrets.token_hex(4)}"
    await storage.ensure(name)
    await storage.write_small(name, "seed", b"a seed\n")
    await storage.client.close()
    return name


async def _removed(stack: Cluster, name: str) -> None:
    storage = Storage(Client(settings(stack)))
    folder = await storage.folder(name)
    assert folder
    await storage.remove(folder)
    await storage.client.close()
