"""A real server of a data directory: started, waited for, read and stopped within bounds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from kill import processes

PATIENCE = float(os.environ.get("TRACKBOOK_DAMAGE_PATIENCE", "60"))
"""Seconds within which a server is ready or has ended, answers a request, and stops."""
ALL_PATIENCE = 10 * PATIENCE
"""Seconds within which a server has answered everything: undamaged, it takes some ten.

A history that is cut short is looked for again for a second, at each read.
"""
_LOOK = 0.05
_TRACEBACK = "Traceback (most recent call last)"
Reply = dict[str, Any]


class Hang(Exception):
    """The server did not do within the bound what it has to do."""


class Refused(Exception):
    """The server ended by itself before it was ready; the text is what it printed."""


class Server:
    """`trackbook up` on a data directory, in a process group of its own; `witness` is its --witness."""

    def __init__(self, data: Path, witness: Path | None = None) -> None:
        self.data = data
        self._log = data.with_name(f"{data.name}.log")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRACKBOOK_")}
        (data / "server.json").unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "trackbook", "up", "--data", str(data), "--http", "127.0.0.1:0"),
                    *(("--witness", str(witness)) if witness else ()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean,
                start_new_session=True,
            )
        self._until = time.monotonic() + ALL_PATIENCE
        self.http = httpx.Client(timeout=PATIENCE, trust_env=False)

    @property
    def printed(self) -> str:
        """What it printed on stdout and stderr, and what servers of this directory printed before."""
        return self._log.read_text(errors="replace")

    @property
    def has_traceback(self) -> bool:
        """Whether it printed a traceback."""
        return _TRACEBACK in self.printed

    def wait_ready(self) -> Reply:
        """Return the readiness once it will not change any more: ready, or damaged for good.

        Raises Hang or Refused.
        """
        deadline = time.monotonic() + PATIENCE
        answer: Reply = {}
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Refused(self.printed)
            if self._connect():
                answer = self._readiness()
                caught_up = answer.get("head") == answer.get("checkpoint")
                lasting = any("damaged" in problem for problem in answer.get("problems", []))
                if caught_up and (answer.get("status") in ("ready", "degraded") or lasting):
                    return answer
            time.sleep(_LOOK)
        if answer.get("problems"):
            return answer
        raise Hang(
            f"not ready within {PATIENCE:.0f} s: {answer or 'no answer'}; it printed: {self.printed[-2000:]}"
        )

    def _connect(self) -> bool:
        if self.http.base_url.host:
            return True
        try:
            known = json.loads((self.data / "server.json").read_text())
        except (OSError, ValueError):
            return False
        if not known.get("url"):
            return False
        self.http.base_url = known["url"]
        self.http.headers["authorization"] = f"Bearer {known['token']}"
        return True

    def _readiness(self) -> Reply:
        try:
            return dict(self.http.get("/health/ready").json())
        except (httpx.HTTPError, ValueError) as problem:
            return {"problem": repr(problem)}

    def wait_projected(self) -> Reply:
        """Return the readiness once the read model is at the end of the log; the last one if it never is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._readiness()
            if answer.get("head") == answer.get("checkpoint") or time.monotonic() > deadline:
                return answer
            time.sleep(_LOOK)

    def get(self, path: str, **parameters: Any) -> tuple[int, Any]:
        """Return status and body. Raises Hang where no answer comes in time."""
        return self._answer("GET", path, params=parameters)

    def command(self, kind: str, verb: str, **payload: Any) -> tuple[int, Any]:
        """Give a command and return status and reply. Raises Hang where no answer comes in time."""
        return self._answer("POST", f"/api/commands/{kind}/{verb}", json=payload)

    def _answer(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        if time.monotonic() > self._until:
            raise Hang(f"{method} {path}: all answers together took more than {ALL_PATIENCE:.0f} s")
        try:
            answer = self.http.request(method, path, **request)
        except httpx.TimeoutException as slow:
            raise Hang(f"{method} {path}: no answer within {PATIENCE:.0f} s") from slow
        except httpx.HTTPError as problem:
            return 0, {"error": {"code": "no_answer", "message": repr(problem)}}
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def stop(self) -> None:
        """Stop it with SIGTERM. Raises Hang where it does not end in time."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Hang(f"SIGTERM did not end it within {PATIENCE:.0f} s") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the whole tree, as a power cut does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for _ in range(100):
            remaining = processes.of(self.data)
            for each in remaining:
                processes.kill(each.pid, "")
            if not remaining:
                break
            time.sleep(_LOOK)
        self.http.close()
