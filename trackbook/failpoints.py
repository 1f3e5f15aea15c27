"""Named points at which a test kills, delays or fails the process; inert unless TRACKBOOK_FAILPOINTS is set.

`TRACKBOOK_FAILPOINTS="append.acked=kill@3,launch.claimed=sleep:0.2"` kills the process by SIGKILL at the third
passing of `append.acked` and delays each passing of `launch.claimed`. Actions: `kill`, `sleep:SECONDS`, `raise`;
`@N` acts at the N-th passing only. TRACKBOOK_FAILPOINTS_HIT names a file to which each point passed is appended.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

_SPEC = os.environ.get("TRACKBOOK_FAILPOINTS", "")
_HIT = os.environ.get("TRACKBOOK_FAILPOINTS_HIT", "")
_ACTIONS = dict(part.split("=", 1) for part in _SPEC.split(",") if "=" in part)
_passed: Counter[str] = Counter()


class FailpointError(RuntimeError):
    """Raised where a failpoint's action is `raise`."""


if _ACTIONS or _HIT:

    def failpoint(name: str) -> None:
        """Act as TRACKBOOK_FAILPOINTS says for this point."""
        _passed[name] += 1
        if _HIT:
            with Path(_HIT).open("a") as hits:
                hits.write(f"{name}\n")
        action, _, nth = _ACTIONS.get(name, "").partition("@")
        if not action or (nth and int(nth) != _passed[name]):
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "raise":
            raise FailpointError(name)
        else:
            time.sleep(float(action.removeprefix("sleep:")))

else:

    def failpoint(name: str) -> None:
        """Do nothing: no failpoint is set."""
