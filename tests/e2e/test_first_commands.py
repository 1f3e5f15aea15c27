"""Commands without a server: they create what isn't there, see all that is on the log, and share one server."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import CommandLine, finish


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def test_a_pipeline_can_be_the_first_thing_that_is_made(cli: CommandLine) -> None:
    """Applying a pipeline needs neither a server nor a data directory that was there before."""
    reported = cli("pipeline", "apply", cli.pipeline("first", only="true"))

    assert reported.startswith("Pipeline first: created, version 1\n")


def test_what_is_read_is_level_with_the_log(cli: CommandLine) -> None:
    """With the read model lost, the next command already shows everything: it waits until that is made again."""
    cli("pipeline", "apply", cli.pipeline("first", only="true"))
    for file in cli.data.glob("readmodel.db*"):
        file.unlink()

    found = cli.json("pipeline", "list")

    assert [pipeline["name"] for pipeline in found] == ["first"]


def test_commands_at_once_share_a_server(cli: CommandLine) -> None:
    """Of several commands without a server the first one's answers the others, none of which fails."""
    cli("pipeline", "apply", cli.pipeline("first", only="true"))

    with ExitStack() as stack:
        readers = [stack.enter_context(cli.begin("pipeline", "list")) for _ in range(3)]
        outputs = [(*finish(reader), reader.returncode) for reader in readers]

    assert [code for *_, code in outputs] == [0, 0, 0], outputs
    assert all("first" in out for out, *_ in outputs)
