"""One case of the campaign: a damaged copy of the store, what its server shows and does, and the verdict."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import traceback
from collections.abc import Container
from dataclasses import dataclass, field
from random import Random
from typing import Any

from checker.raw_log import examine

from damage import foreign
from damage.answers import (
    DAMAGE_CODES,
    Answers,
    damage_reports,
    differences,
    read_again,
    reported,
    unread_sessions,
)
from damage.damages import Damage, outside
from damage.original import KILLED, STATES, STOPPED, Original, copy
from damage.server import PATIENCE, Hang, Refused, Server

START, LOAD, VERIFY, REFUSED, HARMLESS = "at start", "at load", "at verify", "refused", "harmless"
FALSE_ALARM, SILENT, HANG, TRACEBACK, BROKEN = "false alarm", "silent", "hang", "traceback", "broken"
VERDICTS = (START, LOAD, VERIFY, REFUSED, HARMLESS, FALSE_ALARM, SILENT, HANG, TRACEBACK, BROKEN)
FAILURES = (FALSE_ALARM, SILENT, HANG, TRACEBACK, BROKEN)


@dataclass
class Result:
    """What came of a case; `details` say what differs and what was reported."""

    kind: str
    number: int
    what: str = ""
    verdict: str = ""
    details: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the verdict and what led to it, in a line."""
        return f"{self.verdict:12} {self.kind} {self.number}: {self.what}"

    @property
    def failed(self) -> bool:
        """Whether something is not as it must be."""
        return self.verdict in FAILURES


