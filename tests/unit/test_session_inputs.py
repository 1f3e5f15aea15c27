"""Which outputs a session reads: those of its dependencies, and of the attempt before."""

from __future__ import annotations

from pathlib import Path

from office import CHAIN, opened

from trackbook.engine.ports import SessionInput


async def test_a_session_names_the_attempts_that_it_reads(tmp_path: Path) -> None:
    """An input names job, index and attempt; from the second attempt on, the one before is read as well."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    job = (await office.must("job.start", pipeline="chain"))["job"]
    state = (await office.ended(job)).state
    first = await office.sessions.spec(state, "second")
    state.tasks["first"].attempt = 3
    state.tasks["second"].attempt = 2
    second = await office.sessions.spec(state, "second")
    await office.close()

    assert (first.inputs, first.previous) == ([SessionInput(job, "first", 0, 1)], None)
    assert second.inputs == [SessionInput(job, "first", 0, 3)]
    assert second.previous == SessionInput(job, "second", 1, 1)
