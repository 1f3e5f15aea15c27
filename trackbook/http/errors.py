"""Errors as readers get them: `{"error": {"code", "message", "hint"?}}` with the status that fits."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from trackbook.engine.errors import Refused
from trackbook.engine.names import did_you_mean
from trackbook.engine.ports import (
    BlobMissing,
    ExecutorUnavailable,
    FolderMissing,
    NoSuchFile,
    StoreUnanswered,
    UnsafePath,
)
from trackbook.private_files import NotAFile
from trackbook.projections.errors import DamagedError, UnavailableError
from trackbook.projections.read.paging import ReadError
from trackbook.projections.write.projector import NotProjectedError, SequenceUnknownError
from trackbook.runtime.commands.gateway import UNANSWERED
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.process.disk_full import FREE_SPACE, is_full

_log = logging.getLogger(__name__)
_CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_CONFLICTS = ("_exists", "_ended", "_taken", "_deleted", "_reused", "_conflict", "_changed", "_running")
_STATUSES = {
    "ambiguous_id": 409,
    "ambiguous_path": 409,
    "unknown_command": 404,
    "unavailable": 503,
    "store_unanswered": 503,
    "outcome_unknown": 503,
    "not_a_file": 503,
    "invalid_json": 400,
    "reserved_actor": 403,
    "invalid_cursor": 400,
    "invalid_parameter": 400,
    "unknown_parameter": 400,
    "too_large": 413,
    "range_not_satisfiable": 416,
    "folder_missing": 404,
    "no_such_file": 404,
    "unsafe_path": 400,
    "is_a_folder": 409,
    "job_unfinished": 409,
    "length_required": 411,
    "incomplete_body": 400,
    "executor_unavailable": 503,
    "disk_full": 503,
    "log_damaged": 503,
    "history_damaged": 409,
    "backup_refused": 409,
    "not_quarantined": 409,
}


class Problem(Struct, omit_defaults=True):
    """What went wrong: a stable code, words, and what to try."""

    code: str
    message: str
    hint: str = ""


class ErrorBody(Struct):
    """The body of every error."""

    error: Problem


def error_responses(*more: int) -> dict[int, ResponseSpec]:
    """Return what the OpenAPI document says of an endpoint's errors, these statuses among them."""
    statuses = sorted({400, 404, 409, 503, 504, *more})
    return {
        status: ResponseSpec(ErrorBody, generate_examples=False, description=HTTPStatus(status).phrase)
        for status in statuses
    }


ERRORS = error_responses()


def status_of(code: str) -> int:
    """Return the HTTP status that fits a refusal's code."""
    if code in _STATUSES:
        return _STATUSES[code]
    if code.endswith("_not_found"):
        return 404
    return 409 if code.endswith(_CONFLICTS) else 422


def _answer(status: int, code: str, message: str, hint: str = "") -> Response[ErrorBody]:
    return Response(ErrorBody(Problem(code, message, hint)), status_code=status, media_type=MediaType.JSON)


def on_read_error(_: Request[Any, Any, Any], error: ReadError) -> Response[ErrorBody]:
    """Answer what can't be shown, with the name that was probably meant."""
    meant = did_you_mean(error.name, error.known) if error.name else ""
    return _answer(status_of(error.code), error.code, error.message, f"{meant} {error.hint}".strip())


def on_refused(_: Request[Any, Any, Any], error: Refused) -> Response[ErrorBody]:
    """Answer what the engine refuses to show."""
    return _answer(status_of(error.code), error.code, error.message, error.hint)


def on_not_projected(_: Request[Any, Any, Any], error: NotProjectedError) -> Response[ErrorBody]:
    """Answer a read that waited in vain for the sequence it asked for."""
    return _answer(
        504, "not_projected", str(error), "Read again later; /health/ready shows the state of the system."
    )


def on_sequence_unknown(_: Request[Any, Any, Any], error: SequenceUnknownError) -> Response[ErrorBody]:
    """Answer a read that asked for a sequence beyond the end of the log."""
    return _answer(400, "sequence_unknown", str(error), "`after` is the `seq` of a command's reply.")


def on_unavailable(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """Answer while the read model's file can't be read."""
    return _answer(503, "read_model_unavailable", str(error), "It is made again from the log; read again later.")


def on_history_damaged(_: Request[Any, Any, Any], error: HistoryDamaged) -> Response[ErrorBody]:
    """Answer a read of a history that is not intact."""
    return _answer(status_of("history_damaged"), "history_damaged", str(error), error.hint)


def on_blob_missing(_: Request[Any, Any, Any], error: BlobMissing) -> Response[ErrorBody]:
    """Answer a read of a commit whose large body is lost."""
    return _answer(
        status_of("history_damaged"), "history_damaged", str(error), "`trackbook audit verify` lists it."
    )


def on_store_unanswered(_: Request[Any, Any, Any], error: StoreUnanswered) -> Response[ErrorBody]:
    """Answer while the broker answers no reads."""
    return _answer(status_of("store_unanswered"), "store_unanswered", str(error), UNANSWERED)


def on_not_a_file(_: Request[Any, Any, Any], error: NotAFile) -> Response[ErrorBody]:
    """Answer where something else is in the place of a file of Trackbook's."""
    return _answer(status_of("not_a_file"), "not_a_file", str(error), error.hint)


def on_folder_missing(request: Request[Any, Any, Any], error: FolderMissing) -> Response[ErrorBody]:
    """Answer where a pipeline has no folder: nothing to read, or nowhere to write."""
    hint = "`trackbook files create PIPELINE` makes it again; another executor is named by `executor=`."
    return _answer(409 if request.method in ("PUT", "POST") else 404, "folder_missing", str(error), hint)


def on_no_such_file(_: Request[Any, Any, Any], error: NoSuchFile) -> Response[ErrorBody]:
    """Answer for a file that is not there."""
    return _answer(404, "no_such_file", str(error))


def on_unsafe_path(_: Request[Any, Any, Any], error: UnsafePath) -> Response[ErrorBody]:
    """Answer a path that leads out of the folder, or can't be one."""
    return _answer(400, "unsafe_path", str(error))


def on_executor_unavailable(_: Request[Any, Any, Any], error: ExecutorUnavailable) -> Response[ErrorBody]:
    """Answer while an executor can't be reached, or its folders can't."""
    return _answer(503, "executor_unavailable", str(error))


def on_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """Answer what the framework found wrong with a request."""
    message = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        message = "; ".join(f"{each.get('key', 'request')}: {each['message']}" for each in error.extra)
    return _answer(error.status_code, _CODES.get(error.status_code, "error"), message)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """Answer a full disk in words, and what should not happen; the log has the rest."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if is_full(error):
        return _answer(status_of("disk_full"), "disk_full", f"there is no room left: {error}", FREE_SPACE)
    return _answer(500, "internal_error", "the server failed to answer; see its log")


HANDLERS: dict[int | type[Exception], Any] = {
    ReadError: on_read_error,
    Refused: on_refused,
    SequenceUnknownError: on_sequence_unknown,
    NotProjectedError: on_not_projected,
    DamagedError: on_unavailable,
    UnavailableError: on_unavailable,
    HistoryDamaged: on_history_damaged,
    BlobMissing: on_blob_missing,
    StoreUnanswered: on_store_unanswered,
    NotAFile: on_not_a_file,
    FolderMissing: on_folder_missing,
    NoSuchFile: on_no_such_file,
    UnsafePath: on_unsafe_path,
    ExecutorUnavailable: on_executor_unavailable,
    HTTPException: on_http,
    Exception: on_unexpected,
}