@dataclass
class Case:
    """A case by its kind and number; the same seed and number do the same again."""

    kind: str
    number: int
    seed: int
    original: Original
    damage: Damage | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        self.random = Random(f"{self.seed}/{self.kind}/{self.number}")
        self.data = (
            self.original.folder / f"case-{self.kind}-{self.number}".replace(" ", "-").replace("'", "") / "data"
        )
        self.result = Result(self.kind, self.number)
        self.reports: dict[str, list[str]] = {START: [], LOAD: [], VERIFY: []}
        self.text = ""
        self.differs: list[str] = []
        self.source = self.random.choice([STOPPED, KILLED])
        self.known, self.undamaged = self.original.answers[self.source], self.original.reports[self.source]
        self.found = self.undamaged
        self.witness = outside(self.data) if self.damage and self.damage.witnessed else None
        self.edited: dict[str, int] = {}

    def run(self) -> Result:
        """Damage a copy, look at it from outside, start, read, command, verify and stop."""
        shutil.rmtree(self.data.parent, ignore_errors=True)
        self.data.parent.mkdir(parents=True)
        copy(self.original.state(self.source), self.data)
        shutil.copyfile(self.original.witness(self.source), outside(self.data))
        try:
            if self.damage and not self.damage.live:
                self._do(self.damage)
                self.found = asyncio.run(examine(self.data))
            self._serve()
        except Refused as refused:
            self.result.verdict = REFUSED
            self.result.details.append(str(refused)[-600:])
        except Hang as hang:
            self.result.verdict = HANG
            self.result.details.append(str(hang))
        except Exception:  # a mistake of the harness: the other cases go on
            self.result.verdict = BROKEN
            self.result.details.append(traceback.format_exc()[-1500:])
        log = self.data.with_name("data.log")
        printed = log.read_text(errors="replace") if log.exists() else ""
        if "Traceback (most recent call last)" in printed:
            self.result.verdict = TRACEBACK
            self.result.details.append(printed[printed.index("Traceback") :][-1500:])
        self._judge(printed)
        if not self.result.failed and not self.keep:
            shutil.rmtree(self.data.parent, ignore_errors=True)
        return self.result

    @property
    def lost(self) -> list[str]:
        """What is gone of the undamaged log."""
        return self.found.lost(self.undamaged)

    def _do(self, damage: Damage) -> None:
        self.result.what = f"{self.source}: {damage.do(self.random, self.data, self.original)}"

    def _serve(self) -> None:
        server = Server(self.data, self.witness)
        try:
            ready = self._settled(server)
            if self.damage is None:
                job, message = foreign.FOREIGN[self.kind.removeprefix("foreign ")](
                    self.random, self.original, self.undamaged
                )
                foreign.publish(self.data, (job, message))
                self.result.what = f"{source_of(message)} as the next commit of job {job}"
                ready = server.wait_projected()
            elif self.damage.live:
                self._do(self.damage)
            self._look(server, ready)
            server.stop()
            if self.damage is None or self.damage.live:
                self.found = asyncio.run(examine(self.data))
            if self.lost or self.damage is None or self.damage.live:
                self._again()
        finally:
            server.kill()

    def _settled(self, server: Server) -> dict[str, Any]:
        """Return the readiness once it is decided what becomes of the jobs that were running."""
        ready = server.wait_ready()
        if self.source == STOPPED or ready.get("status") == "not ready":
            return ready
        deadline = time.monotonic() + PATIENCE
        for job in self.original.running:
            while time.monotonic() < deadline:
                status, shown = server.get(f"/api/jobs/{job}")
                if status != 200 or shown["state"] in STATES:
                    break
                time.sleep(0.05)
        server.wait_projected()
        return ready

    def _look(self, server: Server, ready: dict[str, Any]) -> None:
        self.ready = ready
        self.reports[START] += _of_ready(ready) + _of_log(server)
        shown = read_again(server, self.known)
        unread = unread_sessions(shown)
        answers = self.original.shown(self.source, shown)
        self._command(server, answers)
        self.reports[LOAD] += damage_reports(answers) + unread
        status, verified = server.get("/api/audit/verify")
        if status != 200 or not verified.get("ok"):
            self.reports[VERIFY].append(f"{status} {json.dumps(verified)[:600]}")
        self.text = json.dumps([ready, server.get("/api/log"), server.get("/api/quarantine"), verified, unread])
        self.reports[VERIFY] += [each for each in _of_log(server) if each not in self.reports[START]]
        self.answers = answers
        self.differs += [path for path in differences(self.known, answers) if not self._covers(path)]

    def _covers(self, path: str, changed: Container[str] = ()) -> bool:
        """Whether what was reported says why an answer differs: all is in doubt, or what differs is named.

        An item of a list may be `changed` by the case's own commands.
        """
        if self.ready.get("status") == "not ready":
            return True
        known, found = self.known.get(path, (0, None)), self.answers.get(path, (0, None))
        if path.count("/") == 2:
            if not isinstance(known[1], list) or not isinstance(found[1], list):
                return False  # a list that can't be read names nothing
            old, new = ({item["id"]: item for item in body[1]} for body in (known, found))
            differ = [key for key in {*old, *new} if old.get(key) != new.get(key)]
            return all(key in self.text or key in changed for key in differ)
        return path.split("/")[3] in self.text

    def _command(self, server: Server, answers: Answers) -> None:
        """Give commands whose replies are known, and keep them among the answers."""
        for payload, expected in self.original.refused[:3]:
            self._expect(
                answers,
                f"again {payload['command_id']}",
                server.command("pipeline", "create", **payload),
                expected,
            )
        for name in self.random.sample(sorted(self.original.versions), 3):
            change = {"op": "set_variable", "variable": "CASE", "value": "1"}
            answer = server.command("pipeline", "edit", pipeline=name, changes=[change])
            follows = answer[1].get("version") == self.original.versions[name] + 1
            if answer[0] == 200 and follows:
                self.edited[str(answer[1]["pipeline"])] = self.original.versions[name] + 1
            self._expect(answers, f"edit {name}", answer, (200, answer[1]), follows)
        taken = server.command("pipeline", "create", name=self.random.choice(sorted(self.original.versions)))
        self._expect(answers, "create taken", taken, (409, taken[1]))
        made = server.command("pipeline", "create", name="of-this-case")
        self._expect(answers, "create", made, (200, made[1]))
        if made[0] == 200:
            self.edited[str(made[1]["pipeline"])] = 1

    def _expect(self, answers: Answers, name: str, reply: Any, expected: Any, right: bool = True) -> None:
        if reply == expected and right:
            return
        code = (reply[1].get("error") or {}).get("code") if isinstance(reply[1], dict) else ""
        self.result.details.append(f"command: {name}: {str(reply)[:300]}")
        if code in DAMAGE_CODES:
            self.reports[LOAD].append(f"{name}: {code}")
        else:
            self.differs.append(f"command: {name}")

    def _again(self) -> None:
        """Start once more: what was reported must not be forgotten, and what was accepted meanwhile is there."""
        server = Server(self.data, self.witness)
        try:
            self.ready = server.wait_ready()
            again = _of_ready(self.ready) + _of_log(server)
            if self.reports[START] and not again:
                self.differs.append("at the second start nothing was reported any more")
            if self.damage and self.damage.live:
                self._look_again(server, again)
            server.stop()
        finally:
            server.kill()

    def _look_again(self, server: Server, again: list[str]) -> None:
        """Compare what a second server shows with what was known, and with what was accepted since."""
        self.reports[START] += [f"second start: {each}" for each in again]
        self.answers = self.original.shown(self.source, read_again(server, self.known))
        self.reports[LOAD] += [f"second start: {each}" for each in damage_reports(self.answers)]
        status, verified = server.get("/api/audit/verify")
        if status != 200 or not verified.get("ok"):
            self.reports[VERIFY].append(f"second start: {status} {json.dumps(verified)[:600]}")
        self.text = json.dumps([self.ready, server.get("/api/log"), server.get("/api/quarantine"), verified])
        for path in differences(self.known, self.answers):
            changed = path.count("/") > 2 and path.split("/")[3] in self.edited
            if changed and "versions/" in path:
                changed = path not in self.known  # earlier versions stay as they are
            if not changed and not self._covers(path, self.edited):
                self.differs.append(f"second start: {path}")
        for pipeline, version in self.edited.items():
            path = f"/api/pipelines/{pipeline}"
            shown = self.answers.get(path, (0, {}))[1]
            if shown.get("version") != version and not reported(self.answers, path) and not self._covers(path):
                self.differs.append(f"second start: version {version} of {path} was accepted and is gone")

    def _judge(self, printed: str) -> None:
        result = self.result
        damaged = bool(self.lost or self.found.wrong)
        if self.damage is None:
            damaged = True
        harmless = self.damage is not None and self.damage.harmless
        may_report = damaged or (self.damage is not None and self.damage.other)
        when_reported = next((when for when in (START, LOAD, VERIFY) if self.reports[when]), "")
        if result.verdict == REFUSED and (harmless or not may_report):
            result.verdict = FALSE_ALARM
        if not result.verdict:
            late = self.damage is not None and self.damage.at_start and when_reported != START
            if self.differs or (damaged and not when_reported) or late:
                result.verdict = SILENT
            elif when_reported and (harmless or not may_report):
                result.verdict = FALSE_ALARM
            else:
                result.verdict = when_reported or HARMLESS
        if damaged and not self.reports[VERIFY] and result.verdict in (START, LOAD):
            result.details.append("verify found nothing")
        result.details += [f"differs: {self.differs[:6]}"] if self.differs else []
        result.details += [f"lost: {self.lost[:6]}"] if self.lost else []
        result.details += [f"checker: {self.found.wrong[:4]} {self.found.remarks[:2]}"]
        result.details += [f"{when}: {str(what[:4])[:700]}" for when, what in self.reports.items() if what]
        result.details += [
            f"printed: {line[:300]}" for line in printed.splitlines() if "warn" in line or "error" in line
        ][:6]


def source_of(message: bytes) -> str:
    """Return a message in short."""
    return repr(message[:60])


def _of_ready(ready: dict[str, Any]) -> list[str]:
    """Return what readiness reports."""
    said = [*ready.get("problems", []), *ready.get("warnings", [])]
    return said + ([f"quarantined: {ready['quarantined']}"] if ready.get("quarantined") else [])


def _of_log(server: Server) -> list[str]:
    """Return the evidence of loss, and what is quarantined."""
    _, log = server.get("/api/log")
    _, quarantine = server.get("/api/quarantine")
    return [
        json.dumps(each)
        for each in [*log.get("evidence", []), *log.get("faults", []), *quarantine.get("items", [])]
    ]
