"""The start of a job: which version, with which values, and what refuses it."""

from __future__ import annotations

from pathlib import Path

from office import CHAIN, opened, start_job, until_launched

from trackbook.testing.executor import Play


async def test_the_executor_sees_merged_variables_and_inputs_in_order(tmp_path: Path) -> None:
    """Pipeline variables, then the task's, then the job's parameters; inputs as the dependencies stand."""
    yaml = CHAIN.replace("[first]}", "[first], environment: {envs: {SHADE: dark}}}")
    office = await opened(tmp_path)

    job = await start_job(office, yaml, parameters={"COLOUR": "green"})
    await office.ended(job)

    second = office.executor.launches[-1]
    assert second.variables == {"COLOUR": "green", "SHADE": "dark"}
    assert [given.task for given in second.inputs] == ["first"]
    assert second.session == f"tb-{job}-1-1"
    await office.close()


async def test_a_job_keeps_its_version_whatever_is_edited_later(tmp_path: Path) -> None:
    """Later edits never reach a job: its definition is fixed by hash when it starts."""
    office = await opened(tmp_path, script=lambda spec: Play(hold=spec.task == "first"))
    job = await start_job(office)
    await until_launched(office, 1)

    await office.must("pipeline.apply", yaml=CHAIN.replace("echo two", "echo changed"))
    office.executor.finish(f"tb-{job}-0-1")
    await office.ended(job)

    assert office.executor.launches[-1].command.strip() == "echo two"
    await office.close()


async def test_an_older_version_can_be_run(tmp_path: Path) -> None:
    """`version` says which content runs."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    await office.must("pipeline.apply", yaml=CHAIN.replace("echo two", "echo changed"))

    started = await office.must("job.start", pipeline="chain", version=1)
    await office.ended(started["job"])

    assert office.executor.launches[-1].command.strip() == "echo two"
    await office.close()


async def test_a_pipeline_that_must_not_run_is_refused_at_start(tmp_path: Path) -> None:
    """What isn't acted on yet is never silently ignored: a secret that nobody would resolve stops the start."""
    office = await opened(tmp_path)
    yaml = CHAIN.replace("red", "'${{ secrets.COLOUR }}'")
    applied = await office.must("pipeline.apply", yaml=yaml)

    refused = await office.ask("job.start", pipeline="chain")

    assert applied["warnings"]
    assert refused["status"] == "rejected"
    assert "COLOUR" in refused["error"]["path"]
    await office.close()


async def test_what_a_local_session_does_not_have_is_reported_at_the_start(tmp_path: Path) -> None:
    """An image and a cluster of nodes are never silently ignored."""
    yaml = CHAIN.replace("command: echo two", "command: echo two, cluster_mode: multi-node, cluster_size: 2")
    yaml = yaml.replace("command: echo one", "command: echo one, environment: {image: x/y:1}")
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=yaml)

    started = await office.must("job.start", pipeline="chain")

    reported = {warning["code"]: warning for warning in started["warnings"]}
    assert set(reported) == {"image_ignored", "cluster_ignored"}
    assert reported["cluster_ignored"]["path"] == "tasks[1].cluster_size"
    await office.ended(started["job"])
    await office.close()


async def test_an_unknown_executor_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """The reply names what could be asked for."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)

    refused = await office.ask("job.start", pipeline="chain", executor="moon")

    assert refused["error"]["code"] == "unknown_executor"
    assert "local" in refused["error"]["hint"]
    await office.close()
