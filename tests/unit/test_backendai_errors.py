"""What a cluster's refusals mean, as real managers worded them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from trackbook.adapters.backendai.api.errors import error_in, no_answer, query_refusal


def problem(status: int, slug: str, title: str, *, changes: bool = True, **more: Any) -> Any:
    """Return the error for an answer of a manager."""
    body = {"type": f"https://api.backend.ai/probs/{slug}", "title": title} | more
    return error_in("main", status, json.dumps(body).encode(), changes=changes)


@pytest.mark.parametrize(
    ("status", "slug", "title", "kind"),
    [
        (401, "auth-failed", "Credential/signature mismatch.", "operator"),
        (403, "generic-forbidden", "Forbidden operation.", "operator"),
        (400, "invalid-auth-params", "Missing or invalid authorization parameters.", "operator"),
        (400, "invalid-api-params", "Missing or invalid API parameters.", "permanent"),
        (400, "session-already-exists", "The session already exists.", "permanent"),
        (404, "object-not-found", "No such environment image.", "permanent"),
        (412, "quota-exceeded", "You have reached your resource limit.", "permanent"),
        (409, "unique-constraint-violation", "Conflict.", "unknown"),
        (500, "internal-server-error", "Internal server error.", "unknown"),
        (503, "agent-connection-unavailable", "Agent away.", "unknown"),
        (429, "rate-limit-exceeded", "You have reached your API query rate limit.", "infrastructure"),
        (
            400,
            "invalid-api-parameters",
            "resource group 'a' has no agents serving any resource slot.",
            "infrastructure",
        ),
    ],
)
def test_what_a_refusal_of_a_change_means(status: int, slug: str, title: str, kind: str) -> None:
    """By the last part of the problem's type and the status."""
    error = problem(status, slug, title)

    assert (error.kind, error.slug, error.status) == (kind, slug, status)
    assert title.rstrip(".") in str(error)
    assert "'main'" in str(error)


@pytest.mark.parametrize("status", [409, 500, 502, 503])
def test_a_read_that_failed_changed_nothing(status: int) -> None:
    """What may have been done is asked after changes alone."""
    assert problem(status, "internal-server-error", "", changes=False).kind == "infrastructure"


def test_the_session_that_has_the_name_already() -> None:
    """Its id is in the problem's data."""
    title = "The session already exists but you requested not to reuse existing one."

    error = problem(400, "session-already-exists", title, data={"existingSessionId": "abc"})

    assert error.existing_session == "abc"
    assert problem(400, "session-already-exists", title).existing_session is None


def test_a_wrong_clock_is_distinguished_from_other_wrong_parameters() -> None:
    """It is a 400 with a message of its own."""
    title = "Missing or invalid authorization parameters."

    assert problem(400, "invalid-auth-params", title, msg="Date/time sync error").is_clock
    assert not problem(400, "invalid-auth-params", title, msg="API version missing").is_clock


def test_which_parameters_are_wrong_without_what_was_sent() -> None:
    """Both versions' lists of parameters are reported; values that came back, which may be secret, are not."""
    older = problem(400, "invalid-api-params", "Invalid.", data={"name": "value should be longer", "errno": 2})
    newer = problem(
        400, "invalid-api-params", "Invalid.", data=[{"loc": ["config", "mem"], "msg": "bad", "input": "secret"}]
    )

    assert "name: value should be longer" in str(older)
    assert "config.mem: bad" in str(newer)
    assert "secret" not in str(newer)


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"no": "type"}', b"[1]", b"\xff"])
def test_answers_of_something_between(body: bytes) -> None:
    """A proxy's page is reported by its status."""
    error = error_in("main", 502, body, changes=True)

    assert (error.kind, error.slug, error.existing_session) == ("unknown", "http-502", None)
    assert "status 502" in str(error)


@pytest.mark.parametrize(
    ("lost", "changing", "reading", "slug"),
    [
        (httpx.ConnectError("refused"), "infrastructure", "infrastructure", "unreachable"),
        (httpx.ConnectTimeout(""), "infrastructure", "infrastructure", "unreachable"),
        (httpx.PoolTimeout(""), "infrastructure", "infrastructure", "unreachable"),
        (httpx.ReadTimeout(""), "unknown", "infrastructure", "timeout"),
        (httpx.WriteTimeout(""), "unknown", "infrastructure", "timeout"),
        (httpx.RemoteProtocolError("closed"), "unknown", "infrastructure", "broken"),
        (httpx.ReadError(""), "unknown", "infrastructure", "broken"),
    ],
)
def test_no_answer(lost: httpx.HTTPError, changing: str, reading: str, slug: str) -> None:
    """What was never sent was not done; of what was sent nobody knows."""
    error = no_answer("main", lost, changes=True)

    assert (error.kind, error.slug, error.status) == (changing, slug, 0)
    assert no_answer("main", lost, changes=False).kind == reading


def test_a_query_is_wrong_or_the_manager_is_ill() -> None:
    """Both are answered with status 200; SQL that came along is not reported."""
    wrong = query_refusal("main", ["Cannot query field 'x' on type 'Queries'."])
    ill = query_refusal("main", ["connection refused\n[SQL: SELECT secret]"])

    assert (wrong.kind, ill.kind) == ("permanent", "infrastructure")
    assert "SQL" not in str(ill)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"config": {"environ": {"KEY": "blank value is not allowed"}}}, "config.environ.KEY: blank value"),
        ({"config": {"mounts": ["no such folder"]}}, "config.mounts: no such folder"),
        ([{"loc": ["body", "name"], "msg": "too short", "input": "secret"}], "body.name: too short"),
        ({"errors": [{"loc": ["name"], "msg": "too short", "input": "secret"}]}, "errors.name: too short"),
        ("mounts are wrong", "(mounts are wrong)"),
    ],
)
def test_which_parameter_is_wrong_is_said(data: Any, words: str) -> None:
    """Whatever form the manager names a parameter in, it is reported, and never the value sent."""
    error = problem(400, "invalid-api-params", "Missing or invalid API parameters.", data=data)
    assert words in str(error)
    assert "secret" not in str(error)
