"""Watching a job where there is no terminal: one line for each thing that happens."""

from __future__ import annotations

from types import TracebackType

from trackbook.cli.terminal.formatting import duration
from trackbook.cli.watch.progress import STATUS, Change, Progress, status_text

_SILENT = frozenset({"launching"})


class PlainView:
    """Prints lines such as `12:00:04 train succeeded in 3.2 s`."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __enter__(self) -> PlainView:
        for task in self.progress.running.values():
            if task.started is not None:
                self.show(Change(task.started, task.state, task))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave nothing behind."""

    def show(self, change: Change) -> None:
        """Print what changed."""
        if change.state in _SILENT:
            return
        clock = change.at.astimezone().strftime("%H:%M:%S")
        if change.task is None:
            if change.state in ("failing", "cancelling"):
                print(f"{clock} stopping what runs: {change.reason}", flush=True)
            if change.state == "paused":
                print(f"{clock} paused, nothing more starts: {change.reason}", flush=True)
            return
        print(f"{clock} {change.task.name} {_end_text(change)}", flush=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        print(text, flush=True)


def _end_text(change: Change) -> str:
    assert change.task is not None
    task = change.task
    if change.state == STATUS:
        return status_text(task.status, task.why)
    attempt = f" (attempt {task.attempt})" if task.attempt > 1 and change.state == "running" else ""
    reason = f": {change.reason}" if change.reason else ""
    ran = ""
    if change.state != "running" and task.started and task.finished:
        spent = duration(task.run_time(task.finished))
        ran = f" in {spent}" if change.state == "succeeded" else f" after {spent}"
    return f"{change.state}{attempt}{ran}{reason}"
