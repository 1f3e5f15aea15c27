"""The ledger's file may be damaged in any way: it is made again from the log, and never believed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from office import CHAIN, Office, opened

from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Head, LedgerDamaged, Note, check_rows
from trackbook.projections.write.projector import Projector
from trackbook.runtime.audit import Audit


async def _filled(folder: Path) -> Office:
    office = await opened(folder)
    await office.must("pipeline.apply", yaml=CHAIN)
    for number in range(60):
        await office.must("pipeline.create", name=f"p{number}")
    await office.ask("pipeline.create", name="p1")
    await office.close()
    with closing(sqlite3.connect(folder / "engine.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return office


@pytest.mark.parametrize("left", [0, 1, 15, 100, 4096, 5000, 0.5, 0.9])
async def test_a_cut_file_is_made_again(tmp_path: Path, left: float) -> None:
    """However much is left of the file, the start goes on, and the same id gets the same answer."""
    office = await _filled(tmp_path)
    file = tmp_path / "engine.db"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(left if left >= 1 else left * len(whole))])

    again = await opened(tmp_path, office.store, office.blobs)

    await again.aggregates.rebuild_ledger()
    assert len(again.ledger.heads()) == len(office_heads(office))
    assert not again.aggregates.integrity.open
    await again.close()


@pytest.mark.parametrize("left", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
async def test_damage_that_the_start_meets_while_it_writes_is_mended(tmp_path: Path, left: float) -> None:
    """A killed engine's file is cut, its -wal is not, and the log has more: the start makes the file again."""
    (tmp_path / "before").mkdir()
    office = await _filled(tmp_path / "before")
    more = await opened(tmp_path / "before", office.store, office.blobs)
    await more.must("pipeline.create", name="one that only the -wal has")
    more.ledger.flush()
    for file in (tmp_path / "before").glob("engine.db*"):
        shutil.copyfile(file, tmp_path / file.name)
    for number in range(60):
        await more.must("pipeline.create", name=f"q{number}")
    await more.close()
    cut = tmp_path / "engine.db"
    os.truncate(cut, int(left * cut.stat().st_size))

    again = await opened(tmp_path, office.store, office.blobs)

    await again.aggregates.rebuild_ledger()
    assert {(head.kind, head.id) for head in again.ledger.heads()} == office_heads(office)
    assert not again.aggregates.integrity.open
    await again.close()


def office_heads(office: Office) -> set[tuple[str, str]]:
    """Return the aggregates that the log has."""
    return {(stored.kind, stored.id) for stored in office.store.commits}


async def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    """Whatever bit is flipped, the ledger says what it said before, or it says that it is damaged."""
    office = await _filled(tmp_path)
    file, random = tmp_path / "engine.db", Random(7)
    ledger = Ledger(file)
    heads, outcomes = ledger.heads(), {c: ledger.outcome(c) for c in await _commands(office)}
    ledger.close()
    whole = file.read_bytes()
    noticed = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[random.randrange(len(whole))] ^= 1 << random.randrange(8)
        for beside in tmp_path.glob("engine.db*"):
            beside.unlink()
        file.write_bytes(damaged)
        try:
            with closing(Ledger(file, owner=False)) as suspect:
                suspect.check()
                assert suspect.heads() == heads
                assert {c: suspect.outcome(c) for c in outcomes} == outcomes
        except LedgerDamaged:
            noticed += 1

    assert noticed


async def _commands(office: Office) -> list[str]:
    reader = await opened(office.folder, office.store, office.blobs)
    rows = reader.ledger._query("SELECT command_id FROM outcome")
    await reader.close()
    return [row[0] for row in rows]


async def test_damage_that_is_met_later_is_reported_and_mended(tmp_path: Path) -> None:
    """A row that was changed under a running engine is not believed; made again, the ledger is right."""
    office = await _filled(tmp_path)
    again = await opened(tmp_path, office.store, office.blobs)
    calls: list[int] = []
    again.ledger.on_damage = lambda: calls.append(1)
    pipeline = next(stored for stored in office.store.commits if stored.kind == "pipeline")
    with closing(sqlite3.connect(tmp_path / "engine.db")) as db:
        db.execute("UPDATE head SET version = 9 WHERE id = ?", (pipeline.id,))
        db.commit()

    with pytest.raises(LedgerDamaged):
        again.ledger.head("pipeline", pipeline.id)
    with pytest.raises(LedgerDamaged, match=f"wrong in table head: pipeline/{pipeline.id}$"):
        again.ledger.check()
    assert calls == [1]

    await again.aggregates.rebuild_ledger()
    found = again.ledger.head("pipeline", pipeline.id)
    assert found is not None
    assert found.version == 1
    await again.close()


