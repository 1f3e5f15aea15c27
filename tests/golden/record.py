"""Records histories for tests/golden: `python tests/golden/record.py NAME` writes NAME.jsonl from a fresh system.

A history that was recorded is never recorded again: what was stored must be read and decided the same for ever.
One line a commit: its subject's kind and id, and the message exactly as stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from trackbook.runtime.app import System, running
from trackbook.runtime.system import ROLES, Config

STORY = """\
name: story
description: what a history should have seen
environment: {envs: {COLOUR: red}}
tasks:
- {name: a, command: 'echo a > "$PIPELINE_OUTPUTS/a"'}
- {name: b, command: 'cat "$PIPELINE_INPUT1/a"', dependencies: [a]}
- {name: c, command: echo c, dependencies: [a], skip: true}
- {name: d, command: sleep 0.2, dependencies: [b, c]}
"""
FAILING = """\
name: failing
tasks:
- {name: slow, command: sleep 60}
- {name: bad, command: 'echo no >&2; exit 3'}
- {name: never, command: echo x, dependencies: [slow]}
"""


async def record() -> list[dict[str, Any]]:
    """Return a history: edits of every kind, jobs that succeed, fail, and are paused or cancelled."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data=Path(folder), roles=ROLES - {"web"})
        async with running(config) as system:
            await _edits(system)
            await _jobs(system)
            assert system.engine is not None
            return [
                {"kind": stored.kind, "id": stored.id, "data": stored.data.decode()}
                async for batch in system.engine.aggregates.store.read_all(1)
                for stored in batch
            ]


async def _ask(system: System, command: str, **payload: Any) -> dict[str, Any]:
    assert system.engine is not None
    kind, verb = command.split(".")
    return await system.engine.gateway.handle(kind, verb, json.dumps(payload).encode(), "user:ann")


async def _edits(system: System) -> None:
    await _ask(system, "pipeline.apply", yaml=STORY)
    changes: list[dict[str, Any]] = [
        {"op": "add_task", "task": {"name": "e", "command": "echo e", "dependencies": ["d"]}},
        {"op": "change_task", "task": "d", "set": {"resources.cpu": 2}},
        {"op": "rename_task", "task": "b", "name": "bee"},
        {"op": "remove_dependency", "task": "d", "dependency": "c"},
        {"op": "set_variable", "variable": "SIZE", "value": "3"},
        {"op": "unset_variable", "variable": "COLOUR"},
        {"op": "move_task", "task": "c"},
        {"op": "set_setting", "path": "note", "value": "changed"},
        {"op": "unset_setting", "path": "description"},
    ]
    await _ask(system, "pipeline.edit", pipeline="story", changes=changes)
    await _ask(system, "pipeline.rename", pipeline="story", name="tale")
    await _ask(system, "pipeline.edit", pipeline="tale", changes=[{"op": "remove_task", "task": "e"}])
    await _ask(system, "pipeline.restore", pipeline="tale", version=1)
    await _ask(system, "pipeline.rename", pipeline="nothing", name="x")
    await _ask(system, "pipeline.create", name="brief")
    await _ask(system, "pipeline.delete", pipeline="brief")
    await _ask(system, "pipeline.apply", yaml=FAILING)


async def _jobs(system: System) -> None:
    assert system.engine is not None
    await _ask(system, "job.start", pipeline="story", parameters={"COLOUR": "green"})
    await _ask(system, "job.start", pipeline="failing")
    paused = await _ask(system, "job.start", pipeline="story")
    await _ask(system, "job.pause", job=paused["job"], reason="at night")
    await _ask(system, "job.resume", job=paused["job"])
    await system.engine.jobs.all_ended()
    slow = await _ask(system, "job.start", pipeline="failing", parameters={"X": "1"})
    await _ask(system, "job.cancel", job=slow["job"], reason="changed my mind")
    await system.engine.jobs.all_ended()


if __name__ == "__main__":
    target = Path(__file__).parent / f"{sys.argv[1]}.jsonl"
    if target.exists():
        sys.exit(f"{target} was recorded before; histories are not changed")
    target.write_text("".join(json.dumps(line) + "\n" for line in asyncio.run(record())))
