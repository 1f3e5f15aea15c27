"""The seed of all chance in the tests, Hypothesis included.

It is the same in each run, so that a failure is repeated by running again. TRACKBOOK_SEED=NUMBER takes another,
TRACKBOOK_SEED=random draws one. Every run prints its seed.
"""

from __future__ import annotations

import os
from random import SystemRandom

DEFAULT = 20_260_424


def _chosen() -> int:
    asked = os.environ.get("TRACKBOOK_SEED", str(DEFAULT))
    return SystemRandom().randrange(10**9) if asked == "random" else int(asked)


SEED = _chosen()
os.environ["TRACKBOOK_SEED"] = str(SEED)
"""Processes that a test starts, the workers of a parallel run among them, draw the same."""