async def test_the_rows_that_are_damaged_are_named(tmp_path: Path) -> None:
    """Table and key of each, ten of a table at most, also of one that is no text any more."""
    office = await _filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "engine.db")) as db:
        db.execute("UPDATE head SET version = 9 WHERE kind = 'pipeline'")
        db.execute("UPDATE checkpoint SET sha256 = CAST(X'FF' AS TEXT)")
        (number,) = db.execute("SELECT count(*) FROM head WHERE kind = 'pipeline'").fetchone()
        db.commit()
        with pytest.raises(LedgerDamaged) as raised:
            check_rows(db, tmp_path / "engine.db")

    assert str(raised.value).count("pipeline/") == 10
    assert f" and {number - 10} more; " in str(raised.value)
    assert str(raised.value).endswith("the checksum is wrong in table checkpoint: 1")
    assert len(office_heads(office)) >= number


def test_another_form_is_made_again_and_an_unreadable_file_is_kept(tmp_path: Path) -> None:
    """A file that is not ours is set aside, not deleted; only the engine may do that."""
    file = tmp_path / "engine.db"
    file.write_bytes(b"not a database, and longer than a header of one would be" * 10)

    with pytest.raises(LedgerDamaged):
        Ledger(file, owner=False)
    Ledger(file).close()

    assert (tmp_path / "engine.db.damaged").read_bytes().startswith(b"not a database")
    Ledger(file, owner=False).close()


async def test_damage_that_is_met_while_writing_is_reported(tmp_path: Path) -> None:
    """A write that meets a damaged page says that the ledger is damaged, as a read does, and has it mended."""
    await _filled(tmp_path)
    file, calls = tmp_path / "engine.db", list[int]()
    ledger = Ledger(file)
    ledger.on_damage = lambda: calls.append(1)
    ledger.note(Note(Head("job", "new", 1, 900, 900, "0" * 64, open=True), []))
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(b"\xa5" * (file.stat().st_size - 4096))

    with pytest.raises(LedgerDamaged):
        ledger.flush()
    with pytest.raises(LedgerDamaged):
        ledger.written()
    ledger.close()

    assert calls


class _ReadModel:
    """A read model that is as the log has it."""

    def first_faults(self) -> list[Any]:
        """Return none."""
        return []

    async def compare(self) -> list[str]:
        """Return no difference."""
        return []


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("DELETE FROM head WHERE kind = 'job'", "head job/{job}"),
        ("DELETE FROM outcome WHERE command_id = 'c1'", "outcome c1"),
        ("DELETE FROM outcome", " more"),
    ],
)
async def test_rows_that_were_removed_are_named_by_verify(tmp_path: Path, removed: str, named: str) -> None:
    """A head without which no start takes its job up, an outcome without which its command is decided again."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN, command_id="c1")
    for number in range(12):
        await office.must("pipeline.edit", pipeline="chain", changes=[_coloured(number)])
    job = (await office.must("job.start", pipeline="chain"))["job"]
    await office.ended(job)
    verifying = Audit(office.aggregates, cast("Projector", _ReadModel()))
    assert (await verifying.verify())["ok"]
    calls: list[int] = []
    office.ledger.on_damage = lambda: calls.append(1)
    with closing(sqlite3.connect(tmp_path / "engine.db")) as db:
        db.execute(removed)
        db.commit()

    found = await verifying.verify()

    assert not found["ok"]
    (defect,) = found["defects"]
    assert defect["problem"].startswith("engine.db lacks rows: ")
    assert named.format(job=job) in defect["problem"]
    assert calls
    await office.aggregates.rebuild_ledger()
    assert (await verifying.verify())["ok"]
    await office.close()


def _coloured(number: int) -> dict[str, str]:
    return {"op": "set_variable", "variable": "COLOUR", "value": f"{number}"}


async def test_an_outcome_that_is_not_found_any_more_is_found_on_the_log(tmp_path: Path) -> None:
    """A command sent again whose row in the ledger has another key by now gets the outcome that it had."""
    office = await opened(tmp_path)
    first = await office.must("pipeline.create", name="p", command_id="c1")
    applied = await office.must("pipeline.apply", yaml=CHAIN, command_id="c2")
    office.ledger.flush()
    with closing(sqlite3.connect(tmp_path / "engine.db")) as db:
        db.execute("UPDATE outcome SET command_id = command_id || 'x'")
        db.commit()

    async with asyncio.timeout(10):
        assert await office.must("pipeline.create", name="p", command_id="c1") == first
        assert await office.must("pipeline.apply", yaml=CHAIN, command_id="c2") == applied
    await office.close()
