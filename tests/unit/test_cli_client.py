"""The CLI's client: commands that are safe to repeat, lists, streams that resume, and what it says in trouble."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Any

import pytest
from cli_server import Answer, Asked, frame, serving

from trackbook.cli.client.address import Address
from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError, Rejected, Unreachable

START = "POST /api/commands/job/start"
ACCEPTED = {"command_id": "c", "status": "accepted", "seq": 5, "job": "j"}


def test_a_command_is_sent_again_under_the_same_id_when_the_connection_breaks() -> None:
    """The server may have carried out what it did not answer: only the same id makes repeating safe."""
    answers = [ACCEPTED, Answer(drop=True), Answer(drop=True), ACCEPTED]
    with serving({START: answers}) as fake, Client(lambda: Address(fake.url)) as client:
        client.command("job", "start", {"pipeline": "a"})
        reply = client.command("job", "start", {"pipeline": "b"})

    first, *again = [asked.body["command_id"] for asked in fake.asked]
    assert reply == ACCEPTED
    assert len(again) == 3
    assert set(again) == {again[0]}
    assert first != again[0]


@pytest.mark.parametrize(("status", "code"), [("rejected", "unavailable"), ("unknown", "outcome_unknown")])
def test_a_command_is_sent_again_while_the_server_says_that_it_has_no_outcome(status: str, code: str) -> None:
    """`unavailable` and `unknown` are no outcomes; the server asks for the same command id again."""
    refusal = {"status": status, "error": {"code": code, "message": "the broker is away"}}
    answers = [Answer(refusal, 503), Answer(refusal, 503), ACCEPTED]
    with serving({START: answers}) as fake, Client(lambda: Address(fake.url)) as client:
        reply = client.command("job", "start", {})

    assert reply == ACCEPTED
    assert len({asked.body["command_id"] for asked in fake.asked}) == 1


def test_a_server_that_stays_unavailable_is_reported_after_the_patience() -> None:
    """Waiting ends, and the message says what the server said."""
    refusal = {"status": "rejected", "error": {"code": "unavailable", "message": "the broker is away"}}
    with (
        serving({START: lambda _: Answer(refusal, 503)}) as fake,
        Client(lambda: Address(fake.url), patience=0.1) as client,
        pytest.raises(Unreachable, match="the broker is away"),
    ):
        client.command("job", "start", {})


def test_a_server_that_never_answered_is_reported_at_once() -> None:
    """A wrong address must not cost half a minute."""
    with serving({}) as fake:
        url = fake.url

    with pytest.raises(Unreachable) as reported:
        Client(lambda: Address(url)).get("/api/jobs")

    assert url in str(reported.value)
    assert "trackbook up" in reported.value.hint


def test_a_stream_whose_server_does_not_come_back_is_reported_after_the_patience() -> None:
    """A follower neither waits for ever nor goes round in circles."""
    with serving({"GET /a": {}, "GET /api/events": Answer(text=frame("5.0", "A", {}))}) as fake:
        client = Client(lambda: Address(fake.url), patience=0.1)
        client.get("/a")
        events = client.events("4.0")
        next(events)

    with closing(client), closing(events), pytest.raises(Unreachable):
        next(events)


def test_a_server_that_came_back_elsewhere_is_found() -> None:
    """After a restart the address is looked up again."""
    with serving({"GET /a": {"n": 1}}) as old, serving({"GET /a": {"n": 2}}) as new:
        addresses = iter([Address(old.url), Address(new.url)])
        with Client(lambda: next(addresses)) as client:
            assert client.get("/a") == {"n": 1}
            old.scripts["GET /a"] = lambda _: Answer(drop=True)

            assert client.get("/a") == {"n": 2}


def test_a_rejection_names_the_place_and_all_that_was_found() -> None:
    """The author of a file sees every refusal with file, line, column, path and what to try."""
    other = {"code": "cycle", "message": "a → b → a", "path": "tasks[0].dependencies[0]", "line": 9, "column": 7}
    error = {"code": "unknown_dependency", "message": "no task 'c'", "path": "tasks[1]", "line": 12, "column": 5,
             "hint": "Did you mean 'a'?", "others": [other]}  # fmt: skip
    with (
        serving({START: Answer({"status": "rejected", "error": error}, 422)}) as fake,
        Client(lambda: Address(fake.url)) as client,
        pytest.raises(Rejected) as reported,
    ):
        client.command("job", "start", {}, "train.yaml")

    assert reported.value.lines() == [
        "trackbook: no task 'c' [unknown_dependency]",
        "  at train.yaml:12:5, tasks[1]",
        "  Did you mean 'a'?",
        "trackbook: a → b → a [cycle]",
        "  at train.yaml:9:7, tasks[0].dependencies[0]",
    ]


def test_what_is_not_there_is_reported_in_the_servers_words() -> None:
    """A question that fails says what the server said, and what to try."""
    error = {"error": {"code": "job_not_found", "message": "there is no job 'x'", "hint": "Look."}}
    with (
        serving({"GET /api/jobs/x": Answer(error, 404)}) as fake,
        Client(lambda: Address(fake.url)) as client,
        pytest.raises(Rejected) as reported,
    ):
        client.get("/api/jobs/x")

    assert reported.value.lines() == ["trackbook: there is no job 'x' [job_not_found]", "  Look."]


def test_lists_go_on_from_their_cursor_up_to_the_limit() -> None:
    """Pages are read until the list ends or enough was seen."""
    pages = [{"items": [{"n": 1}, {"n": 2}], "next": "two"}, {"items": [{"n": 3}, {"n": 4}], "next": "three"}]
    with serving({"GET /api/jobs": pages}) as fake, Client(lambda: Address(fake.url)) as client:
        found = list(client.pages("/api/jobs", 3, state="failed"))

    assert [item["n"] for item in found] == [1, 2, 3]
    assert [asked.query for asked in fake.asked] == ["state=failed&limit=3", "state=failed&cursor=two&limit=1"]


def test_a_stream_that_breaks_goes_on_after_the_last_event() -> None:
    """The union of what a follower sees has no gap and nothing twice."""
    streams = [
        Answer(text=frame("5.0", "A", {"n": 1}) + frame("5.1", "B", {"n": 2}) + "id: 6.0\ndata: {"),
        Answer(drop=True),
        Answer(text=": keep alive\n\n" + frame("6.0", "C", {"n": 3})),
    ]
    with serving({"GET /api/events": streams}) as fake, closing(Client(lambda: Address(fake.url))) as client:
        seen = list(islice(client.events("4.0", job="j"), 3))

    assert seen == [("5.0", "A", {"n": 1}), ("5.1", "B", {"n": 2}), ("6.0", "C", {"n": 3})]
    assert [asked.headers["Last-Event-ID"] for asked in fake.asked] == ["4.0", "5.1", "5.1"]


def test_the_one_at_the_keyboard_is_named_with_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event on the log traces to somebody; letters that the server refuses are replaced."""
    monkeypatch.setenv("LOGNAME", "ann smith")
    with serving({START: ACCEPTED}) as fake, Client(lambda: Address(fake.url)) as client:
        client.command("job", "start", {})

    assert fake.asked[0].headers["Trackbook-Actor"] == "user:ann_smith"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "http://"])
