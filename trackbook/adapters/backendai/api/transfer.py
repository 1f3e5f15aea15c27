"""Files to and from the storage proxy, over connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from trackbook.adapters.backendai.api.client import Client, part
from trackbook.adapters.backendai.api.errors import ClusterError, no_answer, refusal
from trackbook.adapters.execution.back_off import with_jitter

_TRIES = 6
"""How often in a row a transfer may break without a byte getting through."""
_FIRST_PAUSE = 0.2
_SILENCE = 60.0
_CHUNK = 4 * 2**20
"""Bytes sent in one request, which is what is kept in memory to be sent again."""
_LEAST = 65536
_TUS = {"Tus-Resumable": "1.0.0"}


class Transfer:
    """Downloads and uploads of one cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, folder: str, path: str, start: int, end: int | None) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`; where it breaks, it resumes there with a new token.

        A file that was replaced in between is a ClusterError, kind infrastructure: read it again.
        """
        at, tries, etag = start, _TRIES, ""
        while end is None or at < end:
            try:
                async with aclosing(self._part(folder, path, at, end)) as chunks:
                    async for seen, chunk in chunks:
                        if etag and seen != etag:
                            raise self._error("changed", f"the file {path} was replaced while it was read")
                        etag, tries = seen, _TRIES
                        at += len(chunk)
                        yield chunk
            except httpx.HTTPError as lost:
                tries -= 1
                await self._pause(lost, tries)
            else:
                return

    async def archive(self, folder: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder as a zip archive; one that breaks is a ClusterError, since no part can be asked for.

        A proxy that meets a file that it can't read (a link that leads nowhere) sends nothing more.
        """
        url = await self._url(folder, "request-download", {"path": path, "archive": True})
        http = self._client.http
        try:
            async with http.stream("GET", f"{url}&archive=true", timeout=_SILENCE) as answer:
                if not answer.is_success:
                    content = await answer.aread()
                    raise refusal(self._client.cluster.name, answer, content, changes=False)
                async for chunk in answer.aiter_raw():
                    yield chunk
        except httpx.HTTPError as lost:
            raise no_answer(self._client.cluster.name, lost, changes=False) from None

    async def measure(self, folder: str, path: str) -> tuple[int, datetime | None]:
        """Return size and time of change of a file; ClusterError `file-not-found` without it."""
        url = await self._url(folder, "request-download", {"path": path, "archive": False})
        headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}  # not every proxy answers to HEAD
        try:
            async with self._client.http.stream("GET", url, headers=headers, timeout=_SILENCE) as answer:
                if not answer.is_success and answer.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    content = await answer.aread()
                    raise refusal(self._client.cluster.name, answer, content, changes=False)
        except httpx.HTTPError as lost:
            raise no_answer(self._client.cluster.name, lost, changes=False) from None
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(whole) if whole.isdecimal() else int(answer.headers.get("Content-Length", 0))
        changed = answer.headers.get("Last-Modified")
        return size, parsedate_to_datetime(changed) if changed else None

    async def _pause(self, lost: httpx.HTTPError, tries: int) -> None:
        """Wait until the next try; raises ClusterError where there is none left."""
        if not tries:
            raise no_answer(self._client.cluster.name, lost, changes=False) from None
        await asyncio.sleep(with_jitter(_FIRST_PAUSE * 2 ** (_TRIES - tries - 1)))

    async def _part(
        self, folder: str, path: str, start: int, end: int | None
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        url = await self._url(folder, "request-download", {"path": path, "archive": False})
        headers = {"Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        async with self._client.http.stream("GET", url, headers=headers, timeout=_SILENCE) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing there, yet
            if not answer.is_success:
                content = await answer.aread()
                raise refusal(self._client.cluster.name, answer, content, changes=False)
            async for chunk in answer.aiter_raw():
                yield answer.headers.get("ETag", ""), chunk

    async def _url(self, folder: str, what: str, body: dict[str, object]) -> str:
        answer = await self._client.request("POST", f"/folders/{part(folder)}/{what}", body=body, changes=False)
        return f"{answer['url']}?token={answer['token']}"

    async def write(self, folder: str, path: str, chunks: AsyncIterator[bytes], size: int) -> bool:
        """Upload a file in the TUS protocol, resumed at the offset that the proxy tells where it breaks.

        Returns False where the last answer was lost and the proxy has closed the upload, as it does when all is
        there: look. Raises ValueError for chunks that aren't `size` bytes; the file isn't written then.
        """
        url = await self._url(folder, "request-upload", {"path": path, "size": size})
        at, sure = 0, True
        async for piece in _pieces(chunks, size):
            sure = await self._send(url, piece, at, last=at + len(piece) == size)
            at += len(piece)
        return sure

    async def _send(self, url: str, piece: bytes, at: int, *, last: bool) -> bool:
        """Send a piece that begins at byte `at` of the file.

        23.09 appends whatever comes, wherever it belongs; 26.8 forgets a request that broke, so that less is sent
        in the next one.
        """
        offset, tries, end, most = at, _TRIES, at + len(piece), len(piece)
        while True:
            headers = _TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            part_of = piece[offset - at :][:most]
            try:
                answer = await self._client.http.patch(url, content=part_of, headers=headers, timeout=_SILENCE)
            except httpx.HTTPError as lost:
                tries -= 1
                await self._pause(lost, tries)
                found = await self._offset(url, tries)
                if found is None and last:
                    return False
                most = max(_LEAST, len(part_of) // 2)
            else:
                found = self._read_offset(answer)
            if found == end:
                return True
            if found is None or not offset <= found < end:
                raise self._error("upload-broken", f"the upload stands at byte {found}, and not at {end}")
            if found > offset:
                offset, tries = found, _TRIES

    async def _offset(self, url: str, tries: int) -> int | None:
        """Return where the upload stands, None where it is over."""
        while True:
            try:
                answer = await self._client.http.head(url, headers=_TUS, timeout=_SILENCE)
            except httpx.HTTPError as lost:
                tries -= 1
                await self._pause(lost, max(tries, 0))
            else:
                return None if answer.status_code == httpx.codes.NOT_FOUND else self._read_offset(answer)

    def _read_offset(self, answer: httpx.Response) -> int:
        if not answer.is_success:
            raise refusal(self._client.cluster.name, answer, answer.content, changes=False)
        return int(answer.headers["Upload-Offset"])

    def _error(self, slug: str, message: str) -> ClusterError:
        return ClusterError(self._client.cluster.name, "infrastructure", slug, message)


async def _pieces(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield the chunks cut again, one at least; raises ValueError before the last if they aren't `size` bytes."""
    held, seen = bytearray(), 0
    async for chunk in chunks:
        held += chunk
        seen += len(chunk)
        if seen > size:
            raise ValueError(f"there are more than the {size} bytes announced")
        while len(held) > _CHUNK:
            yield bytes(held[:_CHUNK])
            del held[:_CHUNK]
    if seen != size:
        raise ValueError(f"there are {seen} bytes, not the {size} announced")
    yield bytes(held)
