"""The executor, its spawner and its launchers killed at random moments, with a ledger kept by the commands."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from local_process import ExecutorProcess
from seed import SEED
from steps import Steps

from trackbook.adapters.execution import folders
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.box import tree
from trackbook.adapters.local.cleanup import find
from trackbook.engine.job import ReportTaskEnded
from trackbook.engine.ports import SessionSpec

TASKS = 12


def sessions(ledger: Path, number: int) -> list[SessionSpec]:
    """Return sessions that note their begin and end in the ledger; some fail, some take a while."""
    made = []
    for index in range(TASKS):
        name = f"r{number}-{index}"
        command = (
            f"echo begin {name} >> {ledger}; {'read -t 0.05 <> <(:);' * (index % 3)} echo end {name} >> {ledger}"
        )
        command += f"; exit {index % 2}"
        session = f"tb-{name}-{os.getpid()}"
        made.append(SessionSpec(session, "j1", "p1", "pipe", name, index, 1, command))
    return made


def victims(executor: ExecutorProcess, data: Path, launched: list[SessionSpec], kind: str) -> list[int]:
    """Return the processes of a kind that may be killed now."""
    table = tree.processes()
    if kind == "executor":
        return [executor.pid]
    if kind == "spawner":
        return [executor.ready["spawner"]] if executor.ready["spawner"] in table else []
    if kind == "any launcher":
        parent = str(executor.ready["spawner"]).encode()
        return [pid for pid, fields in table.items() if fields[1] == parent and tree.living(fields)]
    states = (attempt_state.examine(folders.session_folder(data, session.session)) for session in launched)
    return [state.pid for state in states if state.name == "alive"]


async def drive(
    executor: ExecutorProcess, data: Path, ledger: Path, all_of_them: list[SessionSpec], chance: random.Random
) -> None:
    """Launch everything, kill a process at a random moment, restart it if that is on us, check the ends.

    The moment is a number of begins and ends of commands in the ledger. What comes between two of them, as a
    claim or an exit record, leaves no line there: some milliseconds are added.
    """
    ended: dict[str, ReportTaskEnded] = {}
    for session in all_of_them:
        executor.ask("launch", session)
    steps = Steps(ledger)
    moment = steps.count + chance.randrange(2 * TASKS)
    kind = chance.choice(["executor", "executor", "spawner", "launcher", "any launcher"])
    collecting = asyncio.create_task(collect(executor, ended))
    await steps.reach(moment, collecting.done)
    await asyncio.wait([collecting], timeout=chance.uniform(0, 0.03))
    targets = victims(executor, data, all_of_them, kind)
    if targets:
        tree.signal_all([chance.choice(targets)], signal.SIGKILL)
    if kind == "executor":
        await collecting
        await executor.died()
        await executor.start()
        for session in all_of_them:
            executor.ask("launch", session)
        ended.clear()
        collecting = asyncio.create_task(collect(executor, ended))
    await collecting
    check(ended, all_of_them)


async def collect(executor: ExecutorProcess, ended: dict[str, ReportTaskEnded]) -> None:
    """Take reports until every task has ended or the executor is gone."""
    while len(ended) < TASKS:
        report = await executor.report_or_none()
        if report is None:
            return
        if isinstance(report, ReportTaskEnded):
            ended[report.task] = report


def check(ended: dict[str, ReportTaskEnded], all_of_them: list[SessionSpec]) -> None:
    """Every task ended, as its command says or as lost, and nothing of it is left."""
    for session in all_of_them:
        end = ended[session.task]
        assert end.outcome == "lost" or end.exit_code == session.index % 2, end
        assert not find(session.session)


@pytest.mark.parametrize("seed", range(6))
async def test_no_command_runs_twice_and_none_is_lost(tmp_path: Path, seed: int) -> None:
    """Whatever is killed and whenever: each command begins at most once, and ended as reported."""
    chance, ledger, data = random.Random(f"{SEED}/{seed}"), tmp_path / "ledger", tmp_path / "data"
    async with ExecutorProcess(data) as executor:
        for number in range(3):
            made = sessions(ledger, number)
            await drive(executor, data, ledger, made, chance)
            executor.ready["spawner"] = await executor.spawner()
            lines = Counter(ledger.read_text().splitlines())
            assert set(lines.values()) <= {1}
            for session in made:
                record = attempt_state.examine(folders.session_folder(data, session.session)).record
                assert record
                assert record.lost or lines[f"end {session.task}"] == 1
