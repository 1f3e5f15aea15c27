"""What a document shows is compared with what its commands print."""

from __future__ import annotations

from transcript import Names, matches

LINE = "job 590195c9  2026-11-24 08:18:10  ran 1.5 s  in 3 parts of 27 … and 0.3 s"


def test_what_differs_in_its_last_line_is_refused_at_once() -> None:
    """Lines that vary in themselves are not tried in all combinations, which would take hours."""
    shown = ["…", *[LINE] * 40, "…", "end"]
    printed = "".join(f"{line}\n" for line in ["first", *[LINE] * 40])

    assert matches(shown, printed + "end\n", Names())
    assert not matches(shown, printed + "other\n", Names())


def test_any_lines_may_stand_for_three_points() -> None:
    """None, one or many, and an id that is shown twice is the same one there."""
    for between in ("", "x\n", "x\ny\n590195c9\n"):
        assert matches(["590195c9", "…", "590195c9"], f"0f0f0f0f\n{between}0f0f0f0f\n", Names())
    assert not matches(["590195c9", "…", "590195c9"], "0f0f0f0f\nx\n0f0f0f0e\n", Names())
