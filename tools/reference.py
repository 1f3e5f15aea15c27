"""Writes docs/reference/{commands,events,cli}.md from the code's own structs; a test keeps them level.

python tools/reference.py            write
python tools/reference.py --check    exit 1 where a file is behind the code
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cli_reference import cli
from msgspec import Struct

from trackbook.engine import edits, job, log, name, outcome, pipeline
from trackbook.events import commit as commits
from trackbook.events import job as job_facts
from trackbook.events import log as log_facts
from trackbook.events import outcome as outcome_facts
from trackbook.events import pipeline as pipeline_facts
from trackbook.runtime.commands.requests import REQUESTS, Found, Problem, Reply, Request

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

COMMANDS = """\
# Commands

Made from the code by `tools/reference.py`.

A command is a request on the NATS subject `trackbook.cmd.<kind>.<verb>`, or `POST /api/commands/<kind>/<verb>`; JSON in, JSON out.
The reply comes after the commit is acknowledged: **accepted means committed; no reply means send it again under the same
`command_id`**. The same id gets the same outcome at any later time; with another payload it is refused as `command_id_reused`.

Every command may carry:

"""

EVENTS = """\
# Events and commits

Made from the code by `tools/reference.py`.

The log is one JetStream stream, `trackbook_events`. A commit is one message on `trackbook.evt.<kind>.<id>` — kinds: `pipeline`, `job`,
`name` (who bears a pipeline name), `outcome` (a command that changed nothing), `log` (what operators decided about damage). It is republished on `trackbook.live.<kind>.<id>`, with
`Nats-Sequence` and `Nats-Last-Sequence` (of that subject) in its headers, at most once to each subscriber.

An event's id is `<kind>/<id>/<version>/<index>`. `causes[k]` says what event *k* follows from: an index into `inputs`, or
−(*j*+1) for event *j* of the same commit. The last input of a commit may have `null` as its command: nobody asked, and the engine
added what was due, such as launches of tasks that were ready. `prev` is the SHA-256 of the aggregate's previous message, exactly as stored. Where `blob` is
there, inputs, events and causes stand in a blob: JSON in chunks on `trackbook.blob.<sha256>.<n>`.

"""


def main() -> int:
    """Write the files, or compare them."""
    pages = {"commands.md": commands(), "events.md": events(), "cli.md": cli()}
    behind = [name for name, text in pages.items() if _read(FOLDER / name) != text]
    if "--check" in sys.argv:
        if behind:
            print(f"behind the code: {', '.join(behind)}; run python tools/reference.py")
        return bool(behind)
    for page, text in pages.items():
        (FOLDER / page).write_text(text)
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def commands() -> str:
    """Return the page of commands."""
    parts = [COMMANDS, _fields(Request)]
    for (kind, verb), request in REQUESTS.items():
        parts += [f"\n## {kind}.{verb}\n\n", _said(request), _fields(request, set(Request.__struct_fields__))]
    parts.append(
        "\n## Changes of `pipeline.edit`\n\nEach is a mapping with its `op`; all of an edit session are one version.\n"
    )
    for change in typing.get_args(edits.Change):
        parts += [f"\n### `{change.__struct_config__.tag}`\n\n", _said(change), _fields(change)]
    parts += [
        "\n## The reply\n\n",
        _said(Reply),
        _fields(Reply),
        "\n### `findings`\n\n",
        _said(Found),
        _fields(Found),
        "\n### `error`\n\n",
        _said(Problem),
        _fields(Problem),
    ]
    return "".join(parts)


def events() -> str:
    """Return the page of events."""
    parts = [EVENTS, "## The commit\n\n", _said(commits.Commit), _fields(commits.Commit)]
    parts += ["\n## An input\n\n", _said(commits.Input), _fields(commits.Input)]
    for title, facts in (
        ("Events of a pipeline", pipeline_facts.AnyPipelineEvent),
        ("Events of a pipeline's name", pipeline_facts.AnyNameEvent),
        ("Events of a job", job_facts.AnyJobEvent),
        ("Events of an outcome", outcome_facts.AnyOutcomeEvent),
        ("Events of the log itself", log_facts.AnyLogEvent),
    ):
        parts.append(f"\n## {title}\n")
        for fact in typing.get_args(facts) or (facts,):
            parts += [f"\n### {fact.__name__}\n\n", _said(fact), _fields(fact)]
    parts.append("\n## Commands and reports that stand in inputs\n")
    for asked in (
        pipeline.AnyPipelineCommand,
        name.AnyNameCommand,
        job.AnyJobCommand,
        outcome.AnswerCommand,
        log.AnyLogCommand,
    ):
        for one in typing.get_args(asked) or (asked,):
            parts += [f"\n### {one.__name__}\n\n", _said(one), _fields(one)]
    return "".join(parts)


def _said(struct: type[Struct]) -> str:
    return f"{inspect.getdoc(struct)}\n"


def _fields(struct: type[Any], hidden: set[str] | None = None) -> str:
    rows = [
        f"| `{field.encode_name}` | {_shown(field.type)} | {_default(field)} |\n"
        for field in msgspec.structs.fields(struct)
        if field.name not in (hidden or set())
    ]
    return "".join(["\n| field | type | default |\n|---|---|---|\n", *rows]) if rows else ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    if field.default is msgspec.NODEFAULT:
        return "required"
    return f"`{json.dumps(field.default)}`"


_WORDS = {
    str: "text",
    datetime: "time",
    type(None): "null",
    Any: "anything",
    bool: "true or false",
    int: "integer",
}


def _shown(hint: Any) -> str:
    """Return a type in words, with the note that an annotation carries."""
    if typing.get_origin(hint) is typing.Annotated:
        note = next((meta.description for meta in hint.__metadata__ if meta.description), "")
        return _shown(typing.get_args(hint)[0]) + (f" ({note})" if note else "")
    inner = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if all(isinstance(one, type) and issubclass(one, edits.Edit) for one in inner):
            return "change"
        return " or ".join(_shown(one) for one in inner)
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (list, dict, tuple):
        return f"{origin.__name__}[{', '.join(_shown(one) for one in inner)}]"
    return _WORDS.get(hint) or getattr(hint, "__name__", str(hint))


if __name__ == "__main__":
    sys.exit(main())
