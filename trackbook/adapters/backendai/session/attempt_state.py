"""Local state of each attempt, kept in the data directory so that the cluster need not be asked again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from trackbook.adapters.execution import folders
from trackbook.engine.job import ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.private_files import read_file, write_private

_END = "ended.json"


class AttemptStates:
    """A folder for each session: whether it is there says that the session may have been asked for."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def begin(self, spec: SessionSpec) -> bool:
        """Whether the session is new here; it isn't afterwards. A full disk is no reason not to run it."""
        folder = folders.session_folder(self._data, spec.session)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            return False
        except OSError:
            return False
        return True

    def log(self, spec: SessionSpec) -> Path:
        """Return the file with the session's output."""
        return folders.log_file(self._data, spec.session)

    def end(self, spec: SessionSpec) -> ReportTaskEnded | None:
        """Return the session's end, as it was noted."""
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            return msgspec.json.decode(read_file(self._end(spec)), type=ReportTaskEnded)
        return None

    def note_end(self, spec: SessionSpec, report: ReportTaskEnded) -> ReportTaskEnded:
        """Note the end and return it; the first that is noted is the one that counts."""
        before = self.end(spec)
        if before is not None:
            return before
        path = self._end(spec)
        with contextlib.suppress(OSError):  # a full disk: what is on the cluster says the same again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, msgspec.json.encode(report))
        return report

    def _end(self, spec: SessionSpec) -> Path:
        return folders.session_folder(self._data, spec.session) / _END
