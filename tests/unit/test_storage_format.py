"""A data directory says in which format it was written, and by which release first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trackbook import __version__
from trackbook.events.commit import FORMAT, OLDEST
from trackbook.events.storage_format import NewerFormat, OlderFormat
from trackbook.runtime.data_directory.format import is_initialised, mark_initialised, refuse_unreadable_data


def test_a_new_directory_is_marked(tmp_path: Path) -> None:
    """The mark names the format and this release, and is taken by it."""
    refuse_unreadable_data(tmp_path)
    mark_initialised(tmp_path)

    assert json.loads((tmp_path / "initialised").read_bytes()) == {"format": FORMAT, "release": __version__}
    refuse_unreadable_data(tmp_path)


@pytest.mark.parametrize("mark", [b"", b"{", b"\xff", b'{"format": "x"}'])
def test_a_damaged_mark_still_says_that_the_streams_were_made(tmp_path: Path, mark: bytes) -> None:
    """It is written again; which format the data has is for the streams' own marks to say."""
    (tmp_path / "initialised").write_bytes(mark)

    refuse_unreadable_data(tmp_path)
    mark_initialised(tmp_path)

    assert is_initialised(tmp_path)
    assert json.loads((tmp_path / "initialised").read_bytes()) == {"format": FORMAT, "release": __version__}


def test_a_directory_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """The message has both releases, both formats and what to do."""
    mark = json.dumps({"format": FORMAT + 1, "release": "9.8.7"})
    (tmp_path / "initialised").write_text(mark)

    with pytest.raises(NewerFormat) as refused:
        refuse_unreadable_data(tmp_path)

    assert str(refused.value) == (
        f"the data directory {tmp_path} was written by Trackbook 9.8.7 (format {FORMAT + 1});"
        f" this is {__version__} (format {FORMAT}): use 9.8.7 or newer"
    )
    assert (tmp_path / "initialised").read_text() == mark


def test_a_directory_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    """It is left as it is: its events would be misread."""
    mark = json.dumps({"format": OLDEST - 1, "release": "0.1.0"})
    (tmp_path / "initialised").write_text(mark)

    with pytest.raises(OlderFormat) as refused:
        refuse_unreadable_data(tmp_path)

    assert str(refused.value) == (
        f"the data directory {tmp_path} was written by an earlier Trackbook (format {OLDEST - 1}); this is"
        f" {__version__} (format {FORMAT}), which no longer reads that: use the earlier one,"
        " or begin with an empty data directory"
    )
    assert (tmp_path / "initialised").read_text() == mark
