"""The files in a pipeline's folder: listed, sent in parts, taken whole, deleted."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote

from litestar import HttpMethod, MediaType, Request, Response, Router, delete, get, put, route
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from trackbook.engine.files import clean
from trackbook.engine.ports import CutListing, FileEntry, Folders, NoSuchFile
from trackbook.http.endpoints.byte_ranges import byte_range
from trackbook.http.endpoints.folders import find_folder, require_writable
from trackbook.http.endpoints.parameters import After, ExecutorName, PipelineKey, Served
from trackbook.http.endpoints.path_spelling import with_stored_spelling
from trackbook.http.errors import ErrorBody, Problem, error_responses
from trackbook.projections.decoded_commit import closing
from trackbook.projections.read.paging import ReadError
from trackbook.projections.times import text_of, to_micros
from trackbook.projections.views import Time

BYTES, ZIP = "application/octet-stream", "application/zip"
MOST = 100_000
"""Files of a folder in one answer: each page is a listing of the whole folder again."""

FilePath = Annotated[str, QueryParameter(name="path", description="The path in the folder; itself by default.")]
OneFile = Annotated[str, QueryParameter(name="path", description="The file's path in the folder.")]
FileLimit = Annotated[int, QueryParameter(ge=1, le=MOST, description="How many items at most.")]
FileCursor = Annotated[str | None, QueryParameter(description="`next` of the page before.", max_length=1000)]
Range = Annotated[str | None, HeaderParameter(name="Range", description="`bytes=FIRST-LAST`")]
IfRange = Annotated[
    str | None, HeaderParameter(name="If-Range", description="The ETag of the file that a part is asked of.")
]
Recursive = Annotated[bool, QueryParameter(description="Delete a folder with all that is in it.")]

Executable = Annotated[
    bool,
    QueryParameter(
        description="Let it be run, where the executor's storage can: see `executable` in the answer."
    ),
]


class FileView(Struct):
    """A file or folder; `path` is relative to where was looked, `size` in bytes (0 for a folder).

    `executable`: its owner may run it.
    """

    name: str
    path: str
    type: str
    size: int
    modified_at: Time | None
    executable: bool


class FilePage(Struct):
    """A part of a folder's entries; `may_be_cut`: the executor's storage may have left some out."""

    items: list[FileView]
    next: str | None = None
    may_be_cut: bool = False


class DeletedFile(Struct):
    """What was deleted."""

    path: str


class FileOperation(Operation):
    """Documents that the body is a file's bytes, which are written as they arrive."""

    def __post_init__(self) -> None:
        content: Any = {BYTES: OpenAPIMediaType(schema=Schema())}
        self.request_body = RequestBody(content=content, required=True, description="The file, with its length.")


CREATED = {201: ResponseSpec(FileView, generate_examples=False, description="It was not there before")}
PART = {206: ResponseSpec(bytes, generate_examples=False, media_type=BYTES, description="The part asked for")}


class Area(Struct):
    """A part of a pipeline's folder as requests name it, relative to `below`; `label` is the pipeline's name."""

    folders: Folders
    pipeline: str
    below: str = ""
    label: str = ""

    def path(self, path: str) -> str:
        """Return a path of the request as one in the pipeline's folder; raises UnsafePath."""
        return "/".join(part for part in (self.below, clean(path)) if part)

    def view(self, entry: FileEntry) -> FileView:
        """Return an entry as it is shown."""
        path = entry.path[len(self.below) :].removeprefix("/") if self.below else entry.path
        at = text_of(entry.modified_at) if entry.modified_at else None
        return FileView(entry.name, path, entry.type, entry.size, at, entry.executable)

    async def stat(self, path: str) -> FileEntry:
        """Return one entry, under its path as it is spelled there; raises as `Folders` does."""
        given = self.path(path)
        try:
            return await self.folders.stat(self.pipeline, given)
        except NoSuchFile:
            spelled = await with_stored_spelling(self.folders, self.pipeline, given)
            if spelled == given:
                raise
            return await self.folders.stat(self.pipeline, spelled)

    async def target(self, path: str) -> tuple[str, bool]:
        """Return the path to write a file to, as it is spelled there, and whether it is a new one."""
        try:
            return (await self.stat(path)).path, False
        except LookupError:
            return await with_stored_spelling(self.folders, self.pipeline, self.path(path)), True


