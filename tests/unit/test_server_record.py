"""`server.json`: how a client finds the server that holds a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from trackbook.runtime.data_directory.directory import ServerRecord, hold_directory, record_server, server_record


def test_the_record_of_a_server_is_read_as_it_was_written(tmp_path: Path) -> None:
    """While the server holds the directory, and not after."""
    record = ServerRecord(4711, "http://127.0.0.1:9500", "secret", for_command=True)
    with hold_directory(tmp_path, frozenset({"web"})):
        record_server(tmp_path, record)
        assert server_record(tmp_path) == record

    record_server(tmp_path, record)
    assert server_record(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '["pid"]', "7", "null", "{}", '{"pid": "1"}', '{"pid": 1, "url": 2}', "\xff"]
)
def test_what_is_no_record_names_no_server(tmp_path: Path, text: str) -> None:
    """A file that was cut or written by something else raises nothing."""
    with hold_directory(tmp_path, frozenset({"web"})):
        (tmp_path / "server.json").write_text(text, encoding="latin-1")
        assert server_record(tmp_path) is None


def test_the_record_of_another_release_is_read(tmp_path: Path) -> None:
    """What a newer release adds is passed over, and what an older one lacks is empty."""
    with hold_directory(tmp_path, frozenset({"web"})):
        (tmp_path / "server.json").write_text('{"pid": 1, "added": [1]}')
        assert server_record(tmp_path) == ServerRecord(1)
