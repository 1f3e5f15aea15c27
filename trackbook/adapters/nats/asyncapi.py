"""The AsyncAPI 3.0 document of the NATS interface: commands, live commits, and what executors say.

FastStream tells which commands there are, from the very endpoints that answer them. It knows neither replies nor
msgspec's types, so these, and what does not go through it, are added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

import trackbook
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.executors import Attach
from trackbook.adapters.nats.ingress import QUEUE, command_broker
from trackbook.adapters.nats.retrying_request import Answer
from trackbook.adapters.nats.samples import COMMANDS, COMMIT, REPLIES
from trackbook.engine.job import Report, ReportTaskEnded, ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import SessionSpec
from trackbook.events.commit import BlobRef, Input
from trackbook.events.job import AnyJobEvent
from trackbook.events.log import AnyLogEvent
from trackbook.events.outcome import AnyOutcomeEvent
from trackbook.events.pipeline import AnyNameEvent, AnyPipelineEvent

Json = dict[str, Any]

_ABOUT = """\
Commands are requests: the reply comes once the command's outcome is on the log. No reply means: send it again,
under the same `command_id`; it has one effect and one outcome, at whatever time it is repeated. A reply too long
for a message leaves out its lists, and names them in `omitted`.

Every commit is published again on `{prefix}.live.<kind>.<id>` as it was stored, at most once: a subscriber that
must miss nothing compares `Nats-Last-Sequence` with the last `Nats-Sequence` that it saw of that subject, and
reads the rest over HTTP. Clients may use these subjects alone; those of executors belong to the engine's account.
"""
_KINDS: dict[str, tuple[Any, str]] = {
    "pipeline": (AnyPipelineEvent, "A pipeline was edited."),
    "name": (AnyNameEvent, "A pipeline's name was taken or released."),
    "job": (AnyJobEvent, "A job went on: its own events and those of its tasks."),
    "outcome": (AnyOutcomeEvent, "A command was answered that changed nothing."),
    "log": (AnyLogEvent, "An operator decided about damage to the log."),
}
_REPORTS = {"anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in Report.__args__]}
_HEADERS: Json = {
    "type": "object",
    "properties": {
        "Nats-Sequence": {"type": "string", "description": "the commit's sequence on the log"},
        "Nats-Last-Sequence": {
            "type": "string",
            "description": "the sequence of this aggregate's commit before it, 0 for none",
        },
        "Nats-Subject": {"type": "string", "description": "the subject on the log"},
        "Nats-Time-Stamp": {"type": "string", "format": "date-time"},
    },
}


def document(
    prefix: str,
    requests: Mapping[tuple[str, str], type[Struct]],
    reply: type[Struct],
    url: str = "nats://127.0.0.1:4222",
) -> Json:
    """Return the document; `requests` and `reply`: see runtime/commands/requests.py."""
    skeleton = _skeleton(prefix, requests, url)
    channels: Json = {"reply": {"address": None, "messages": {"reply": _message("reply")}}}
    operations: Json = {}
    messages: Json = {"reply": _described(reply, examples=REPLIES)}
    for (kind, verb), request in requests.items():
        key = f"{kind}.{verb}"
        found = skeleton["channels"][key]
        channels[key] = _channel(found["address"], key, found.get("description"))
        operations[key] = _operation("receive", key, "command", found.get("description"), answer="reply")
        messages[key] = _described(request, examples=COMMANDS.get(key, ()))
    for parts in (_live(prefix), _executors(prefix)):
        channels |= parts["channels"]
        operations |= parts["operations"]
        messages |= parts["messages"]
    return {
        "asyncapi": "3.0.0",
        "info": _info(prefix),
        "defaultContentType": "application/json",
        "servers": {"broker": _server(skeleton)},
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": _schemas([*requests.values(), reply]) | _schemas(_internal(), {"JobReport": _REPORTS}),
            "securitySchemes": skeleton["components"]["securitySchemes"],
        },
    }


def _skeleton(prefix: str, requests: Mapping[tuple[str, str], type[Struct]], url: str) -> Json:
    """Return FastStream's own document of the command endpoints."""
    from faststream.specification import AsyncAPI

    async def nobody(_message: Any) -> bytes:
        return b""  # this broker is described and never started

    broker = command_broker(Access(url, user="client"), prefix, requests, nobody)
    found: Json = AsyncAPI(broker).to_specification().to_jsonable()
    return found


def _info(prefix: str) -> Json:
    return {
        "title": "Trackbook",
        "version": trackbook.__version__,
        "description": _ABOUT.format(prefix=prefix),
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        "tags": [{"name": "commands"}, {"name": "live"}, {"name": "executors"}],
    }


def _server(skeleton: Json) -> Json:
    (found,) = skeleton["servers"].values()
    return {
        "host": found["host"],
        "protocol": "nats",
        "description": "nats.json of the data directory says where, with which user and password, and the "
        "inbox_prefix below which replies may come.",
        "security": found["security"],
    }


def _live(prefix: str) -> Json:
    """Return the parts about commits published again."""
    parts: Json = {"channels": {}, "operations": {}, "messages": {}}
    for kind, (_, text) in _KINDS.items():
        key = f"live.{kind}"
        parts["channels"][key] = _channel(f"{prefix}.live.{kind}.{{id}}", key, text, id=f"the id of the {kind}")
        parts["operations"][key] = _operation("send", key, "live", text)
        parts["messages"][key] = {
            "name": f"{kind.capitalize()}Commit",
            "summary": text,
            "headers": _HEADERS,
            "payload": _schema(f"{kind.capitalize()}Commit"),
        }
    parts["messages"]["live.job"]["examples"] = [{"name": "launch", "payload": COMMIT}]
    return parts


