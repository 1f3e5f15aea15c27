"""What an event of a job may follow from, and whether it agrees with the input that it follows from."""

from __future__ import annotations

from typing import Any

from trackbook.events import job as facts

_DONE = (facts.JobCreated, facts.TaskSucceeded, facts.TaskSkipped)
_ENDING = (facts.JobCancelRequested, facts.JobFailing)
_ENDS = (facts.TaskSucceeded, facts.TaskFailed, facts.TaskCancelled, *_ENDING)
REACTIONS: dict[type, tuple[type, ...]] = {
    facts.JobStarted: (facts.TaskStarted,),
    facts.TaskStopRequested: _ENDING,
    facts.TaskSucceeded: (facts.AttemptSucceeded,),
    facts.TaskFailed: (facts.AttemptFailed,),
    facts.TaskCancelled: (facts.AttemptCancelled,),
    facts.JobFailing: (facts.TaskFailed,),
    facts.JobSucceeded: _DONE,
    facts.JobFailed: _ENDS,
    facts.JobCancelled: _ENDS,
}
"""What may follow from what; everything else follows from an input alone."""
FROM_INPUT: dict[Any, str] = {
    facts.TaskSkipped: "NoneType",
    facts.TaskLaunchRequested: "NoneType",
    facts.JobCancelRequested: "CancelJob",
    facts.JobPaused: "PauseJob",
    facts.JobResumed: "ResumeJob",
    facts.JobCreated: "StartJob",
    facts.TaskStarted: "Report",
    facts.TaskStatusReported: "Report",
    facts.AttemptSucceeded: "Report",
    facts.AttemptFailed: "Report",
    facts.AttemptCancelled: "Report",
}


def agrees(event: Any, given: Any) -> bool:
    """Whether an event says of a report, or of a cancel, what was said."""
    match event:
        case facts.TaskStarted(at=at):
            return bool(at == getattr(given, "at", getattr(given, "started_at", None)))
        case facts.TaskStatusReported(status=status):
            return bool(status == given.status)
        case facts.AttemptFailed(at=at, error=error):
            said = (given.message or given.outcome, given.exit_code, given.signal, given.tail)
            return (error.message, error.exit_code, error.signal, error.tail) == said and at == given.ended_at
        case facts.AttemptSucceeded(at=at, service=service, result=result, warning=warning):
            said = (given.ended_at, given.service, given.result, given.message)
            return bool((at, service, result, warning) == said)
        case facts.AttemptCancelled(at=at, exit_code=code, signal=signal):
            return (at, code, signal) == (given.ended_at, given.exit_code, given.signal)
        case facts.JobCancelRequested(reason=reason) | facts.JobPaused(reason=reason):
            return bool(reason == given.reason)
    return True
