"""Archives of code: whether one is stored, and its upload. The pipeline's version names it by its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from typing import Annotated, Any, BinaryIO

from litestar import Request, Response, Router, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import PathParameter
from msgspec import Struct

from trackbook.adapters.execution.code_archive import MOST_BYTES, BadCode, check
from trackbook.http.endpoints.parameters import Served
from trackbook.http.errors import error_responses
from trackbook.http.ports import Services
from trackbook.projections.read.paging import ReadError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20

Hash = Annotated[str, PathParameter(description="The SHA-256 of the archive, in hex.")]


class CodeView(Struct):
    """An archive of code by its SHA-256, and whether it is stored here."""

    sha256: str
    stored: bool


class ArchiveOperation(Operation):
    """Documents that the body is a tar archive, which is read as a stream."""

    def __post_init__(self) -> None:
        content: Any = {"application/octet-stream": OpenAPIMediaType(schema=Schema())}
        self.request_body = RequestBody(
            content=content, required=True, description="The archive, with its length."
        )


CREATED = {201: ResponseSpec(CodeView, generate_examples=False, description="It was not stored before")}


@get("/{sha256:str}", responses=error_responses())
async def get_code(services: Served, sha256: Hash) -> CodeView:
    """Return whether an archive is stored."""
    return CodeView(_validate_digest(sha256), await services.blobs.has(sha256))


@put(
    "/{sha256:str}",
    responses=error_responses(403, 411, 413, 415, 422) | CREATED,
    operation_class=ArchiveOperation,
    request_max_body_size=None,
)
async def put_code(services: Served, request: Request[Any, Any, Any], sha256: Hash) -> Response[CodeView]:
    """Store an archive: a plain tar of up to 100 MiB with files, folders and symbolic links inside it."""
    _validate_digest(sha256)
    if request.content_length is None:
        raise ReadError("length_required", "say how long the archive is, with Content-Length")
    if request.content_length > MOST_BYTES:
        message = f"an archive of code may have {MOST_BYTES:,} bytes, not {request.content_length:,}"
        raise ReadError("too_large", message)
    if await services.blobs.has(sha256):
        return Response(CodeView(sha256, stored=True), status_code=200)
    with tempfile.TemporaryFile() as file:
        await _receive(request, file)
        await _store(services, file, sha256)
    return Response(CodeView(sha256, stored=True), status_code=201)


def _validate_digest(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ReadError("invalid_parameter", "an archive is named by its SHA-256: 64 hex digits in lower case")
    return sha256


async def _receive(request: Request[Any, Any, Any], file: BinaryIO) -> None:
    """Write the body to a file; raises ReadError where it is not as long as was said."""
    length, taken = request.content_length or 0, 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > length:
            break
        file.write(chunk)
    if taken != length:
        raise ReadError("incomplete_body", f"the body has {taken:,} bytes, {length:,} were announced")
    file.seek(0)


async def _store(services: Services, file: BinaryIO, sha256: str) -> None:
    """Store the archive; raises ReadError for one of another hash, or that would not be unpacked."""
    found = await asyncio.to_thread(_digest, file)
    if found != sha256:
        raise ReadError("wrong_hash", f"the archive has the SHA-256 {found}, not {sha256}", "Send it again.")
    file.seek(0)
    try:
        await asyncio.to_thread(check, file)
    except BadCode as bad:
        raise ReadError("bad_archive", f"the archive can't be used: {bad}") from None
    file.seek(0)
    async with services.storing:
        await services.blobs.put(await asyncio.to_thread(file.read))


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


router = Router("/api/code", route_handlers=[get_code, put_code], tags=["code"])
