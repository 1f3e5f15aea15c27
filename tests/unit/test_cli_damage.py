"""`quarantine` and `log` take the names that other commands take, and suggest what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cli_server import Answer, FakeServer, serving
from typer.testing import CliRunner

from trackbook.cli import main
from trackbook.cli.errors import CliError, Rejected

TRAIN, OTHER, JOB = "8e89aaaa00000001", "8e89aaaa00000002", "1f2e3d4c5b6a7988"
HEALTHY = "77aa000000000003"


def fault(kind: str, id: str) -> dict[str, Any]:  # noqa: A002
    """Return what is wrong with a history."""
    return {"kind": kind, "id": id, "seq": 7, "sha256": "ab" * 32, "version": 3, "reason": "wrong", "data": "{}"}


EVIDENCE = [
    {"id": id_, "kind": "gap", "message": f"lost {id_}", "first": 1, "last": 1}
    for id_ in ("abc111111111", "abc222222222", "def333333333")
]
MISSING = Answer({"error": {"code": "pipeline_not_found", "message": "there is no pipeline"}}, 404)
WELL = Answer({"error": {"code": "not_quarantined", "message": f"pipeline/{HEALTHY} is not in quarantine"}}, 409)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server with two damaged pipelines, a damaged job and a pipeline that is intact."""
    damaged = [fault("pipeline", TRAIN), fault("pipeline", OTHER), fault("job", JOB)]
    log = {
        "head": 9, "witness": {"seq": 9, "sha256": ""}, "evidence": EVIDENCE, "accepted": [], "dismissed": 0,
        "faults": damaged,
    }  # fmt: skip
    scripts: dict[str, Any] = {
        "GET /api/log": log,
        "GET /api/quarantine": {"items": [], "next": None},
        "GET /api/pipelines/train": {"id": TRAIN},
        "GET /api/pipelines/team/train": {"id": TRAIN},
        "GET /api/pipelines/team%2Ftrain": {"id": TRAIN},
        "GET /api/pipelines/healthy": {"id": HEALTHY},
        f"GET /api/quarantine/pipeline/{HEALTHY}": WELL,
        "POST /api/commands/quarantine/release": {"status": "accepted", "seq": 10, "changes": []},
        "POST /api/commands/log/accept-loss": {"status": "accepted", "seq": 10, "changes": []},
    }
    for each in damaged:
        shown = {"kind": each["kind"], "id": each["id"], "version": 2, "faults": [each]}
        scripts[f"GET /api/quarantine/{each['kind']}/{each['id']}"] = shown
    with serving(scripts) as server:
        yield server


def run(fake: FakeServer, *arguments: str) -> Any:
    """Run a command against the server."""
    return CliRunner().invoke(main.app, [*arguments, "--url", fake.url])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (f"pipeline/{TRAIN}", f"pipeline/{TRAIN}"),
        ("pipeline/8e89aaaa00000002", f"pipeline/{OTHER}"),
        ("pipeline/train", f"pipeline/{TRAIN}"),
        ("train", f"pipeline/{TRAIN}"),
        ("team/train", f"pipeline/{TRAIN}"),
        ("job/1f2e", f"job/{JOB}"),
        ("1f2e", f"job/{JOB}"),
        (JOB, f"job/{JOB}"),
    ],
)
def test_a_damaged_history_is_named_as_elsewhere(fake: FakeServer, name: str, meant: str) -> None:
    """By a pipeline's name, an id, a beginning of it, or kind and id."""
    shown = run(fake, "quarantine", "show", name)
    released = run(fake, "quarantine", "release", name, "--yes")

    assert (shown.exit_code, released.exit_code) == (0, 0), shown.output + released.output
    assert f"{meant} is intact up to version 2" in shown.stdout
    assert "Released" in released.stdout


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("8e89", "is ambiguous: it matches", "Give its kind, and more characters of the id."),
        ("pipeline/8e89", "is ambiguous: it matches", "Give its kind, and more characters of the id."),
        ("job/1f3e", "there is no damaged job history '1f3e'", "Did you mean 'job/1f2e'?"),
        ("1f2f3", "there is no damaged history '1f2f3'", "Did you mean '1f2e3'?"),
        ("nothing", "there is no damaged history 'nothing'", "`trackbook quarantine list`"),
    ],
)
def test_what_is_not_found_is_said_with_a_suggestion(
    fake: FakeServer, name: str, message: str, hint: str
) -> None:
    """Several candidates are listed, and a slip of the finger is named."""
    found = run(fake, "quarantine", "show", name).exception

    assert isinstance(found, CliError)
    assert message in str(found)
    assert hint in found.hint


def test_an_intact_history_is_not_released(fake: FakeServer) -> None:
    """The server's answer says that it is not in quarantine."""
    assert isinstance(run(fake, "quarantine", "show", "healthy").exception, Rejected)


def test_evidence_is_accepted_by_the_beginning_of_its_id(fake: FakeServer) -> None:
    """One that begins several, or none, is refused before anything is accepted."""
    assert run(fake, "log", "accept-loss", "de", "abc1", "--yes").exit_code == 0
    sent = [asked.body["evidence"] for asked in fake.asked if asked.path.endswith("accept-loss")]
    assert sent == [["abc111111111", "def333333333"]]

    several = run(fake, "log", "accept-loss", "abc", "--yes").exception
    none = run(fake, "log", "accept-loss", "dff33", "--yes").exception

    assert isinstance(several, CliError)
    assert "is ambiguous: it matches" in str(several)
    assert isinstance(none, CliError)
    assert "Did you mean 'def33'?" in none.hint