async def listing(area: Area, path: str, limit: int, cursor: str | None) -> FilePage:
    """Return a folder's entries by name, or the one of a file."""
    try:
        entries: Sequence[FileEntry] = await area.folders.entries(area.pipeline, area.path(path))
    except NoSuchFile:
        entry = await area.stat(path) if path else None
        if entry is None or (entry.type == "folder" and entry.path == area.path(path)):
            raise
        entries = [entry] if entry.type == "file" else await area.folders.entries(area.pipeline, entry.path)
    names = [entry.name for entry in entries]
    start = bisect_right(names, _name(cursor)) if cursor else 0
    shown = entries[start : start + limit]
    following = _cursor(shown[-1].name) if start + limit < len(entries) else None
    # Not on the loop: a hundred thousand of them take it half a second.
    views = await asyncio.to_thread(lambda: [area.view(entry) for entry in shown])
    return FilePage(views, following, isinstance(entries, CutListing))


async def file_part(
    area: Area, path: str, asked: str | None, if_range: str | None, *, body: bool = True
) -> Stream | Response[ErrorBody]:
    """Return a file, or the part of it that was asked for; only its headers without `body`."""
    entry = await area.stat(path)
    if entry.type == "folder":
        raise ReadError("no_such_file", f"{path!r} is a folder, not a file", "List it.")
    tag = _tag(entry)
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(entry.name, safe='')}",
    } | ({"etag": tag} if tag else {})
    found = byte_range(asked, entry.size) if asked and if_range in (None, tag) else None
    first, last = found or (0, entry.size - 1)
    if found:
        headers["content-range"] = f"bytes {first}-{last}/{entry.size}"
        if first > last:
            message = f"the file has {entry.size} bytes, {asked!r} asks for none of them"
            headers["content-range"] = f"bytes */{entry.size}"
            refusal = ErrorBody(Problem("range_not_satisfiable", message))
            return Response(refusal, status_code=416, headers=headers, media_type=MediaType.JSON)
    headers["content-length"] = str(last + 1 - first)
    pieces = _pieces(area, entry.path, first, last + 1 if body else first)
    return Stream(pieces, status_code=206 if found else 200, headers=headers, media_type=BYTES)