def _executors(prefix: str) -> Json:
    """Return the parts about executors in other processes, as the engine sees them."""
    parts: Json = {
        "channels": {"exec.answer": {"address": None, "messages": {"exec.answer": _message("exec.answer")}}},
        "operations": {},
        "messages": {"exec.answer": _described(Answer)},
    }
    root = f"{prefix}.exec.{{executor}}"
    table: list[tuple[str, str, str, Json, str]] = [
        ("launch", "launch", "send", _schema("SessionSpec"), "Run the session, or adopt it if it was launched."),
        ("stop", "stop", "send", _schema("SessionSpec"), "End the session; then it can't be launched any more."),
        ("attach", "attach", "receive", _schema("Attach"), "A worker starts: launch again what is outstanding."),
        ("report", "report.{job}", "receive", _schema("JobReport"), "How a session of the job fares."),
    ]
    for name, tail, action, payload, text in table:
        key = f"exec.{name}"
        parameters = {"job": "the job's id"} if "{job}" in tail else {}
        parts["channels"][key] = _channel(
            f"{root}.{tail}", key, text, executor="the executor's name", **parameters
        )
        parts["operations"][key] = _operation(action, key, "executor", text, answer="exec.answer")
        parts["messages"][key] = {"name": name, "summary": text, "payload": payload}
    key, text = (
        "exec.engine",
        "An engine has started, without a payload: ask again what its predecessor was asked.",
    )
    parts["channels"][key] = _channel(f"{root}.engine", key, text, executor="the executor's name")
    parts["operations"][key] = _operation("send", key, "executor", text)
    parts["messages"][key] = {"name": "engine", "summary": text}
    return parts


def _channel(address: str, key: str, description: str | None, **parameters: str) -> Json:
    channel: Json = {"address": address, "messages": {key: _message(key)}}
    if description:
        channel["description"] = description
    if parameters:
        channel["parameters"] = {name: {"description": text} for name, text in parameters.items()}
    return channel


def _operation(action: str, key: str, tag: str, summary: str | None, answer: str = "") -> Json:
    operation: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        "tags": [{"name": {"command": "commands", "executor": "executors"}.get(tag, tag)}],
    }
    if summary:
        operation["summary"] = summary
    if action == "receive":
        operation["bindings"] = {"nats": {"queue": QUEUE, "bindingVersion": "0.1.0"}}
    if answer:
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{answer}"},
            "messages": [{"$ref": f"#/channels/{answer}/messages/{answer}"}],
        }
    return operation


def _message(key: str) -> Json:
    return {"$ref": f"#/components/messages/{key}"}


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(payload: type[Struct], examples: Iterable[tuple[str, Json]] = ()) -> Json:
    message: Json = {"name": payload.__name__, "title": payload.__name__, "payload": _schema(payload.__name__)}
    if shown := [{"name": name, "payload": sample} for name, sample in examples]:
        message["examples"] = shown
    return message


# Schemas ----------------------------------------------------------------------------------------------------


def _internal() -> list[type[Struct]]:
    types: list[type[Struct]] = [_commit(kind, events) for kind, (events, _) in _KINDS.items()]
    return [*types, SessionSpec, Answer, Attach, ReportTaskStarted, ReportTaskStatus, ReportTaskEnded]


def _commit(kind: str, events: Any) -> type[Struct]:
    """Return the type of a kind's commits as readers see it: which events, and inputs with any command."""
    return msgspec.defstruct(
        f"{kind.capitalize()}Commit",
        [
            ("schema", int),
            ("kind", str),
            ("id", str),
            ("version", Annotated[int, Meta(ge=1, description="the count of this aggregate's commits")]),
            ("at", Annotated[datetime, Meta(tz=True)]),
            (
                "prev",
                Annotated[str, Meta(description="SHA-256 of the previous commit's bytes, '' for the first")],
            ),
            ("inputs", list[Input[Json | None]], msgspec.field(default_factory=list)),
            ("events", list[events], msgspec.field(default_factory=list)),
            ("causes", list[int], msgspec.field(default_factory=list)),
            ("blob", BlobRef | None, None),
        ],
        namespace={"__doc__": "One commit: what was decided on, and the events. A large body stands in a blob."},
    )


def _schemas(types: Iterable[type[Struct]], more: Json | None = None) -> Json:
    """Return the JSON schemas of the types and of all that they hold, under their plain names."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    named: Json = {_plain(name): _readable(schema) for name, schema in found.items()}
    return named | (more or {})


def _plain(name: str) -> str:
    return "Input" if name.startswith("Input_") else name.removesuffix("_")


def _readable(schema: Any) -> Any:
    """Return a schema in the draft that AsyncAPI's tools read: tuples and tagged unions are written otherwise."""
    if isinstance(schema, list):
        return [_readable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _readable(value) for key, value in schema.items() if key != "discriminator"}
    if isinstance(made.get("$ref"), str):
        root, _, name = made["$ref"].rpartition("/")
        made["$ref"] = f"{root}/{_plain(name)}"
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
        made["additionalItems"] = False
    if str(made.get("title", "")).startswith("Input["):
        made["title"] = "Input"
    return made
