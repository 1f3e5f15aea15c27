"""Examples for the AsyncAPI document; its tests read each with the type that it is an example of."""

from __future__ import annotations

from typing import Any

YAML = """\
name: two-steps
tasks:
  - name: make
    command: echo 42 > $PIPELINE_OUTPUTS/answer
  - name: tell
    command: cat $PIPELINE_INPUT1/answer
    dependencies: [make]
"""
_PIPELINE = "0197a2d46c0f7d0c9e0f3c1b5a7d8e91"
_JOB = "0197a2d46c0f7d0c9e0f3c1b5a7d8e92"

COMMANDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "pipeline.create": [("empty", {"command_id": "c-1", "name": "two-steps"})],
    "pipeline.apply": [
        ("yaml", {"command_id": "c-2", "yaml": YAML}),
        ("trial", {"yaml": YAML, "dry_run": True}),
    ],
    "pipeline.edit": [
        (
            "rename task",
            {
                "command_id": "c-3",
                "pipeline": "two-steps",
                "expected_version": 1,
                "changes": [{"op": "rename_task", "task": "tell", "name": "show"}],
            },
        )
    ],
    "pipeline.rename": [("rename", {"command_id": "c-4", "pipeline": "two-steps", "name": "answer"})],
    "pipeline.restore": [("restore", {"command_id": "c-5", "pipeline": "answer", "version": 1})],
    "pipeline.delete": [("delete", {"command_id": "c-6", "pipeline": _PIPELINE})],
    "job.start": [
        ("latest", {"command_id": "c-7", "pipeline": "two-steps"}),
        ("version", {"command_id": "c-8", "pipeline": "two-steps", "version": 1, "parameters": {"EPOCHS": "3"}}),
    ],
    "job.check": [
        ("version", {"pipeline": "two-steps", "version": 1, "executor": "backendai/main"}),
        ("text", {"yaml": YAML}),
    ],
    "executor.sweep": [("look", {}), ("end", {"executor": "backendai/main", "end": True})],
    "log.accept-loss": [("all", {"command_id": "c-10"}), ("some", {"evidence": ["0f3c1b5a7d8e"]})],
    "quarantine.release": [("release", {"command_id": "c-11", "kind": "pipeline", "id": _PIPELINE})],
    "job.pause": [("pause", {"command_id": "c-18", "job": _JOB, "reason": "until the night"})],
    "job.resume": [("resume", {"command_id": "c-19", "job": _JOB})],
    "job.cancel": [("cancel", {"command_id": "c-9", "job": _JOB, "reason": "no longer needed"})],
}

REPLIES: list[tuple[str, dict[str, Any]]] = [
    (
        "accepted",
        {
            "command_id": "c-7",
            "status": "accepted",
            "seq": 41,
            "pipeline": _PIPELINE,
            "name": "two-steps",
            "version": 1,
            "job": _JOB,
        },
    ),
    (
        "rejected",
        {
            "command_id": "c-2",
            "status": "rejected",
            "error": {
                "code": "unknown_dependency",
                "message": "task tell depends on mak, and there is no such task",
                "path": "tasks[1].dependencies[0]",
                "line": 7,
                "column": 20,
                "hint": "Did you mean make?",
            },
        },
    ),
    (
        "unknown",
        {
            "command_id": "c-3",
            "status": "unknown",
            "error": {
                "code": "outcome_unknown",
                "message": "the command has no outcome yet, and may be carried out later",
                "hint": "Send it again with the same command_id.",
            },
        },
    ),
    (
        "checked",
        {
            "command_id": "c-10",
            "status": "accepted",
            "pipeline": _PIPELINE,
            "name": "two-steps",
            "version": 1,
            "ok": False,
            "findings": [
                {
                    "what": "slots",
                    "found": "the cluster has no cuda.shares, which task make asks for",
                    "verdict": "fail",
                    "hint": "It has cpu, mem, cuda.device.",
                    "task": "make",
                    "executor": "backendai/main",
                }
            ],
        },
    ),
]

COMMIT: dict[str, Any] = {
    "schema": 1,
    "kind": "job",
    "id": _JOB,
    "version": 2,
    "at": "2026-01-05T09:30:00.000125Z",
    "prev": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "inputs": [
        {
            "actor": "executor:local",
            "command": {
                "type": "ReportTaskEnded",
                "task": "make",
                "attempt": 1,
                "outcome": "succeeded",
                "ended_at": "2026-01-05T09:30:00Z",
                "exit_code": 0,
            },
        },
        {"actor": "engine", "command": None},
    ],
    "events": [
        {"type": "AttemptSucceeded", "task": "make", "attempt": 1, "at": "2026-01-05T09:30:00Z"},
        {"type": "TaskSucceeded", "task": "make"},
        {"type": "TaskLaunchRequested", "task": "tell", "attempt": 1, "session": f"tb-{_JOB}-1-1"},
    ],
    "causes": [0, -1, 1],
}