async def _pieces(area: Area, path: str, start: int, end: int) -> AsyncIterator[bytes]:
    if start < end:
        async with closing(area.folders.read(area.pipeline, path, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk


async def archive(area: Area, path: str) -> Stream:
    """Return a folder as an archive, after its first bytes are there: later failures only break it off."""
    chunks = area.folders.archive(area.pipeline, area.path(path))
    try:
        first = await anext(chunks, b"")
    except NoSuchFile:
        chunks = area.folders.archive(area.pipeline, (await area.stat(path)).path)
        first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        async with closing(chunks) as rest:
            yield first
            async for chunk in rest:
                yield chunk

    return Stream(whole(), media_type=ZIP, headers={"content-disposition": "attachment"})


async def store_file(
    area: Area, path: str, request: Request[Any, Any, Any], *, executable: bool
) -> Response[FileView]:
    """Write the body as a file, whole or not at all."""
    size = request.content_length
    if size is None:
        raise ReadError("length_required", "say how long the file is, with Content-Length")
    target, new = await area.target(path)
    try:
        chunks, label = request.stream(), area.label
        await area.folders.write(area.pipeline, target, chunks, size, label, executable=executable)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise ReadError("incomplete_body", str(error)) from None
    written = await area.folders.stat(area.pipeline, target)
    return Response(area.view(written), status_code=201 if new else 200)


async def remove(area: Area, path: str, *, recursive: bool) -> DeletedFile:
    """Delete a file; a folder only where that was meant."""
    if not recursive and (await area.stat(path)).type == "folder":
        raise ReadError(
            "is_a_folder", f"{path!r} is a folder", "Delete it with all that is in it: recursive=true."
        )
    try:
        await area.folders.delete(area.pipeline, area.path(path))
    except NoSuchFile:
        await area.folders.delete(area.pipeline, (await area.stat(path)).path)
    return DeletedFile(clean(path))


def _tag(entry: FileEntry) -> str | None:
    """Return the file's ETag, None if the executor reports neither size nor time."""
    return f'"{entry.size:x}-{to_micros(entry.modified_at):x}"' if entry.modified_at else None


def _cursor(name: str) -> str:
    return urlsafe_b64encode(name.encode()).decode()


def _name(cursor: str) -> str:
    with suppress(ValueError):
        name = urlsafe_b64decode(cursor).decode()
        if _cursor(name) == cursor:
            return name
    raise ReadError("invalid_cursor", f"{cursor!r} is not a cursor of this list", "Take it from `next`.")


# Of a pipeline ------------------------------------------------------------------------------------------------


async def _area(services: Served, pipeline: str, executor: str, after: int | None) -> Area:
    folder = await find_folder(services, pipeline, executor, after)
    return Area(folder.folders, folder.pipeline.id)


@get("/{pipeline:str}/files", responses=error_responses(422))
async def list_files(
    services: Served,
    pipeline: PipelineKey,
    path: FilePath = "",
    executor: ExecutorName = "",
    limit: FileLimit = 1000,
    cursor: FileCursor = None,
    after: After = None,
) -> FilePage:
    """List a folder of a pipeline's folder by name; of a file, itself."""
    return await listing(await _area(services, pipeline, executor, after), path, limit, cursor)


@get("/{pipeline:str}/files/content", responses=error_responses(416, 422) | PART, media_type=BYTES)
async def get_file(
    services: Served,
    pipeline: PipelineKey,
    path: OneFile,
    executor: ExecutorName = "",
    bytes_range: Range = None,
    if_range: IfRange = None,
    after: After = None,
) -> Stream | Response[ErrorBody]:
    """Send a file, or a range of its bytes: always as an attachment that no browser shows."""
    return await file_part(await _area(services, pipeline, executor, after), path, bytes_range, if_range)


@get("/{pipeline:str}/files/archive", responses=error_responses(422), media_type=ZIP)
async def get_archive(
    services: Served, pipeline: PipelineKey, path: OneFile, executor: ExecutorName = "", after: After = None
) -> Stream:
    """Send a folder with all that is in it as a zip archive, also where a list of it would be cut."""
    return await archive(await _area(services, pipeline, executor, after), path)


@route("/{pipeline:str}/files/content", http_method=HttpMethod.HEAD, include_in_schema=False, media_type=BYTES)
async def head_file(
    services: Served,
    pipeline: PipelineKey,
    path: OneFile,
    executor: ExecutorName = "",
    bytes_range: Range = None,
    after: After = None,
) -> Stream | Response[ErrorBody]:
    """Return a file's length without its content."""
    area = await _area(services, pipeline, executor, after)
    return await file_part(area, path, bytes_range, None, body=False)


@put(
    "/{pipeline:str}/files/content",
    responses=error_responses(403, 411, 415, 422) | CREATED,
    operation_class=FileOperation,
    request_max_body_size=None,
)
async def put_file(
    services: Served,
    request: Request[Any, Any, Any],
    pipeline: PipelineKey,
    path: OneFile,
    executor: ExecutorName = "",
    executable: Executable = False,
) -> Response[FileView]:
    """Write a file and the folders above it, in the place of one that is there: whole or not at all."""
    folder = require_writable(await find_folder(services, pipeline, executor, None))
    area = Area(folder.folders, folder.pipeline.id, label=folder.pipeline.name)
    return await store_file(area, path, request, executable=executable)


@delete("/{pipeline:str}/files/content", responses=error_responses(403, 415, 422), status_code=200)
async def delete_file(
    services: Served,
    pipeline: PipelineKey,
    path: OneFile,
    executor: ExecutorName = "",
    recursive: Recursive = False,
) -> DeletedFile:
    """Delete a file, or a folder with all that is in it."""
    return await remove(await _area(services, pipeline, executor, None), path, recursive=recursive)


router = Router(
    "/api/pipelines",
    route_handlers=[list_files, get_file, get_archive, head_file, put_file, delete_file],
    tags=["files"],
)
