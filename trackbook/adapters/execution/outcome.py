"""The outcome of an attempt, and the report of it to the engine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from trackbook.adapters.execution.exit_codes import IMAGE_PATH, describe
from trackbook.adapters.execution.exit_record import ExitRecord
from trackbook.adapters.execution.result import Result
from trackbook.engine.job import Outcome, ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.events.job import Fault


class Verdict(Struct, frozen=True):
    """How an attempt ended, for good. `ended_at` is None where nobody knows when; `run_time` is in seconds."""

    outcome: Outcome
    message: str = ""
    fault: Fault = ""
    ended_at: datetime | None = None
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    run_time: float | None = None

    def report(
        self,
        spec: SessionSpec,
        tail: Callable[[], str],
        service: Mapping[str, str] | None = None,
        result: Callable[[], Result] = Result,
    ) -> ReportTaskEnded:
        """Return the report of the attempt's end.

        The tail of its output is read and reported only if it did not succeed; how its service is reached and its
        result only if it did: events are kept for ever. A result that can't be used is the message of a success.
        """
        succeeded = self.outcome == "succeeded"
        left = result() if succeeded else Result()
        return ReportTaskEnded(
            task=spec.task,
            attempt=spec.attempt,
            outcome=self.outcome,
            ended_at=self.ended_at or datetime.now(UTC),
            started_at=self.started_at,
            exit_code=self.exit_code,
            signal=self.signal,
            message=self.message or left.warning,
            tail="" if succeeded else tail(),
            fault=self.fault,
            service=dict(service or {}) if succeeded else {},
            run_time=self.run_time,
            result=left.value,
        )


def verdict(record: ExitRecord, path: str = IMAGE_PATH) -> Verdict:
    """Return the verdict that follows from an exit record; `path` says what PATH the command had."""
    outcome, message = _outcome(record, path)
    return Verdict(
        outcome,
        message,
        record.fault,
        record.ended_at,
        record.started_at,
        record.exit_code,
        record.signal,
        record.run_time,
    )


def _outcome(record: ExitRecord, path: str) -> tuple[Outcome, str]:
    """Return the outcome and its cause in a sentence, '' for success."""
    if record.lost:
        return "lost", record.message
    if record.stopped:
        return "cancelled", record.message or "the session was stopped on request"
    if record.message:
        return "failed", record.message
    if record.signal is not None:
        return "failed", f"the command was ended by {signal_name(record.signal)}"
    if record.exit_code != 0:
        return "failed", describe(record.exit_code or 0, path)
    return "succeeded", ""


def signal_name(number: int) -> str:
    """Return a signal's name, such as `SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
