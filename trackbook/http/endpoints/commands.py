"""Commands over HTTP: the same requests and replies as on NATS."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, PathParameter
from msgspec import Struct

from trackbook.engine.names import did_you_mean
from trackbook.http.endpoints.parameters import Served
from trackbook.http.errors import error_responses, status_of
from trackbook.http.ports import Services
from trackbook.projections.read.paging import ReadError
from trackbook.projections.write.projector import NotProjectedError

BODY_LIMIT = 16 * 1024 * 1024
_SETTLED_WITHIN = 2.0
_ACTOR = re.compile(r"[\w.@:+/=-]{1,64}")


class Rebuilt(Struct):
    """The read model was made again; its rows hold the log up to this sequence."""

    checkpoint: int


@dataclass
class CommandOperation(Operation):
    """Documents that the body is a JSON object, which the gateway decodes itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            content={"application/json": OpenAPIMediaType(schema=Schema(type="object"))},  # type: ignore[arg-type]
            description="The command's fields; with `command_id`, sending it again has the same outcome.",
        )


@post(
    "/commands/{kind:str}/{verb:str}",
    responses=error_responses(403, 413, 415, 422),
    status_code=200,
    operation_class=CommandOperation,
)
async def give_command(
    services: Served,
    request: Request[Any, Any, Any],
    kind: Annotated[str, PathParameter(description="pipeline, job or executor")],
    verb: Annotated[str, PathParameter(description="apply, edit, start, cancel, check …")],
    actor: Annotated[
        str, HeaderParameter(name="Trackbook-Actor", description="Who gives the command, such as user:ann.")
    ] = "http",
) -> Response[dict[str, Any]]:
    """Give a command; the answer is its reply, also where it is rejected.

    Reads that follow show what it did: the answer waits for the read model, for two seconds at most.
    """
    if not _ACTOR.fullmatch(actor):
        raise ReadError(
            "invalid_parameter", "Trackbook-Actor is up to 64 letters, digits and any of . @ : + / = _ -"
        )
    reply = await services.gateway.handle(kind, verb, await request.body(), actor)
    with contextlib.suppress(NotProjectedError):  # it is committed anyway, and `after` still works
        await services.read.projector.wait_for(int(reply.get("seq") or 0), _SETTLED_WITHIN)
    error = reply.get("error")
    if error and error.get("code") == "pipeline_not_found":
        await _hint(services, error, await request.body())
    return Response(reply, status_code=status_of(str(error.get("code", ""))) if error else 200)


async def _hint(services: Services, error: dict[str, Any], payload: bytes) -> None:
    """Add the name of the pipeline that was probably meant to a refusal."""
    name = msgspec.json.decode(payload).get("pipeline")
    known = await services.read.pipeline_names()
    if isinstance(name, str) and (meant := did_you_mean(name, known)):
        error["hint"] = f"{meant} {error.get('hint') or ''}".strip()


@post("/projection/rebuild", responses=error_responses(403, 415), status_code=200)
async def rebuild(services: Served) -> Rebuilt:
    """Make the read model again from the log; the old one serves meanwhile."""
    return Rebuilt(await services.read.projector.rebuild())


router = Router("/api", route_handlers=[give_command, rebuild], tags=["commands"])
