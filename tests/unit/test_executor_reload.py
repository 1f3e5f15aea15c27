"""Reloads executors.toml while the server runs; an invalid file changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from trackbook.adapters.execution.kind import Host
from trackbook.engine.ports import Backend
from trackbook.runtime.executors import reload
from trackbook.runtime.executors.configuration import Configuration, ExecutorsMisconfigured, configuration
from trackbook.runtime.executors.registry import make_backends
from trackbook.runtime.executors.reload import ExecutorReload

CLUSTER = """\
[backendai.{name}]
endpoint = "http://127.0.0.1:9"
access_key = "{key}"
secret_key = "s3cr3t"
"""


class Reloaded:
    """A configuration on disk and what follows it; `attached` are the executors that were started."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.attached: list[tuple[str, Backend]] = []
        self.reads = 0
        self.reload = ExecutorReload(data, self._make, configuration(data, {}))
        self.reload.attach = self._attach

    def write(self, *clusters: tuple[str, str], head: str = "") -> None:
        """Write the file, private as it has to be."""
        text = head + "".join(CLUSTER.format(name=name, key=key) for name, key in clusters)
        fresh = self.data / "fresh.toml"
        fresh.write_text(text)
        fresh.chmod(0o600)
        fresh.replace(self.data / "executors.toml")

    def _make(self, found: Configuration) -> Any:
        self.reads += 1
        return make_backends(Host(data=self.data, installation="00000000"), found)

    async def _attach(self, name: str, backend: Backend) -> None:
        self.attached.append((name, backend))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKBOOK_EXECUTORS", "TRACKBOOK_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


async def test_a_file_that_comes_later_is_read(tmp_path: Path) -> None:
    """A server that was started before the file existed has its executors as soon as one is named."""
    site = Reloaded(tmp_path)
    backends = site.reload.backends
    before, default = set(backends), backends.default

    site.write(("main", "a"), head='default = "backendai/main"\n')
    await site.reload.refresh()
    await site.reload.close()

    assert (before, default) == ({"local", "container"}, "local")
    assert set(backends) == {"local", "container", "backendai/main"}
    assert backends.default == "backendai/main"
    assert [name for name, _ in site.attached] == ["backendai/main"]


async def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """Each name of an executor asks; that costs one look at the file's times."""
    site = Reloaded(tmp_path)
    site.write(("main", "a"))
    for _ in range(5):
        await site.reload.refresh()
    await site.reload.close()

    assert site.reads == 2  # at the start, and once more


async def test_only_what_changed_is_replaced(tmp_path: Path) -> None:
    """Sessions of the others have the executor that they had; one whose key changed is started again."""
    site = Reloaded(tmp_path)
    site.write(("one", "a"), ("two", "b"))
    await site.reload.refresh()
    before = dict(site.reload.backends)
    site.attached.clear()

    site.write(("one", "a"), ("two", "other"))
    await site.reload.refresh()
    after = dict(site.reload.backends)
    await site.reload.close()

    assert {name for name in after if after[name] is not before[name]} == {"backendai/two"}
    assert site.attached == [("backendai/two", after["backendai/two"])]


async def test_a_removed_executor_takes_nothing_new(tmp_path: Path) -> None:
    """It is unknown from then on, and what runs there is not ended."""
    site = Reloaded(tmp_path)
    site.write(("one", "a"))
    await site.reload.refresh()
    site.write()
    await site.reload.refresh()
    await site.reload.close()

    assert set(site.reload.backends) == {"local", "container"}
    assert [name for name, _ in site.attached] == ["backendai/one"]


@pytest.mark.parametrize("text", ["[backendai", "nonsense = 1\n", '[backendai.main]\nendpoint = "x"\n'])
async def test_a_broken_file_changes_nothing_and_is_reported(tmp_path: Path, text: str) -> None:
    """What was loaded stays in use, the reason is shown until the file is in order again."""
    site = Reloaded(tmp_path)
    site.write(("main", "a"))
    await site.reload.refresh()
    site.write(head=text)
    await site.reload.refresh()
    kept, problem = set(site.reload.backends), site.reload.problem
    site.write(("main", "a"))
    await site.reload.refresh()
    await site.reload.close()

    assert "backendai/main" in kept
    assert str(tmp_path / "executors.toml") in problem
    assert "stays in use" in problem
    assert site.reload.problem == ""
    assert len(site.attached) == 1


async def test_a_file_that_others_can_read_is_refused_until_it_is_private(tmp_path: Path) -> None:
    """chmod alone changes its modification time not: the mode is looked at as well."""
    site = Reloaded(tmp_path)
    site.write(("main", "a"))
    (tmp_path / "executors.toml").chmod(0o644)
    await site.reload.refresh()
    problem = site.reload.problem
    (tmp_path / "executors.toml").chmod(0o600)
    await site.reload.refresh()
    await site.reload.close()

    assert "chmod 600" in problem
    assert "backendai/main" in site.reload.backends


async def test_an_executor_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    """The others go on."""
    site = Reloaded(tmp_path)

    async def attach(name: str, backend: Backend) -> None:
        raise OSError("no room")

    site.reload.attach = attach
    site.write(("main", "a"))
    await site.reload.refresh()
    await site.reload.close()

    assert site.reload.problem == "the executor backendai/main could not be started: no room"


async def test_the_file_is_looked_at_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was changed for what runs already needs no command."""
    monkeypatch.setattr(reload, "EVERY", 0.01)
    site = Reloaded(tmp_path)
    site.reload.start()
    site.write(("main", "a"))
    async with asyncio.timeout(30):
        while "backendai/main" not in site.reload.backends:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    await site.reload.close()


async def test_a_failure_does_not_end_the_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is logged, and a later change of the file is taken up all the same."""
    monkeypatch.setattr(reload, "EVERY", 0.001)
    site = Reloaded(tmp_path)
    failed = asyncio.Event()

    def fail(_found: Configuration) -> Any:
        failed.set()
        raise RuntimeError("out of descriptors")

    with monkeypatch.context() as failing:
        failing.setattr(site.reload, "_make", fail)
        site.reload.start()
        site.write(("main", "a"))
        async with asyncio.timeout(60):
            await failed.wait()
    site.write(("main", "b"), ("other", "c"))
    async with asyncio.timeout(60):
        while len(site.attached) < 2:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
    await site.reload.close()

    assert [name for name, _ in site.attached] == ["backendai/main", "backendai/other"]


def test_the_first_read_still_refuses(tmp_path: Path) -> None:
    """At the start nothing is in use yet: a broken file keeps the server from starting."""
    (tmp_path / "executors.toml").write_text("x = 1\n")
    (tmp_path / "executors.toml").chmod(0o600)

    with pytest.raises(ExecutorsMisconfigured):
        Reloaded(tmp_path)
