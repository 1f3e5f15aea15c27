"""What must hold of an installation at rest, and of the cluster that it ran on."""

from __future__ import annotations

from kill import examine, stream

from backendai.faults.site import Site


async def all_is_well(site: Site) -> None:
    """Assert that nothing is left on the cluster, nothing ran twice, and the log is intact and says the same."""
    await site.nothing_is_left()
    messages = await examine.log_is_well(site, await site.lines(), site.jobs)
    ended = {job for job, event in stream.job_events(messages) if event["type"] in stream.ENDS}
    assert ended == {job.id for job in site.jobs}, f"{ended} ({site})"
