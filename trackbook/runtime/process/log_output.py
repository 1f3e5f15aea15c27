"""Where the log of a process goes: to stderr for people who watch it, to a file beside a live view.

Logging never affects what is logged: no call raises, whatever became of the place that the log goes to.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from trackbook.engine.names import printable
from trackbook.errors import UserError
from trackbook.private_files import private_file, private_folder
from trackbook.runtime.process.log_stream import LogWriter

LOG_FILE = "trackbook.log"
"""In the data directory."""
_ROTATE_AT = 8 * 1024 * 1024


def configure(file: Path | None = None, level: str = "info") -> None:
    """Send the log of this process, its libraries' warnings included, to stderr or to the end of `file`."""
    below = getattr(sys.stderr, "rich_proxied_file", sys.stderr) if file is None else _open_log(file)
    stream = below if isinstance(below, LogWriter) else LogWriter(below)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    colors = stream.isatty()
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _without_needless_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *chain,
            structlog.processors.format_exc_info,
            _escape_event,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=_make_steady(structlog.make_filtering_bound_logger(threshold)),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    _libraries(stream, chain, colors, max(threshold, logging.WARNING))


def stderr_or_file(stream: TextIO | None, data: Path) -> LogWriter:
    """Return a writer for a server's stderr; if that is closed, full or gone, lines go to the log of `data`."""
    return LogWriter(stream, lambda: _open_log(data / LOG_FILE))


def _make_steady(kind: Any) -> Any:
    """Return the class of logger with calls that don't raise where a value can't be shown."""

    class Steady(kind):  # type: ignore[misc]
        def _proxy_to_logger(self, method: str, event: str | None = None, **values: Any) -> Any:
            try:
                return super()._proxy_to_logger(method, event, **values)
            except Exception as problem:  # the caller continues
                self._logger.msg(f"{event} [its values can't be shown: {type(problem).__name__}]")

    return Steady


def _libraries(stream: LogWriter, chain: list[structlog.typing.Processor], colors: bool, level: int) -> None:
    """Give the standard library's loggers, which libraries use, the same form and place."""
    handler = logging.StreamHandler(stream)
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    clean: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _escape_event,
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=clean, foreign_pre_chain=chain))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _escape_event(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what a terminal would act on: names and errors come from others."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "\n".join(printable(line) for line in value.split("\n"))
    return event


def _without_needless_trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace the stack trace of an error that a user can act on by its words."""
    found = event.get("exc_info")
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, UserError):
        del event["exc_info"]
        if str(error) not in str(event.get("event")):
            event.setdefault("error", str(error))
    return event


def _open_log(file: Path) -> TextIO:
    """Open for appending, one line at a time; a file that grew large makes room, and one older is kept."""
    private_folder(file.parent)
    if file.exists() and file.stat().st_size > _ROTATE_AT:
        file.replace(file.with_name(f"{file.name}.1"))
    return private_file(file).open("a", buffering=1, encoding="utf-8")
