"""Damage from outside is reported at the latest when it is read or verified, and nothing is where there is none.

A case of each kind on a small store; TRACKBOOK_FAULTS=long makes 300 on a store of a hundred aggregates. A
failure names its seed and kind: `python -m tests.damage --seed SEED --only KIND` damages the large one alike.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from seed import SEED

from damage.campaign import Campaign, table
from damage.case import Case

LONG = os.environ.get("TRACKBOOK_FAULTS") == "long"
AT_ONCE = 2
SHORT = (
    "flip engine.db",
    "flip readmodel.db",
    "flip witness.log",
    "cut stream index",
    "append 20",
    "cut readmodel.db",
    "cut stream meta",
    "remove stream index",
    "append 3",
    "append 4096",
    "swap",
    "swap blocks",
    "directory for event blocks",
    "remove event blocks, running",
    "remove blob blocks",
    "older readmodel.db",
    "older everything",
    "directory for engine.db",
    "flip outside witness",
    "cut identity.json",
    "foreign garbage",
    "foreign schema 99",
    "foreign wrong prev",
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A case of each kind, on copies of one store."""
    campaign = Campaign(tmp_path_factory.mktemp("damage"), SEED, pipelines=10, jobs=2, large=False, only=SHORT)
    return {case.kind: case for case in islice(campaign.cases(), len(SHORT))}


@pytest.mark.parametrize("kind", SHORT)
def test_damage_is_reported_and_nothing_else_is(kind: str, cases: dict[str, Case]) -> None:
    """No answer differs without a report; no alarm without damage; no hang and no traceback."""
    result = cases[kind].run()
    assert not result.failed, f"seed {SEED}: {result}\n" + "\n".join(result.details)


@pytest.mark.skipif(not LONG, reason="TRACKBOOK_FAULTS=long makes it")
def test_three_hundred_damages(tmp_path: Path) -> None:
    """The same of 300 damages of every kind."""
    campaign = Campaign(tmp_path, SEED)
    found = list(campaign.run(300, AT_ONCE))
    print(table(found))
    failed = [f"{result}\n" + "\n".join(result.details) for result in found if result.failed]
    assert not failed, f"seed {SEED}: {len(failed)} failed\n" + "\n\n".join(failed)
