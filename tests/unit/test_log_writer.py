"""The writer of a log never raises, whatever became of the place it writes to."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from trackbook.cli.terminal.streams import say
from trackbook.runtime.process import log_output
from trackbook.runtime.process.log_stream import LogWriter

Place = Callable[[ExitStack], TextIO | None]


def _none(_: ExitStack) -> None:
    return None


def _closed(_: ExitStack) -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def _full(opened: ExitStack) -> TextIO:
    return _unbuffered(opened, os.open("/dev/full", os.O_WRONLY))


def _without_reader(opened: ExitStack) -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return _unbuffered(opened, writing)


def _hung_up(opened: ExitStack) -> TextIO:
    master, terminal = os.openpty()
    os.close(master)
    return _unbuffered(opened, terminal)


def _never_emptied(opened: ExitStack) -> TextIO:
    reading, writing = os.pipe()
    opened.callback(os.close, reading)
    os.write(writing, b"x" * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ))
    return _unbuffered(opened, writing)


def _unbuffered(opened: ExitStack, descriptor: int) -> TextIO:
    opened.callback(os.close, descriptor)
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, write_through=True)


DEAD = [_none, _closed, _full, _without_reader, _hung_up, _never_emptied]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What a test opens, closed at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def _own_logging() -> Iterator[None]:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("dead", DEAD)
def test_a_dead_place_is_no_error(opened: ExitStack, dead: Place) -> None:
    """What can't be written is dropped and counted."""
    writer = LogWriter(dead(opened))

    written = [writer.write(line) for line in ("one\n", "two\n")]

    assert (written, writer.dropped, writer.isatty()) == ([4, 4], 2, False)


@pytest.mark.parametrize("dead", DEAD)
def test_the_log_goes_on_in_the_data_directory(opened: ExitStack, dead: Place, tmp_path: Path) -> None:
    """A server whose stderr takes nothing writes its log to trackbook.log."""
    writer = log_output.stderr_or_file(dead(opened), tmp_path / "data")

    writer.write("one\n")
    writer.write("two\n")
    writer.close()

    assert (tmp_path / "data" / "trackbook.log").read_text() == "one\ntwo\n"
    assert writer.dropped == 0


@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.usefixtures("_own_logging")
def test_no_logger_raises(opened: ExitStack, dead: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither our loggers, nor those of libraries and of asyncio, nor what is said to a person."""
    writer = LogWriter(dead(opened))
    monkeypatch.setattr(sys, "stderr", writer)
    log_output.configure()
    loop = asyncio.new_event_loop()

    structlog.get_logger("ours").error("something", error=RuntimeError("x"))
    logging.getLogger("uvicorn.error").error("something")
    loop.call_exception_handler({"message": "something"})
    say("something")

    loop.close()
    assert writer.dropped >= 4


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.usefixtures("_own_logging")
def test_a_value_that_can_t_be_shown_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is logged without it."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log_output.configure()

    structlog.get_logger("ours").error("something", value=_Unprintable())

    assert "something" in stream.getvalue()


def test_a_reader_that_reads_again_gets_the_next_lines(opened: ExitStack) -> None:
    """A stopped terminal costs the lines of that time and no others."""
    reading, writing = os.pipe()
    opened.callback(os.close, reading)
    writer = LogWriter(_unbuffered(opened, writing))
    while not writer.dropped:
        writer.write("x" * 4095 + "\n")

    while len(os.read(reading, 1 << 20)) == 1 << 20:
        pass
    writer.write("again\n")

    assert os.read(reading, 1 << 20).lstrip(b"\n") == b"again\n"
