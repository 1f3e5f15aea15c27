"""The outcome of an attempt on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec.structs import replace

from trackbook.adapters.execution import outcome, result, variables
from trackbook.adapters.execution.exit_record import ExitRecord
from trackbook.adapters.execution.logs import tail
from trackbook.engine.job import ReportTaskEnded
from trackbook.engine.ports import SessionSpec

_PATH = f"{variables.PATH}, after the virtual environment in which the job was started"
_OWNERS = re.compile(
    r"bad owner(ship)? or (permissions|modes)|must be owned by (uid 0|root)|effective uid is not 0"
    r"|owned by uid \d+, should be 0",
    re.IGNORECASE,
)
"""What ssh, sudo and git say to files of root that seem to belong to nobody."""
_OWNERS_HINT = (
    "in the private root of an ordinary account, root's files seem to belong to nobody: "
    "TRACKBOOK_PRIVATE_ROOT=off runs tasks without one"
)


def report(spec: SessionSpec, record: ExitRecord, folder: Path, outputs: Path) -> ReportTaskEnded:
    """Return the report of an attempt's end; `folder` is the session's, `outputs` the attempt's."""
    verdict, log = outcome.verdict(record, _PATH), folder / "log"
    if verdict.outcome == "failed" and record.private_root and os.geteuid() != 0 and _OWNERS.search(tail(log)):
        verdict = replace(verdict, message=f"{verdict.message}; {_OWNERS_HINT}")
    return verdict.report(spec, lambda: tail(log), result=lambda: result.read(outputs))
