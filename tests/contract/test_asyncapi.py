"""The AsyncAPI document: right by the project's own parser, and true of what the system says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from node import FOLDER, node

from trackbook.adapters.nats.asyncapi import document
from trackbook.adapters.nats.samples import COMMANDS, COMMIT, REPLIES
from trackbook.engine.kinds import KINDS
from trackbook.runtime.commands.requests import REQUESTS, Reply


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Make the document."""
    return document("trackbook", REQUESTS, Reply)


@pytest.fixture(scope="module")
def parsed(made: dict[str, Any]) -> dict[str, Any]:
    """Have AsyncAPI's own parser read it."""
    return parse(made)


def parse(made: dict[str, Any], payloads: Sequence[tuple[str, Any]] = ()) -> dict[str, Any]:
    """Have the parser read a document, and payloads held against the schemas of their messages."""
    given = json.dumps({"document": made, "payloads": payloads})
    found: dict[str, Any] = json.loads(node(FOLDER / "validate.mjs", given=given))
    return found


def faults(parsed: dict[str, Any]) -> list[str]:
    """Return the places of errors and warnings; what the parser merely recommends is left out."""
    return [found["path"] for found in parsed["found"] if found["severity"] < 2]


def test_the_projects_own_parser_finds_nothing_wrong(parsed: dict[str, Any]) -> None:
    """It reads as AsyncAPI 3.0, without an error or a warning."""
    assert faults(parsed) == []
    assert parsed["version"] == "3.0.0"


def test_the_examples_are_what_the_schemas_say(parsed: dict[str, Any]) -> None:
    """Each example is valid by the JSON schema of its message, for a validator that is none of ours."""
    assert {check["message"] for check in parsed["checked"]} == {*COMMANDS, "reply", "live.job"}
    assert [check for check in parsed["checked"] if check["errors"]] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("components/messages/job.start/payload/$ref", "#/components/schemas/Nothing"),
        ("operations/job.start/action", "dance"),
        ("operations/job.start/channel/$ref", "#/channels/job.cancel"),
        ("components/schemas/StartJob/type", "thing"),
        ("channels/live.job/parameters", {}),
    ],
)
def test_the_parser_would_find_what_is_wrong(made: dict[str, Any], path: str, value: Any) -> None:
    """The check can fail: each way of being wrong is reported."""
    broken = json.loads(json.dumps(made))
    *way, last = path.split("/")
    place = broken
    for step in way:
        place = place[step]
    place[last] = value
    assert faults(parse(broken))


def test_the_schemas_would_find_what_is_wrong(made: dict[str, Any]) -> None:
    """Payloads that the gateway refuses are invalid by the schemas as well."""
    wrong = [
        ("job.start", {}),
        ("job.start", {"pipeline": 7}),
        ("job.start", {"pipeline": "a", "colour": "red"}),
        ("pipeline.edit", {"pipeline": "a", "changes": [{"op": "bake_cake"}]}),
        ("live.job", COMMIT | {"events": [{"type": "CakeBaked"}]}),
    ]
    for kind, payload in wrong[:-1]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(payload, REQUESTS[tuple(kind.split("."))])  # type: ignore[index]
    checked = parse(made, wrong)["checked"][-len(wrong) :]
    assert [check["message"] for check in checked if check["errors"]] == [kind for kind, _ in wrong]


def test_every_command_is_in_it_with_its_reply(parsed: dict[str, Any]) -> None:
    """Each command that the gateway knows is an operation on its subject, answered by a reply."""
    operations = {operation["id"]: operation for operation in parsed["operations"]}
    for kind, verb in REQUESTS:
        assert operations[f"{kind}.{verb}"] == {
            "id": f"{kind}.{verb}",
            "action": "receive",
            "addresses": [f"trackbook.cmd.{kind}.{verb}"],
            "replies": ["Reply"],
        }


def test_every_kind_of_commit_is_in_it(parsed: dict[str, Any]) -> None:
    """Each kind of aggregate has a subject on which its commits are reported live."""
    addresses = {address for operation in parsed["operations"] for address in operation["addresses"]}
    assert {f"trackbook.live.{kind}.{{id}}" for kind in KINDS} <= addresses


def test_every_command_has_an_example_that_it_takes() -> None:
    """The examples are read by the types that read real commands."""
    assert COMMANDS.keys() == {f"{kind}.{verb}" for kind, verb in REQUESTS}
    for (kind, verb), request in REQUESTS.items():
        for _, sample in COMMANDS[f"{kind}.{verb}"]:
            msgspec.convert(sample, request)
    for _, reply in REPLIES:
        msgspec.convert(reply, Reply)


def test_the_example_of_a_commit_is_one() -> None:
    """The example of a live commit is read by what reads the log."""
    commit = KINDS["job"].commits.decode(msgspec.json.encode(COMMIT))
    types = [type(event).__name__ for event in commit.events]
    assert types == ["AttemptSucceeded", "TaskSucceeded", "TaskLaunchRequested"]


def test_the_prefix_is_the_installations(made: dict[str, Any]) -> None:
    """Another prefix leads to other subjects, everywhere."""
    text = json.dumps(document("acme", REQUESTS, Reply))
    assert "acme.cmd.job.start" in text
    assert "trackbook.cmd" not in text
    assert "trackbook.live" not in text
    assert "trackbook.exec" not in text


def test_it_holds_no_credentials(made: dict[str, Any]) -> None:
    """What a client needs to be let in is described, not given."""
    assert made["servers"]["broker"]["security"]
    assert "@" not in made["servers"]["broker"]["host"]


def test_the_lock_file_names_no_registry() -> None:
    """Packages are fetched from wherever the user's npm fetches them."""
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
