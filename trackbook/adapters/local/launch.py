"""Launch a session: plan it and send it to the spawner, which runs a launcher for it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.plan import Planner
from trackbook.adapters.local.spawner import Spawner
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint


def launch(spec: SessionSpec, folder: Path, planner: Planner, spawner: Spawner) -> int:
    """Return the end of the pipe that the launcher writes to.

    Raises SpawnerGone if the spawner can't take it now, ValueError and OSError if the session can't be set up.
    """
    failpoint("executor.launch.before_spawn")
    plan = planner.plan(spec)
    attempt_state.write(folder / "spec.json", msgspec.json.encode(spec))
    listen, speak = os.pipe()
    os.set_blocking(listen, False)
    try:
        spawner.send(folder, speak, plan)
    except BaseException:
        os.close(listen)
        raise
    finally:
        os.close(speak)
    return listen
