"""The last lines of a task's output, as the summary of a run and `job logs` print them."""

from __future__ import annotations

import pytest

from trackbook.cli.terminal.escapes import LONGEST_LINE, OutputLines
from trackbook.cli.watch.follower import tail


def printed(capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    """Return the lines that are printed of a tail."""
    tail(text)
    return [line.removeprefix("    │ ") for line in capsys.readouterr().out.split("\n")[:-1]]


def test_a_progress_bar_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a line that was written over 2,000 times, what was written last is shown."""
    bar = "".join(f"\r{number} of 2000" for number in range(2001))

    assert printed(capsys, f"begin\n{bar}\nend\n") == ["begin", "2000 of 2000", "end"]
    assert printed(capsys, f"{bar}\r") == ["2000 of 2000"]


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_lines_end_at_a_newline_only(capsys: pytest.CaptureFixture[str], character: str) -> None:
    """Other characters at which Python splits lines begin no line of their own."""
    assert len(printed(capsys, f"one{character}two\nthree")) == 2
    assert len(OutputLines().take(f"one{character}two\nthree\n".encode())) == 2


def test_windows_line_ends_are_no_progress_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """A carriage return before the newline hides nothing."""
    assert printed(capsys, "one\r\ntwo\r\n") == ["one", "two"]


def test_no_output_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does one of blank lines."""
    assert [printed(capsys, text) for text in ("", "\n\n")] == [[], []]


def test_a_line_without_an_end_is_bounded() -> None:
    """A line that never ends is printed in pieces, so that memory is bounded."""
    lines = OutputLines()
    pieces = [line for _ in range(300) for line in lines.take(b"x" * 1000)]

    assert pieces
    assert max(map(len, pieces)) <= LONGEST_LINE + 1000
    assert sum(map(len, pieces + lines.take(b"", final=True))) == 300_000


def test_colours_of_a_task_are_left_out() -> None:
    """Colours go without a trace; `--raw` has them."""
    assert OutputLines().take(b"\x1b[1;31mred\x1b[0m \x1b[2Jgone\n") == ["red \\x1b[2Jgone"]
