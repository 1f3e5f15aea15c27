"""Words and tables for people."""

from __future__ import annotations

import pytest

from trackbook.cli.errors import place_text
from trackbook.cli.options import parse_version
from trackbook.cli.terminal.formatting import counts_text, duration, plural
from trackbook.cli.terminal.render import amount_text
from trackbook.cli.terminal.tables import cell_width, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0.04, "0.0 s"), (3.21, "3.2 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"),
        (245, "4 min 05 s"), (3599.8, "1 h 00 min"), (7380, "2 h 03 min"),
    ],
)  # fmt: skip
def test_durations_are_short_and_never_show_sixty_seconds(seconds: float | None, text: str) -> None:
    """A span of time is rounded to what matters at its size."""
    assert duration(seconds) == text


def test_tables_align_also_where_letters_are_wide(capsys: pytest.CaptureFixture[str]) -> None:
    """Names in Korean take two columns a letter; what isn't there shows as a dash, line ends as blanks."""
    table(("NAME", "STATE", "NOTE"), [("학습", "running", None), ("evaluate", "failed", "a\nb")])

    assert capsys.readouterr().out.splitlines() == [
        "NAME      STATE    NOTE",
        "학습      running  -",
        "evaluate  failed   a b",
    ]


HEADS = ("JOB", "PIPELINE", "STATE", "TASKS", "CREATED", "RAN", "ERROR")
ROWS = [
    (
        "1f2e3d4c5b6a7988",
        "훈련-" * 20 + "@12",
        "succeeded",
        "12/12",
        "2026-01-31 12:00:00",
        "2 h 03 min",
        "x" * 60,
    ),
    ("2f2e3d4c5b6a7988", "short@1", "running", "1/2", "2026-01-31 12:00:00", "1.0 s", None),
]


@pytest.mark.parametrize("width", [19, 40, 80, 200])
def test_tables_fit_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is wider; what is cut ends with an ellipsis, and columns that fit are whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    table(HEADS, ROWS)

    lines = capsys.readouterr().out.splitlines()
    assert max(cell_width(line) for line in lines) <= width
    assert len(lines) == 3
    assert "…" in lines[1]
    if width >= 80:
        assert "succeeded" in lines[1]
    if width == 40:
        assert lines[1].startswith("1f2e3d4c…")
        assert "succeeded" in lines[1]


def test_tables_are_not_cut_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that reads a table gets all of it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    table(HEADS, ROWS)

    assert "…" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("train@3", ("train", 3)), ("train", ("train", None)), ("a@b@2", ("a@b", 2)), ("a@b", ("a@b", None)),
        ("@3", ("@3", None)),
    ],
)  # fmt: skip
def test_a_version_is_named_after_the_last_at_sign(ref: str, found: tuple[str, int | None]) -> None:
    """Names may hold an at sign themselves."""
    assert parse_version(ref) == found


@pytest.mark.parametrize(
    ("found", "source", "text"),
    [
        ({"line": 3, "column": 5, "path": "tasks[0]"}, "a.yaml", "a.yaml:3:5, tasks[0]"),
        ({"line": 3, "column": 5}, "", "line 3, column 5"),
        ({"path": "tasks[0]"}, "", "tasks[0]"),
        ({}, "", ""),
    ],
)
def test_places_are_as_precise_as_is_known(found: dict[str, object], source: str, text: str) -> None:
    """File, line, column and path, as far as they are there."""
    assert place_text(found, source) == text


def test_counts_and_amounts_read_well() -> None:
    """One task, two tasks; memory in units."""
    assert plural(1, "task") == "1 task"
    assert plural(2000, "task") == "2,000 tasks"
    assert counts_text({"succeeded": 3, "failed": 0, "cancelled": 1}) == "3 succeeded, 1 cancelled"
    assert amount_text("mem", 3 << 29) == "1.5 GiB"
    assert amount_text("cuda.shares", 1.5) == "1.5"
