"""Mistakes that someone could make in the core, one by one: what it is, what stands there, and the mistake."""

from __future__ import annotations

MISTAKES: list[tuple[str, str, str]] = [
    (
        "believes reports of any attempt",
        "if task is None or task.attempt != report.attempt or not task.live:",
        "if task is None or not task.live:",
    ),
    (
        "believes reports of later attempts",
        "task.attempt != report.attempt",
        "task.attempt > report.attempt",
    ),
    (
        "believes reports of earlier attempts",
        "task.attempt != report.attempt",
        "task.attempt < report.attempt",
    ),
    (
        "believes reports on what is over",
        "task.attempt != report.attempt or not task.live:",
        "task.attempt != report.attempt:",
    ),
    ("takes a start for the only life", 'frozenset(("launching", "running"))', 'frozenset(("running",))'),
    (
        "forgets that a session was only launched",
        'frozenset(("launching", "running"))',
        'frozenset(("launching",))',
    ),
    ("keeps no stop in mind", "state.tasks[event.task].stop_requested = True", "pass"),
    (
        "stops nothing",
        "[_stop(task) for task in state.live()] or _conclusion(state)",
        "_conclusion(state)",
    ),
    (
        "stops only what began",
        "[_stop(task) for task in state.live()]",
        '[_stop(task) for task in state.live() if task.status == "running"]',
    ),
    (
        "stops the wrong attempt",
        "facts.TaskStopRequested(task.shape.name, task.attempt)",
        "facts.TaskStopRequested(task.shape.name, task.attempt + 1)",
    ),
    (
        "ends a job while sessions are live",
        "    if state.undone:\n        return []\n    if state.cause",
        "    if state.cause",
    ),
    (
        "ends a failed job at once",
        "case facts.TaskFailed() if not state.ending:\n            return [",
        "case facts.TaskFailed():\n            return [facts.JobFailed(*state.cause), ",
    ),
    ("calls a failed job cancelled", "    if state.cause:\n        return [facts.JobFailed(*state.cause)]\n", ""),
    (
        "calls a cancelled job succeeded",
        "    if state.cancel:\n        return [facts.JobCancelled",
        "    if 0:\n        return [facts.JobCancelled",
    ),
    (
        "goes on after a failure",
        "case facts.TaskFailed() if not state.ending:",
        "case facts.TaskFailed() if False:",
    ),
    (
        "releases what was cancelled",
        'if not task.waiting and task.status == "pending":',
        "if not task.waiting:",
    ),
    ("launches when any dependency is done", "if not task.waiting and", "if"),
    ("counts a dependency twice", "task.waiting -= 1", "task.waiting -= 2"),
    ("counts a task twice", "state.undone -= 1", "state.undone -= 2"),
    ("never counts", "    state.undone -= 1\n", ""),
    ("counts one dependency for all", "waiting=len(dependencies)", "waiting=bool(dependencies)"),
    ("counts dependencies that it never awaits", "waiting=len(dependencies)", "waiting=len(event.tasks)"),
    ("cancels only what is ready", 'if task.status in ("pending", "ready"):', 'if task.status in ("ready",):'),
    (
        "cancels what is live without a word",
        'if task.status in ("pending", "ready"):',
        'if task.status != "succeeded":',
    ),
    (
        "leaves what is ready after a cancel",
        "    state.ready.pop(name, None)\n    state.undone",
        "    state.undone",
    ),
    ("launches again what it launched", "    state.ready.pop(event.task, None)\n", ""),
    ("launches what is to be skipped", "    if task.shape.skip:\n        return facts.TaskSkipped(name)\n", ""),
    ("skips everything", "if task.shape.skip:", "if True:"),
    (
        "never ends a job whose last task is skipped",
        "            facts.JobCreated()\n            | facts.TaskSkipped()\n",
        "            facts.JobCreated()\n",
    ),
    ("forgets the limit of a commit", "len(decision.events) < before + most and ", ""),
    ("counts answers as what is due", "< before + most", "< most"),
    ("takes one thing that is due", "while len(decision.events) < before", "if len(decision.events) < before"),
    ("launches last come first", "for name in state.ready)", "for name in reversed(state.ready))"),
    ("does not count attempts", "attempt = task.attempt + 1", "attempt = 1 + bool(task.index)"),
    ("names sessions alike", 'f"tb-{job}-{index}-{attempt}"', 'f"tb-{job}-{attempt}"'),
    ("names sessions of all jobs alike", 'f"tb-{job}-{index}-{attempt}"', 'f"tb-{index}-{attempt}"'),
    (
        "takes a failure for a success",
        'if report.outcome == "succeeded":',
        'if report.outcome in ("succeeded", "failed"):',
    ),
    ("takes a lost session for a success", 'if report.outcome == "succeeded":', 'if report.outcome != "failed":'),
    (
        "takes a stopped task for failed",
        "    if task.stop_requested:\n        return facts.AttemptCancelled",
        "    if False:\n        return facts.AttemptCancelled",
    ),
    (
        "takes any cancelled session for asked",
        "    if task.stop_requested:",
        '    if task.stop_requested or report.outcome == "cancelled":',
    ),
    (
        "drops a success that raced a stop",
        'if report.outcome == "succeeded":',
        'if report.outcome == "succeeded" and not task.stop_requested:',
    ),
    ("tells a start twice", 'if at is None or task.status == "running":', "if at is None:"),
    (
        "starts a job again and again",
        "case facts.TaskStarted() if not state.began and not state.ending:",
        "case facts.TaskStarted():",
    ),
    (
        "revives a job that is to end",
        "case facts.TaskStarted() if not state.began and not state.ending:",
        "case facts.TaskStarted() if not state.began:",
    ),
    ("lets a job be created twice", "if state.created is not None:", "if state.ended:"),
    ("cancels twice", "return [] if state.ending else [", "return ["),
    ("cancels what has ended", "    if state.ended:\n        raise", "    if False:\n        raise"),
    (
        "launches while it is paused",
        'if state.status in ("pending", "running"):\n        yield',
        'if state.status in ("pending", "running", "paused"):\n        yield',
    ),
    (
        "launches nothing before a session began",
        'if state.status in ("pending", "running"):\n        yield',
        'if state.status == "running":\n        yield',
    ),
    (
        "forgets that it began",
        'state.status = "running" if state.began else "pending"',
        'state.status = "pending"',
    ),
    ("lets a start end a pause", '"paused" if state.status == "paused" else "running"', '"running"'),
    (
        "takes a failure for a cancel",
        "[facts.JobFailing(event.task)]",
        "[facts.JobCancelRequested(event.task)]",
    ),
    (
        "pauses what fails",
        '    if state.status == "failing":\n        raise',
        "    if False:\n        raise",
    ),
    ("pauses what is to end", "    if state.cancel:\n        raise", "    if False:\n        raise"),
    ("pauses twice", 'return [] if state.status == "paused" else [', "return ["),
    (
        "resumes what is not paused",
        'return [facts.JobResumed()] if state.status == "paused" else []',
        "return [facts.JobResumed()]",
    ),
    ("cancels what never was", "    if state.created is None:\n", "    if False:\n"),
    ("keeps the last failure", "task.error and not state.cause:", "task.error:"),
    ("blames what was cancelled", 'status == "failed" and task.error and', "task.error and"),
    ("takes an attempt for live that has ended", "    task.attempt_ended = True\n", ""),
    ("takes a second attempt for ended", "    task.attempt_ended = False\n", ""),
    (
        "ends a task by another end",
        "return facts.TaskCancelled(event.task)",
        "return facts.TaskFailed(event.task)",
    ),
    ("blames the command for everything", "decision, reaction, -(at + 1))", "decision, reaction, given)"),
    ("blames the first event", "decision, reaction, -(at + 1))", "decision, reaction, -1)"),
    (
        "counts causes from the decision",
        "decision, reaction, -(at + 1))",
        "decision, reaction, -(at + 1 - len(decision.events) + len(events)))",
    ),
    (
        "reacts once",
        "    while at < len(decision.events):\n",
        "    for at in range(at, len(decision.events)):\n",
    ),
    (
        "reacts before the decision is whole",
        "        _append(decider, decision, event, given)\n    while",
        "        _append(decider, decision, event, given)\n        break\n    while",
    ),
]

EQUIVALENT: dict[str, str] = {
    "touched: [*state.successors.get(event.task, ()), event.task] reversed": "the names have no order",
    "JobState: 0 -> 1": "`undone` is set by the job's creation, and nothing is concluded before it",
    "JobState: 0 -> -1": "`undone` is set by the job's creation, and nothing is concluded before it",
    "JobState: True -> False": "whether defaults are left out matters where a state is encoded, for its hash",
    "TaskState: False -> True'": "`attempt_ended` is set by each launch, and counts only after one",
    (
        "_end_task: status == 'failed' and task.error and (not state.cause)"
        " -> status == 'failed' and (not state.cause)"
    ): "a task fails when an attempt of it did, which said why",
    "TaskState: True -> False": "whether defaults are left out matters where a state is encoded, for its hash",
}
"""Changes that change nothing one could see, by name, with the reason."""
