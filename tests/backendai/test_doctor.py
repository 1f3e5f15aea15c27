"""What `trackbook doctor` says of a real manager, and of one that can't be used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backendai.cluster import Cluster
from backendai.worlds import settings
from trackbook.adapters.backendai.api import client as clients
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.preflight.diagnose import diagnose
from trackbook.engine.ports import Finding

INSTALLATION = "0d0c70aa"


async def looked(
    cluster: Cluster, clock: Callable[[], datetime] = clients.utc_now, **other: Any
) -> dict[str, Finding]:
    """Return the findings by what was looked at."""
    connection = ClusterConnection(settings(cluster, **other), INSTALLATION)
    connection.client._clock = clock
    try:
        found = await diagnose(connection)
    finally:
        await connection.close()
    assert connection.cluster.secret_key not in str(found)
    return {each.what: each for each in found}


async def test_all_is_well_with_a_manager_that_is(stack: Cluster) -> None:
    """Every line is good, and says what there is."""
    found = await looked(stack)

    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(
        ("endpoint", "clock", "manager", "key", "domain", "project", "scaling groups", "images", "resources",
         "storage", "events"), "ok",
    )  # fmt: skip
    assert stack.version in found["manager"].found
    assert stack.image in found["images"].found
    assert "cpu" in found["resources"].found
    assert "agent" in found["resources"].found


async def test_the_storage_proxy_is_tried_where_there_is_a_folder(stack: Cluster, tmp_path: Path) -> None:
    """A file that isn't there is asked for through it."""
    connection = ClusterConnection(settings(stack), INSTALLATION)
    folders = ClusterFolders(Storage(connection.client), tmp_path, INSTALLATION)
    await folders.create("d0c")
    try:
        found = await looked(stack)
    finally:
        await folders.purge("d0c")
        await connection.close()

    assert "the storage proxy answers" in found["storage"].found


@pytest.mark.parametrize(
    ("other", "what", "words", "hint"),
    [
        ({"endpoint": "http://nowhere.invalid:8081"}, "endpoint", "nowhere.invalid can't be resolved", "DNS"),
        ({"endpoint": "http://127.0.0.1:9"}, "endpoint", "can't be reached", "whether the manager runs"),
        ({"secret_key": "wrong"}, "key", "mismatch", "`secret_key`"),
        ({"access_key": "AKIANOBODY"}, "key", "Access key not found", "`access_key`"),
        ({"project": "research"}, "project", "there is no project 'research'", "default"),
        ({"domain": "other"}, "domain", "belongs to 'default'", "domain = 'default'"),
        ({"scaling_group": "gpu"}, "scaling groups", "there is no 'gpu'", "default"),
        ({"vfolder_host": "local:other"}, "storage", "there is no volume", "local:volume1"),
    ],
)
async def test_each_thing_that_is_amiss_has_its_words(
    stack: Cluster, other: dict[str, Any], what: str, words: str, hint: str
) -> None:
    """What was found, and what to do about it."""
    found = (await looked(stack, **other))[what]

    assert found.verdict == "fail"
    assert words in found.found
    assert hint in found.hint


async def test_what_is_no_manager_is_reported(stack: Cluster) -> None:
    """An address below the API's, and one where https is expected and not spoken."""
    below = (await looked(stack, endpoint=f"{stack.endpoint}/folders"))["endpoint"]
    plain = (await looked(stack, endpoint=stack.endpoint.replace("http:", "https:")))["endpoint"]

    assert below.verdict == plain.verdict == "fail"
    assert "the manager's API" in below.hint
    assert "does it speak http, not https?" in plain.hint


@pytest.mark.parametrize(("seconds", "verdict"), [(30, "ok"), (100, "warn"), (-100, "warn"), (3000, "fail")])
async def test_clocks_are_compared(stack: Cluster, seconds: int, verdict: str) -> None:
    """To the second; beyond what the manager takes, all else is looked at all the same."""
    found = await looked(stack, lambda: clients.utc_now() + timedelta(seconds=seconds))

    assert found["clock"].verdict == verdict
    reported = [int(word) for word in found["clock"].found.split() if word.isdecimal()]
    assert abs(reported[0] - abs(seconds)) <= 2
    assert found["key"].verdict == "ok"
