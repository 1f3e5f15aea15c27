"""The campaign says SILENT of a server that shows something else without a report; no server runs here."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from checker.raw_log import Report

from damage import case
from damage.answers import Answers
from damage.campaign import table
from damage.case import FALSE_ALARM, HANG, HARMLESS, LOAD, REFUSED, SILENT, START, TRACEBACK, VERIFY, Case, Result
from damage.damages import Damage
from damage.original import KILLED, STOPPED, Original
from damage.server import Hang, Refused

PIPELINES = ("aa", "bb", "cc")
LOG: Answers = {"/api/log": (200, {"evidence": [], "faults": []}), "/api/quarantine": (200, {"items": []})}
DAMAGED = (503, {"error": {"code": "history_damaged", "message": "version 2 is missing"}})


def answers() -> Answers:
    """Return what an undamaged server shows: three pipelines of two versions, and no job."""
    found: Answers = {"/api/pipelines": (200, [{"id": each, "version": 2} for each in PIPELINES])}
    for each in PIPELINES:
        path = f"/api/pipelines/{each}"
        found[path] = (200, {"id": each, "version": 2})
        found[f"{path}/versions"] = (200, [{"version": 1}, {"version": 2}])
        found |= {f"{path}/versions/{number}": (200, {"version": number}) for number in (1, 2)}
        found[f"{path}/events"] = (200, [{"id": 1}, {"id": 2}])
    return found | {"/api/jobs": (200, [])}


class Scripted:
    """A server that answers as the test says."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ready: dict[str, Any] = {"status": "ready", "problems": [], "warnings": []}
        self.shown = answers() | LOG | {"/api/audit/verify": (200, {"ok": True})}
        self.edited = 3

    def wait_ready(self) -> dict[str, Any]:
        """Return the readiness."""
        return self.ready

    def wait_projected(self) -> dict[str, Any]:
        """Return the readiness."""
        return self.ready

    def get(self, path: str, **_: Any) -> tuple[int, Any]:
        """Return an answer, a list as its only page."""
        status, body = self.shown.get(path, (404, {"error": {"code": "not_found"}}))
        return status, {"items": body, "next": None} if isinstance(body, list) else body

    def command(self, _: str, verb: str, **payload: Any) -> tuple[int, Any]:
        """Edit as the next version, refuse a taken name, create another."""
        if verb == "edit":
            return 200, {"pipeline": payload["pipeline"], "version": self.edited}
        return (409, {}) if payload["name"] in PIPELINES else (200, {"pipeline": "new"})

    def stop(self) -> None:
        """Nothing runs."""

    def kill(self) -> None:
        """Nothing runs."""


def judged(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    doctor: Any = lambda server: None,
    *,
    lost: bool = False,
    harmless: bool = False,
) -> Result:
    """Run a case with a scripted server."""

    class Doctored(Scripted):
        def __init__(self, data: Path, _witness: Path | None) -> None:
            super().__init__(data)
            doctor(self)

    before = Report(events={1: ("trackbook.evt.pipeline.aa", b"1")})

    async def examine(_: Path) -> Report:
        return Report() if lost else before

    monkeypatch.setattr(case, "Server", Doctored)
    monkeypatch.setattr(case, "copy", lambda _, target: target.mkdir())
    monkeypatch.setattr(shutil, "copyfile", lambda *_: None)
    monkeypatch.setattr(case, "examine", examine)
    shown = {state: deepcopy(answers()) for state in (KILLED, STOPPED)}
    original = Original(
        folder, shown, dict.fromkeys((KILLED, STOPPED), before), versions=dict.fromkeys(PIPELINES, 2)
    )
    damage = Damage("doctored", lambda *_: "a doctored answer", harmless)
    return Case("doctored", 0, 1, original, damage).run()


def show(path: str, status: int, body: Any) -> Any:
    """Return what makes a server show something else."""
    return lambda server: server.shown.update({path: (status, body)})


