"""Pipelines whose commands write a ledger of what they do, in their pipeline's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEDGER = Path("/pipeline/vfroot/ledger")
RESOURCES = {"cpu": 1, "mem": "128m"}
_COMMAND = """\
say() { echo "$TRACKBOOK_JOB_ID $TRACKBOOK_TASK $TRACKBOOK_ATTEMPT $1 ${EPOCHREALTIME/[.,]/}000" >> LEDGER; }
say start
for number in $(seq INPUTS); do
  [ -s "/pipeline/input$number/name" ] || exit 8
done
echo "$TRACKBOOK_TASK" > /pipeline/outputs/name
BODY
say end
exit STATUS
"""
WAITS = "while ! [ -e /pipeline/vfroot/go ]; do sleep 0.1; done"
"""Waits until the test lets it go on."""
FOR_EVER = "while :; do sleep 1; done"


def task(
    name: str, *needs: str, body: str = ":", status: int = 0, faults: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a task that says when it starts and ends; its session asks the cluster for `faults`."""
    command = _COMMAND.replace("LEDGER", str(LEDGER)).replace("INPUTS", str(len(needs)))
    command = command.replace("BODY", body).replace("STATUS", str(status))
    made: dict[str, Any] = {"name": name, "command": command, "resources": RESOURCES, **more}
    if needs:
        made["dependencies"] = list(needs)
    if faults:
        made["environment"] = {"envs": faults}
    return made


def pipeline(name: str, tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a pipeline."""
    return {"name": name, "tasks": list(tasks)}


def chain(*names: str, body: str = ":") -> list[dict[str, Any]]:
    """Return tasks that run one after the other."""
    return [task(name, *names[max(0, place - 1) : place], body=body) for place, name in enumerate(names)]
