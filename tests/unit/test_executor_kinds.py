"""Kinds of executors are found by an entry point group; Trackbook's own are registered as those of others."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from trackbook.adapters.execution.kind import GROUP, Host
from trackbook.runtime.executors.configuration import ExecutorsMisconfigured, configuration
from trackbook.runtime.executors.kinds import OURS, KindUnusable, kinds, load
from trackbook.runtime.executors.registry import Backends, make_backends

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install, as far as metadata goes, a package with the example's kind and one whose module is not there."""
    metadata = tmp_path / "site" / "trackbook_nice-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trackbook-nice\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\nnice = trackbook_nice.backend:open_backend\nbroken = no_such_module:make\n"
        "local = no_such_module:make\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.delenv("TRACKBOOK_EXECUTORS", raising=False)
    return tmp_path


def write(data: Path, text: str) -> None:
    """Write executors.toml, private as it has to be."""
    (data / "executors.toml").touch(0o600)
    (data / "executors.toml").write_text(text)


def opened(data: Path) -> Backends:
    """Return the executors that the file names."""
    return make_backends(Host(data=data, installation="0" * 8), configuration(data, {}))


def test_ours_are_registered_as_others() -> None:
    """pyproject.toml registers Trackbook's own kinds, and the code knows the same ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"][GROUP] == OURS


def test_an_installed_kind_is_an_executor_where_the_file_has_its_table(installed: Path) -> None:
    """`[nice]` is the executor `nice`, and may be the default; without the table there is none."""
    assert "nice" not in opened(installed)

    write(installed, 'default = "nice"\n[nice]\nniceness = 3\n')
    found = opened(installed)

    assert (found["nice"].name, found.default) == ("nice", "nice")
    assert found.store("nice") == "local"  # whose folders it has


def test_a_kind_may_have_several_executors(installed: Path) -> None:
    """`[nice.a]` and `[nice.b]` are `nice/a` and `nice/b`."""
    write(installed, "[nice.a]\nniceness = 3\n[nice.b]\n")

    assert {name for name in opened(installed) if name.startswith("nice")} == {"nice/a", "nice/b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[nice]\nnicenes = 3\n", "[nice]: Object contains unknown field `nicenes`"),
        ("[nice.a]\nniceness = 'x'\n", "[nice.a]: Expected `int`, got `str`"),
        ('[nice."a/b"]\n', "'a/b' can't be the name of an executor"),
        ("[nicee]\n", "Did you mean 'nice'?"),
        ("nice = 3\n", "'nice' is a table, written [nice]"),
        ("[broken]\n", "the kind of executor 'broken' (no_such_module:make) can't be loaded"),
    ],
)
def test_mistakes_are_said_with_their_place(installed: Path, text: str, words: str) -> None:
    """The message names the file, the table and what is wrong."""
    write(installed, text)

    with pytest.raises(ExecutorsMisconfigured) as refused:
        opened(installed)

    assert words in str(refused.value)
    assert str(installed / "executors.toml") in str(refused.value)


def test_no_package_replaces_ours(installed: Path) -> None:
    """A package that registers the name `local` does not get its sessions."""
    assert kinds()["local"] == OURS["local"]
    assert "local" in opened(installed)


def test_a_kind_that_is_not_installed_is_named() -> None:
    """Loading an unknown kind says which."""
    with pytest.raises(KindUnusable, match="no installed package has the kind of executor 'nowhere'"):
        load("nowhere")