def test_what_is_no_address_is_reported(url: str) -> None:
    """A typing error in TRACKBOOK_URL is named as one."""
    with pytest.raises(CliError, match="not the address of a server"):
        Client(lambda: Address(url)).get("/api/jobs")


def unauthorized(asked: Asked) -> Any:
    """Answer as a server that was started again, with another token."""
    if asked.headers.get("Authorization") == "Bearer new":
        return {"items": [], "next": None}
    return Answer({"error": {"code": "unauthorized", "message": "no", "hint": "show it"}}, 401)


def test_a_server_that_was_started_anew_is_asked_with_its_new_token() -> None:
    """A refused token is looked up again, also while the new one is not written yet."""
    with serving({"GET /api/jobs": unauthorized}) as fake:
        known = iter([Address(fake.url, "old"), None, None, Address(fake.url, "new")])
        with Client(lambda: next(known, Address(fake.url, "new"))) as client:
            assert client.get("/api/jobs")["items"] == []

    assert [asked.headers["Authorization"] for asked in fake.asked][-1] == "Bearer new"


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_token_that_stays_wrong_is_reported(token: str) -> None:
    """Where no other token is known the refusal is reported at once, without the token."""
    with (
        serving({"GET /api/jobs": unauthorized}) as fake,
        Client(lambda: Address(fake.url, token)) as client,
        pytest.raises(Rejected) as refused,
    ):
        client.get("/api/jobs")

    assert len(fake.asked) == 1
    assert "wrong" not in "".join(refused.value.lines())
