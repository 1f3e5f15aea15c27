"""The states of jobs and tasks as the command line knows them, to show and to ask for them.

Any other state that a server reports is shown unchanged.
"""

from __future__ import annotations

UNFINISHED = ("pending", "running", "paused", "failing", "cancelling")
ENDED = ("succeeded", "failed", "cancelled")
JOB_STATES = (*UNFINISHED, *ENDED)
TASK_ENDED = (*ENDED, "skipped")
