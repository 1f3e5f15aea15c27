"""Watching a job on a terminal: a table of its tasks that keeps itself up to date."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trackbook.cli.terminal.escapes import escape, raw
from trackbook.cli.terminal.formatting import STATE_STYLES, counts_text, duration, parse_utc, plural
from trackbook.cli.watch.progress import Change, Progress, Task, utc_now

TABLE_UP_TO = 30
"""Tasks of which each has a line; beyond, only what runs and what failed last is shown."""
_RUNNING_SHOWN, _FAILED_SHOWN = 10, 5
_AROUND = 6
_MARKS = {"succeeded": "✓", "failed": "✗", "cancelled": "⊘", "skipped": "↷", "pending": "·", "ready": "·"}
_ORDER = ("succeeded", "skipped", "running", "launching", "failed", "cancelled", "ready", "pending")


class LiveView:
    """Draws the job again some times a second, and stays on the screen as it ended."""

    def __init__(self, progress: Progress, console: Console | None = None) -> None:
        self.progress = progress
        self.console = console or Console(file=raw(sys.stdout))
        self._spinner = Spinner("dots", style="cyan")
        self._note = ""
        self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=8)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._note = ""
        self._live.stop()

    def show(self, change: Change) -> None:
        """Wait for the next drawing, which comes by itself."""

    def note(self, text: str) -> None:
        """Show a remark under the table."""
        self._note = text

    def render(self) -> RenderableType:
        """Return the drawing of this moment."""
        progress = self.progress
        fits = len(progress.tasks) <= min(TABLE_UP_TO, self.console.height - _AROUND)
        parts: list[RenderableType] = [self._table(list(progress.tasks.values())) if fits else self._collapsed()]
        parts.append(self._bar())
        if self._note:
            parts.append(Text(escape(self._note), style="yellow"))
        return Group(*parts)

    def _table(self, tasks: list[Task]) -> Table:
        drawn = Table(box=None, pad_edge=False, show_header=False)
        drawn.add_column(width=1)
        drawn.add_column(no_wrap=True, overflow="ellipsis")
        drawn.add_column(no_wrap=True)
        drawn.add_column(no_wrap=True, justify="right")
        drawn.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        now = utc_now()
        for task in tasks:
            style = STATE_STYLES.get(task.state, "")
            mark: RenderableType = Text(_MARKS.get(task.state, " "), style=style)
            if task.state in ("launching", "running") and not self.progress.ended:
                mark = self._spinner
            attempt = f" (attempt {task.attempt})" if task.attempt > 1 else ""
            drawn.add_row(mark, Text(escape(task.name)), Text(task.state + attempt, style=style),
                          duration(task.run_time(now)), Text(escape(" ".join(task.note.split()))))  # fmt: skip
        return drawn

    def _collapsed(self) -> RenderableType:
        progress = self.progress
        counts = {state: progress.counts[state] for state in _ORDER}
        running = sorted(progress.running.copy().values(), key=lambda task: task.state != "running")
        failed = progress.failed[-_FAILED_SHOWN:]
        parts: list[RenderableType] = [Text(counts_text(counts))]
        if running or failed:
            parts.append(self._table([*failed, *running[:_RUNNING_SHOWN]]))
        if len(running) > _RUNNING_SHOWN:
            parts.append(Text(f"  and {len(running) - _RUNNING_SHOWN:,} more", style="dim"))
        return Group(*parts)

    def _bar(self) -> RenderableType:
        progress = self.progress
        total = len(progress.tasks)
        bar = ProgressBar(total=max(total, 1), completed=progress.done, width=40)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            bar,
            Text(f"{progress.done:,} of {plural(total, 'task')}"),
            Text(progress.state, style=STATE_STYLES.get(progress.state, "")),
            Text(duration(self._elapsed()), style="dim"),
        )
        return line

    def _elapsed(self) -> float:
        job = self.progress.job
        end = parse_utc(job["finished_at"]) if job.get("finished_at") else utc_now()
        return max(0.0, (end - parse_utc(job["created_at"])).total_seconds())
