"""Failpoints of the launcher, in the syntax of trackbook.failpoints, which a launcher can't import.

A launcher passes each point once, so here `launcher.claimed=kill@3` means the third launcher of this spawner, and
`launcher.claimed=kill#TEXT` the launchers of sessions with TEXT in their name.
"""

from __future__ import annotations

import os
import time

_ACTIONS = dict(
    part.split("=", 1) for part in os.environ.get("TRACKBOOK_FAILPOINTS", "").split(",") if "=" in part
)
_HIT = os.environ.get("TRACKBOOK_FAILPOINTS_HIT", "")
IGNORE_CLAIM = "no-claim" in os.environ.get("TRACKBOOK_UNSAFE", "").split(",")
"""Test switch that shows what the claim is for: with it, an attempt can run twice."""


def point(name: str, session: str, ordinal: int) -> None:
    """Act as TRACKBOOK_FAILPOINTS says for this point, session and launcher."""
    if _HIT:
        hits = os.open(_HIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(hits, f"{name}\n".encode())
        os.close(hits)
    action, _, nth = _ACTIONS.get(name, "").partition("@")
    action, _, text = action.partition("#")
    if not action or (nth and int(nth) != ordinal) or text not in session:
        return
    if action == "kill":
        os.kill(os.getpid(), 9)
    elif action.startswith("sleep:"):
        time.sleep(float(action[6:]))
    else:
        raise OSError(f"failpoint {name}")
