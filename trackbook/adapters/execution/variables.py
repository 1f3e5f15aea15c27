"""The variables that a task's command is given by the system, whichever executor runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trackbook.engine.ports import SessionSpec

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where processes of this machine find programs, after the virtual environment recorded with the job."""


def of(spec: SessionSpec) -> dict[str, str]:
    """Return who the session is: FastTrack's names (`BACKENDAI_PIPELINE_…`), and ours."""
    task_id = f"{spec.job}-{spec.index}"
    return {
        "BACKENDAI_PIPELINE_JOB_ID": spec.job,
        "BACKENDAI_PIPELINE_TASK_ID": task_id,
        "TRACKBOOK_JOB_ID": spec.job,
        "TRACKBOOK_TASK_ID": task_id,
        "TRACKBOOK_TASK": spec.task,
        "TRACKBOOK_ATTEMPT": str(spec.attempt),
        "TRACKBOOK_PIPELINE": spec.pipeline_name,
        "TRACKBOOK_SESSION": spec.session,
    }


def check(environment: Mapping[str, str]) -> None:
    """Raise ValueError for what no process can be given."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} can't be the name of a variable")
        if "\0" in value:
            raise ValueError(f"the variable {name} has a NUL character")
        os.fsencode(name + value)  # half a character can't be passed on
