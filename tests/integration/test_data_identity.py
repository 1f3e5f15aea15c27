"""A copied data directory is refused until somebody says whose it is; one that was only moved is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from trackbook.adapters.nats.streams import installation
from trackbook.runtime.app import running
from trackbook.runtime.data_directory import identity
from trackbook.runtime.data_directory.identity import (
    DataDirectoryCopied,
    Identity,
    Location,
    claim,
    differences,
    problem,
)
from trackbook.runtime.system import Config

HERE = Location("machine", "boot", 7, 70, 1000)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (HERE, []),
        (msgspec.structs.replace(HERE, inode=1001), ["another directory (inode 1001, not 1000)"]),
        (msgspec.structs.replace(HERE, machine="other"), ["another machine"]),
        (msgspec.structs.replace(HERE, machine=""), []),  # a container without a machine id
        (msgspec.structs.replace(HERE, volume=8), ["another file system"]),
        (msgspec.structs.replace(HERE, device=71), []),  # renumbered, say when a container starts again
    ],
)
def test_what_tells_a_copy(present: Location, expected: list[str]) -> None:
    """Machine, file system and inode do, each as far as it is known."""
    assert differences(HERE, present) == expected


@pytest.mark.parametrize(("boot", "found"), [("boot", ["another file system"]), ("next", [])])
def test_a_file_system_without_an_id_is_known_by_its_device_until_the_next_boot(
    boot: str, found: list[str]
) -> None:
    """Numbers of devices are given again when the machine starts: they say nothing then."""
    recorded = msgspec.structs.replace(HERE, volume=0)
    present = msgspec.structs.replace(recorded, device=71, boot=boot)

    assert differences(recorded, present) == found


def test_a_moved_directory_is_the_same_one(tmp_path: Path) -> None:
    """A rename on one file system keeps the inode, and nothing is asked."""
    data = tmp_path / "data"
    data.mkdir()
    claim(data)
    moved = data.rename(tmp_path / "moved")

    assert claim(moved).path == str(moved)
    assert problem(moved) == ""


def test_a_copy_is_refused_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    """It names the directory, where it was used last, and both ways on; what is refused is not recorded."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    claim(data)
    shutil.copytree(data, copy)

    for _ in range(2):
        with pytest.raises(DataDirectoryCopied) as refused:
            claim(copy)
    message = str(refused.value)
    assert f"last used as {data}" in message
    assert f"up --adopt --data {copy}" in message
    assert f"up --fork --data {copy}" in message
    assert problem(copy) == message
    assert claim(copy, "adopt").forking is False
    assert claim(copy).path == str(copy)
    claim(data)  # the original was never touched


def test_a_copy_on_another_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same directory seen from another machine, on a shared disk say, is another owner's."""
    ids = tmp_path / "machine-id"
    monkeypatch.setattr(identity, "MACHINE_IDS", (ids,))
    ids.write_text("0123456789abcdef\n")
    claim(tmp_path)
    record = (tmp_path / identity.FILE).read_text()
    ids.write_text("fedcba9876543210\n")

    assert "0123456789abcdef" not in record  # the id is confidential, as machine-id(5) says
    with pytest.raises(DataDirectoryCopied, match="another machine"):
        claim(tmp_path)
    ids.write_text("uninitialized\n")
    claim(tmp_path)


def test_a_damaged_record_is_no_reason_to_trust_a_directory(tmp_path: Path) -> None:
    """Nobody knows then where it was used: the user has to say so."""
    (tmp_path / identity.FILE).write_text("{")

    with pytest.raises(DataDirectoryCopied, match="can't be read"):
        claim(tmp_path)
    claim(tmp_path, "adopt")
    claim(tmp_path)


async def test_no_server_starts_on_a_copy(tmp_path: Path) -> None:
    """Neither a whole one nor one that only reads; nor is a broker left behind."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with running(Config(data=data, durability="fast")):
        pass
    shutil.copytree(data, copy)

    for config in (Config(data=copy), Config(data=copy, takes_up_jobs=False)):
        with pytest.raises(DataDirectoryCopied):
            async with running(config):
                pass
    assert not (copy / "server.json").exists()


async def test_a_fork_has_an_id_and_passwords_of_its_own(tmp_path: Path) -> None:
    """Both then run side by side; the fork keeps the log, and forgets the original's folders on clusters."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with running(Config(data=data, durability="fast")) as system:
        before = await installation(system.base.connection)
    kept = data / "executors" / "main" / "folders"
    kept.mkdir(parents=True)
    (kept / "p1.json").write_text('{"id": "ab", "name": "theirs"}')
    shutil.copytree(data, copy)

    found = []
    async with running(Config(data=data, durability="fast")) as original:
        for ownership in ("fork", ""):
            config = Config(data=copy, durability="fast", ownership=ownership)
            async with running(config) as system:
                found.append(await installation(system.base.connection))
                assert await installation(original.base.connection) == before
                assert system.base.access != original.base.access

    assert found[0] == found[1] != before
    assert not (copy / "executors" / "main" / "folders").exists()
    secrets = [(each / "broker" / "credentials.json").read_bytes() for each in (data, copy)]
    assert secrets[0] != secrets[1]


async def test_an_interrupted_fork_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """Else the copy would go on as the original, whose sessions it would end."""
    async with running(Config(data=tmp_path, durability="fast")) as system:
        before = await installation(system.base.connection)
    claim(tmp_path, "fork")

    with pytest.raises(DataDirectoryCopied, match="not complete"):
        async with running(Config(data=tmp_path, roles=frozenset(("executor",)))):
            pass
    async with running(Config(data=tmp_path, durability="fast")) as system:
        assert await installation(system.base.connection) != before
    record = msgspec.json.decode((tmp_path / identity.FILE).read_bytes(), type=Identity)
    assert not record.forking


async def test_a_log_on_a_shared_broker_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both directories would have the same log, and each would change the other's installation."""
    monkeypatch.setenv("TRACKBOOK_NATS_URL", "nats://127.0.0.1:1")

    with pytest.raises(DataDirectoryCopied, match="TRACKBOOK_NATS_URL"):
        async with running(Config(data=tmp_path, ownership="fork")):
            pass
    assert not (tmp_path / identity.FILE).exists()
