"""The command line's states are the engine's: one list to show them and to ask for them."""

from __future__ import annotations

from typing import get_args

from trackbook.cli import states
from trackbook.cli.terminal.formatting import STATE_STYLES
from trackbook.engine.job_state import ENDED, TASK_ENDED, UNFINISHED, JobStatus, TaskStatus


def test_the_command_line_knows_the_states_of_the_engine() -> None:
    """A state that the engine gets is one here too, and has a colour."""
    assert set(states.JOB_STATES) == set(get_args(JobStatus))
    assert set(states.UNFINISHED) == set(UNFINISHED)
    assert set(states.ENDED) == ENDED
    assert set(states.TASK_ENDED) == TASK_ENDED
    assert STATE_STYLES.keys() >= {*get_args(JobStatus), *get_args(TaskStatus)}
