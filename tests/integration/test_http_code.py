"""Archives of code over HTTP: asked for, uploaded once, whole, checked before anything is stored."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from histories.made import History
from histories.served import TOKEN, Site, site

from trackbook.http.endpoints import code

BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over an empty log."""
    async with site(History(), tmp_path / "readmodel.db") as found:
        yield found


def archive(name: str = "main.py", data: bytes = b"x" * 300_000) -> tuple[str, bytes]:
    """Return an archive of one file, with its hash."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as made:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        made.addfile(info, io.BytesIO(data))
    return hashlib.sha256(file.getvalue()).hexdigest(), file.getvalue()


async def stored(served: Site, sha256: str) -> bool:
    """Ask whether an archive is stored."""
    answer = await served.get(f"/api/code/{sha256}")
    assert answer["sha256"] == sha256
    return bool(answer["stored"])


async def test_an_archive_is_stored_once(served: Site) -> None:
    """It is not there before, is there afterwards, and sent again it is left as it is."""
    sha256, data = archive()
    before = await stored(served, sha256)

    first = await served.client.put(f"/api/code/{sha256}", content=data, headers=BYTES)
    again = await served.client.put(f"/api/code/{sha256}", content=data, headers=BYTES)

    assert (before, await stored(served, sha256)) == (False, True)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == {"sha256": sha256, "stored": True}
    assert await served.history.blobs.get(sha256) == data
    assert served.history.blobs.writes == 1


@pytest.mark.parametrize(
    ("sha256", "data", "status", "problem"),
    [
        ("f" * 64, archive()[1], 422, "wrong_hash"),
        (hashlib.sha256(b"noise").hexdigest(), b"noise", 422, "bad_archive"),
        (*archive("../evil"), 422, "bad_archive"),
        ("abc", b"x", 400, "invalid_parameter"),
        ("F" * 64, b"x", 400, "invalid_parameter"),
    ],
)
async def test_what_is_no_archive_of_that_hash_is_refused(
    served: Site, sha256: str, data: bytes, status: int, problem: str
) -> None:
    """Another hash, noise, and an archive that no executor would unpack: refused, and nothing is stored."""
    answer = await served.client.put(f"/api/code/{sha256}", content=data, headers=BYTES)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, problem), answer.text
    assert served.history.blobs.writes == 0


async def test_too_large_an_archive_is_refused_at_once(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one whose length nobody says."""
    sha256, data = archive()
    monkeypatch.setattr(code, "MOST_BYTES", 1000)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    large = await served.client.put(f"/api/code/{sha256}", content=data, headers=BYTES)
    unsized = await served.client.put(f"/api/code/{sha256}", content=chunks(), headers=BYTES)

    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    assert (unsized.status_code, unsized.json()["error"]["code"]) == (411, "length_required")


async def test_an_upload_that_breaks_leaves_nothing(served: Site) -> None:
    """A client that dies in the middle of its upload has stored nothing, and may begin again."""
    sha256, data = archive()
    address = urlsplit(str(served.client.base_url))
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"PUT /api/code/{sha256} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[:100_000])
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert not await stored(served, sha256)
    whole = await served.client.put(f"/api/code/{sha256}", content=data, headers=BYTES)
    assert whole.status_code == 201


async def test_nobody_stores_code_without_the_token(served: Site) -> None:
    """Like everything else, an archive is taken from those alone who have the token."""
    sha256, data = archive()
    headers = BYTES | {"authorization": "Bearer no"}

    answers = [
        await served.client.put(f"/api/code/{sha256}", content=data, headers=headers),
        await served.client.get(f"/api/code/{sha256}", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
