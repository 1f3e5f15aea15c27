"""What is sent to the wrapper of commands on a cluster, and read from it, as text."""

from __future__ import annotations

import pytest

from trackbook.adapters.backendai.session import exit_record, multiline_variables, wrapper


def test_the_length_of_commands() -> None:
    """A command fits as long as it can be handed through as one argument, quoted."""
    assert wrapper.fits(wrapper.startup("3-1", 1, "x" * 50_000))
    assert not wrapper.fits(wrapper.startup("3-1", 1, "'" * 20_000))
    with pytest.raises(ValueError, match="NUL"):
        wrapper.startup("3-1", 1, "a\0b")


def test_records_that_are_not_whole() -> None:
    """A record without its last line is none."""
    text = b'{"attempt":1,"ended_at":"2026-01-01T00:00:00Z","size":2,"exit_code":0}\nx\n\nend\n'
    assert exit_record.read_record(text).tail == b"x\n"
    for broken in (text[:-1], text.replace(b',"exit_code":0', b""), text.replace(b"}", b""), b""):
        with pytest.raises(ValueError, match="record"):
            exit_record.read_record(broken)


def test_variables_that_cant_be_sent() -> None:
    """A value that is too long once it is escaped, or has a name that no shell takes, is refused."""
    with pytest.raises(ValueError, match="more than 131,000 bytes"):
        multiline_variables.escape({"A": "\n" * 70_000})
    with pytest.raises(ValueError, match="line breaks"):
        multiline_variables.escape({"ODD-NAME": "a\nb"})
    assert multiline_variables.escape({"ODD-NAME": "a", "B": ""}) == {"ODD-NAME": "a", "B": ""}
