"""Random pipelines whose tasks write a ledger of what they do, and fail where an input is not what it must be."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Literal

Kind = Literal["plain", "failing", "cancelled"]

_COMMAND = """\
say() { echo "$TRACKBOOK_JOB_ID $TRACKBOOK_TASK $TRACKBOOK_ATTEMPT $1 ${EPOCHREALTIME/[.,]/}000" >> "$LEDGER"; }
say start
number=0
for expected in $EXPECTED; do
  number=$((number + 1)) input=PIPELINE_INPUT$number got=
  if [ "$expected" = - ]; then
    ! [ -e "${!input}/name" ] || exit 8
  else
    read -r got < "${!input}/name"
    [ "$got" = "$expected" ] || exit 9
  fi
done
echo "$TRACKBOOK_TASK" > "$PIPELINE_OUTPUTS/name"
sleep "$SECONDS_LONG"
say end
exit "$STATUS"
"""
LARGE = 0.15
"""The share of pipelines whose commits and definitions are too large for one message."""

FAILURE = 3
"""The exit code of the task that fails in a failing pipeline."""


def pipeline(name: str, kind: Kind, ledger: Path, random: Random) -> dict[str, Any]:
    """Return a pipeline of 12 to 20 tasks: a root, a fan-out, random paths with skipped tasks, and a fan-in."""
    size = random.randint(12, 20)
    names = [f"t{number:02}" for number in range(size)]
    skipped = {name for name in names[1:-1] if random.random() < 0.12}
    wide = random.randint(3, 6)
    dependencies: dict[str, list[str]] = {names[0]: []}
    for place, task in enumerate(names[1:-1], 1):
        near = names[max(0, place - 5) : place]
        dependencies[task] = (
            [names[0]] if place <= wide else random.sample(near, random.randint(1, min(3, place)))
        )
    needed = {task for needs in dependencies.values() for task in needs}
    dependencies[names[-1]] = [task for task in names[:-1] if task not in needed]
    failing = random.choice(names[1 : wide + 1]) if kind == "failing" else ""
    skipped -= {failing}
    tasks = [
        _task(task, dependencies[task], skipped, random, FAILURE if task == failing else 0) for task in names
    ]
    document = {"name": name, "environment": {"envs": {"LEDGER": str(ledger)}}, "tasks": tasks}
    if random.random() < LARGE:
        document["notes"] = [random.randbytes(5_000).hex() for _ in range(34)]
    return document


def _task(name: str, needs: list[str], skipped: set[str], random: Random, status: int) -> dict[str, Any]:
    variables = {
        "EXPECTED": " ".join("-" if need in skipped else need for need in needs),
        "SECONDS_LONG": f"{random.uniform(0.02, 0.08):.3f}",
        "STATUS": str(status),
    }
    task: dict[str, Any] = {"name": name, "command": _COMMAND, "environment": {"envs": variables}}
    if needs:
        task["dependencies"] = needs
    if name in skipped:
        task["skip"] = True
    return task
