"""Mistakes that someone could make in the core, one by one: what it is, what stands there, and the mistake."""

from __future__ import annotations

MISTAKES: list[tuple[str, str, str]] = [
    (
        "believes reports of any attempt",
        "if task is None or task.attempt != report.attempt or task.status not in LIVE:",
        "if task is None or task.status not in LIVE:",
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
        "task.attempt != report.attempt or task.status not in LIVE:",
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
        "[_stop(task) for task in state.outstanding()] or _conclusion(state)",
        "_conclusion(state)",
    ),
    (
        "stops only what began",
        "[_stop(task) for task in state.outstanding()]",
        '[_stop(task) for task in state.outstanding() if task.status == "running"]',
    ),
    (
        "stops the wrong attempt",
        "facts.TaskStopRequested(task.shape.name, task.attempt)",
        "facts.TaskStopRequested(task.shape.name, task.attempt + 1)",
    ),
    (
        "ends a job while sessions are live",
        "    if state.undone or state.ended:\n        return []\n    if state.cause",
        "    if state.ended:\n        return []\n    if state.cause",
    ),
    ("ends a job more than once", "if state.undone or state.ended:", "if state.undone:"),
    (
        "ends a failed job at once",
        "case facts.TaskFailed() if state.cancel is None:\n            return [",
        "case facts.TaskFailed():\n            return [facts.JobFailed(event.task, event.error), ",
    ),
    ("calls a failed job cancelled", "    if state.cause:\n        return [facts.JobFailed(*state.cause)]\n", ""),
    (
        "calls a cancelled job succeeded",
        "    if state.cancel:\n        return [facts.JobCancelled",
        "    if 0:\n        return [facts.JobCancelled",
    ),
    (
        "goes on after a failure",
        "case facts.TaskFailed() if state.cancel is None:",
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
    ("launches again what it launched", "            state.ready.pop(event.task, None)\n", ""),
    ("launches what is to be skipped", "    if task.shape.skip:\n        return facts.TaskSkipped(name)\n", ""),
    ("skips everything", "if task.shape.skip:", "if True:"),
    (
        "waits for what is skipped",
        "| facts.TaskSkipped() | facts.TaskSucceeded():",
        "| facts.TaskSucceeded():",
    ),
    ("forgets the limit of a commit", "max(0, LAUNCHES_PER_COMMIT - standing)", "len(state.ready)"),
    ("limits each reaction rather than the commit", "LAUNCHES_PER_COMMIT - standing", "LAUNCHES_PER_COMMIT"),
    (
        "launches last come first",
        "        return state.ready\n",
        "        return reversed(state.ready)\n",
    ),
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
        "    if task.stop_requested:\n        return facts.TaskCancelled",
        "    if False:\n        return facts.TaskCancelled",
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
        "case facts.TaskStarted() if not state.began and state.cancel is None:",
        "case facts.TaskStarted():",
    ),
    (
        "revives a job that is to end",
        "case facts.TaskStarted() if not state.began and state.cancel is None:",
        "case facts.TaskStarted() if not state.began:",
    ),
    ("lets a job be created twice", "if state.created is not None:", "if state.ended:"),
    ("cancels twice", "return [] if state.cancel else [", "return ["),
    ("cancels what has ended", "    if state.ended:\n        raise", "    if False:\n        raise"),
    ("launches while it is paused", "if not state.may_launch:", "if not state.ready:"),
    (
        "forgets what became ready in a pause",
        "facts.JobCreated() | facts.JobResumed() |",
        "facts.JobCreated() |",
    ),
    (
        "forgets that it began",
        'state.status = "running" if state.began else "pending"',
        'state.status = "pending"',
    ),
    ("lets a start end a pause", '"paused" if state.status == "paused" else "running"', '"running"'),
    ("pauses what is to end", "    if state.cancel:\n        raise", "    if False:\n        raise"),
    ("pauses twice", 'return [] if state.status == "paused" else [', "return ["),
    (
        "resumes what is not paused",
        'return [facts.JobResumed()] if state.status == "paused" else []',
        "return [facts.JobResumed()]",
    ),
    ("cancels what never was", "    if state.created is None:\n", "    if False:\n"),
    ("keeps the last failure", "state.cause = state.cause or (", "state.cause = ("),
    ("blames the command for everything", "causes.append(-(offset + at + 1))", "causes.append(cause)"),
    ("blames the first event", "causes.append(-(offset + at + 1))", "causes.append(-(offset + 1))"),
    ("counts causes from the decision", "causes.append(-(offset + at + 1))", "causes.append(-(at + 1))"),
    ("reacts once", "    while at < len(events):\n", "    for at in range(len(events)):\n"),
    (
        "reacts before the decision is whole",
        "    for event in events:\n        state = decider.evolve(state, event)\n    at = 0",
        "    for event in events[:1]:\n        state = decider.evolve(state, event)\n    at = 0",
    ),
]

EQUIVALENT: dict[str, str] = {
    "touched: [*state.successors.get(event.task, ()), event.task] reversed": "the names have no order",
    "JobState: 0 -> 1": "`undone` is set by the job's creation, and nothing is concluded before it",
    "JobState: 0 -> -1": "`undone` is set by the job's creation, and nothing is concluded before it",
    "JobState: True -> False": "whether defaults are left out matters where a state is encoded, for its hash",
    "TaskState: True -> False": "whether defaults are left out matters where a state is encoded, for its hash",
}
"""Changes that change nothing one could see, by name, with the reason."""