def test_the_same_answers_without_a_report_are_harmless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing differs and nothing is reported."""
    assert judged(monkeypatch, tmp_path).verdict == HARMLESS


SILENCES = {
    "another version's text": show("/api/pipelines/aa/versions/1", 200, {"version": 1, "name": "other"}),
    "one field of a pipeline": show("/api/pipelines/aa", 200, {"id": "aa", "version": 1}),
    "an event less": show("/api/pipelines/aa/events", 200, [{"id": 1}]),
    "a pipeline less in the list": show("/api/pipelines", 200, [{"id": "aa", "version": 2}]),
    "a job more": show("/api/jobs", 200, [{"id": "j1"}]),
    "an error that names no damage": show("/api/pipelines/aa", 500, {"error": {"code": "internal_error"}}),
    "a list that became an error": show("/api/pipelines", 500, {"error": {"code": "internal_error"}}),
    "a list that became text": show("/api/jobs", 500, "Internal Server Error"),
    "not found": show("/api/pipelines/aa", 404, {"error": {"code": "not_found"}}),
    "the same version given again": lambda server: setattr(server, "edited", 2),
}


@pytest.mark.parametrize("name", SILENCES)
def test_a_doctored_answer_is_silent(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An answer that differs without any report is the failure that the campaign looks for."""
    result = judged(monkeypatch, tmp_path, SILENCES[name])
    assert (result.verdict, result.failed) == (SILENT, True), result.details


def test_what_is_lost_without_a_report_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A message that is gone counts even where every answer is the same."""
    assert judged(monkeypatch, tmp_path, lost=True).verdict == SILENT


def test_a_report_about_another_pipeline_does_not_cover_a_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What differs has to be named by what is reported."""

    def doctor(server: Scripted) -> None:
        server.ready = {"status": "degraded", "warnings": ["pipeline bb is quarantined"]}
        server.shown["/api/pipelines/aa"] = (200, {"id": "aa", "version": 1})

    assert judged(monkeypatch, tmp_path, doctor, lost=True).verdict == SILENT


def test_a_report_that_names_what_differs_is_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A quarantined pipeline is named by ready, and its answers report the damage."""

    def doctor(server: Scripted) -> None:
        server.ready = {"status": "degraded", "warnings": ["pipeline aa is quarantined"]}
        server.shown["/api/pipelines/aa"] = DAMAGED

    assert judged(monkeypatch, tmp_path, doctor, lost=True).verdict == START


def test_damage_is_found_when_it_is_loaded_or_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An answer that reports damage is found at load; a verify that does, at verify."""
    assert judged(monkeypatch, tmp_path, show("/api/pipelines/aa", *DAMAGED), lost=True).verdict == LOAD
    verified = show("/api/audit/verify", 200, {"ok": False, "problems": [{"id": "aa"}]})
    assert judged(monkeypatch, tmp_path, verified, lost=True).verdict == VERIFY


@pytest.mark.parametrize("harmless", [False, True])
def test_a_report_without_damage_is_a_false_alarm(
    harmless: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing was lost and nothing differs, but ready has a problem."""

    def doctor(server: Scripted) -> None:
        server.ready = {"status": "not ready", "problems": ["the log is damaged"]}

    assert judged(monkeypatch, tmp_path, doctor, harmless=harmless).verdict == FALSE_ALARM


def _raises(problem: Exception) -> Any:
    def doctor(_: Scripted) -> None:
        raise problem

    return doctor


def test_a_hang_and_a_refused_start_are_distinguished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A start that ends with words is refused, a false alarm without damage; one that does not end is a hang."""
    assert judged(monkeypatch, tmp_path, _raises(Hang("no answer"))).verdict == HANG
    assert judged(monkeypatch, tmp_path, _raises(Refused("damaged")), lost=True).verdict == REFUSED
    assert judged(monkeypatch, tmp_path, _raises(Refused("damaged"))).verdict == FALSE_ALARM


def test_a_traceback_is_a_failure_whatever_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a server prints is looked at too."""

    def doctor(server: Scripted) -> None:
        server.data.with_name("data.log").write_text("Traceback (most recent call last):\n  KeyError")

    result = judged(monkeypatch, tmp_path, doctor)
    assert (result.verdict, result.failed) == (TRACEBACK, True)


def test_what_was_reported_and_is_forgotten_at_the_next_start_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second start that reports nothing any more is the fault of a torn tail."""
    starts: list[Scripted] = []

    def doctor(server: Scripted) -> None:
        starts.append(server)
        if len(starts) == 1:
            server.ready = {"status": "not ready", "problems": ["the log is damaged"]}

    assert judged(monkeypatch, tmp_path, doctor, lost=True).verdict == SILENT


def test_the_table_counts_each_kind() -> None:
    """A line for each kind, and one for all."""
    lines = table([Result("flip", 0, verdict=START), Result("flip", 1, verdict=SILENT)]).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| flip", "2"], ["| all", "2"]]
