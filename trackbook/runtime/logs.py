"""Where the log of a process goes: to stderr for people who watch it, to a file beside a live view."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog

from trackbook.engine.names import printable
from trackbook.private_files import private_file, private_folder

LOG_FILE = "trackbook.log"
"""In the data directory."""
_ROTATE_AT = 8 * 1024 * 1024


def configure(file: Path | None = None, level: str = "info") -> None:
    """Send the log of this process, its libraries' warnings included, to stderr or to the end of `file`."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr) if file is None else _opened(file)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    colors = stream.isatty()
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *chain,
            structlog.processors.format_exc_info,
            _printable,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    _libraries(stream, chain, colors, max(threshold, logging.WARNING))


def _libraries(stream: TextIO, chain: list[structlog.typing.Processor], colors: bool, level: int) -> None:
    """Give the standard library's loggers, which libraries use, the same form and place."""
    handler = logging.StreamHandler(stream)
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    clean: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _printable,
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=clean, foreign_pre_chain=chain))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _printable(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what a terminal would act on: names and errors come from others."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "\n".join(printable(line) for line in value.split("\n"))
    return event


def _opened(file: Path) -> TextIO:
    """Open for appending, one line at a time; a file that grew large makes room, and one older is kept."""
    private_folder(file.parent)
    if file.exists() and file.stat().st_size > _ROTATE_AT:
        file.replace(file.with_name(f"{file.name}.1"))
    return private_file(file).open("a", buffering=1, encoding="utf-8")
