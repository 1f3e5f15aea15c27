"""A frozen event loop is noticed, explained and ended; one that is only slow, idle or stopped is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.connection import Connection
from trackbook.http.transport.connections import Connections
from trackbook.runtime.data_directory.identity import claim_directory
from trackbook.runtime.health import Health
from trackbook.runtime.process.watchdog import Watchdog
from trackbook.runtime.system import Base, Config

PROGRAM = """
import asyncio, re, sys
from trackbook.runtime.process.watchdog import Watchdog

{body}

async def main():
    async with Watchdog(tick=0.05, report_after=0.2, exit_after={exit_after}) as watchdog:
        print("watched", flush=True)
        await work(watchdog)
    print("done", flush=True)

asyncio.run(main())
"""
PATIENCE = 120


@contextmanager
def program(body: str, exit_after: float) -> Iterator[subprocess.Popen[str]]:
    """Run an event loop in a process of its own, once it is watched."""
    source = PROGRAM.format(body=body, exit_after=exit_after)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "watched\n"
            yield run
        finally:
            run.kill()


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    """Return a program's exit code and what it printed."""
    output = run.communicate(timeout=PATIENCE)[0]
    return run.returncode, output


def test_a_loop_that_never_runs_again_ends_the_process() -> None:
    """Code that spins inside the loop is named in the log, and the process ends with exit code 70."""
    spin = "async def work(watchdog):\n    def stuck_here():\n        while True: pass\n    stuck_here()"
    with program(spin, 0.6) as run:
        code, output = ended(run)

    assert code == 70, output
    assert "event_loop.blocked" in output
    assert "event_loop.given_up" in output
    assert "in stuck_here" in output
    assert "done" not in output


def test_code_that_keeps_the_interpreter_ends_the_process_too() -> None:
    """A call that never lets another thread run is ended by the kernel's timer, with the stacks on stderr."""
    regex = "async def work(watchdog):\n    re.match('(a+)+$', 'a' * 64 + 'b')"
    with program(regex, 0.6) as run:
        code, output = ended(run)

    assert code == -signal.SIGPROF, output
    assert "in work" in output


def test_a_loop_that_runs_again_is_reported_for_a_while() -> None:
    """A long block is a problem while it lasts and for some time after, and the process goes on."""
    body = """
async def work(watchdog):
    while not watchdog.problem: pass
    print(watchdog.problem, flush=True)
    while watchdog.problem: await asyncio.sleep(0.05)
"""
    with program(body, 3.0) as run:
        code, output = ended(run)

    assert code == 0, output
    assert "the event loop did not run for 0.2 s" in output
    assert "done" in output


def test_an_idle_or_busy_loop_is_left_alone() -> None:
    """A loop that waits, and one that has always something to do, run through many times the limit."""
    body = """
async def work(watchdog):
    while watchdog.looks < 100: await asyncio.sleep(1)
    while watchdog.looks < 200: await asyncio.sleep(0)
"""
    with program(body, 3.0) as run:
        code, output = ended(run)

    assert code == 0, output


def test_a_stopped_process_is_not_taken_for_a_frozen_one() -> None:
    """While the whole process is stopped no time counts, however long that is."""
    body = """
async def work(watchdog):
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(10, go.set)
    print("ready", flush=True)
    await go.wait()
"""
    with program(body, 0.6) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGSTOP)
        wait_until_stopped(run.pid)
        time.sleep(2)  # three times the limit
        run.send_signal(signal.SIGCONT)
        run.send_signal(signal.SIGUSR1)
        code, output = ended(run)

    assert code == 0, output
    assert "blocked" not in output


def test_what_it_found_is_a_problem_of_the_system(tmp_path: Path) -> None:
    """/health/ready says what the watchdog found."""
    watchdog = Watchdog()
    base = Base(
        config=Config(data=tmp_path),
        identity=claim_directory(tmp_path, "", embedded=True, engine=True),
        access=Access("nats://127.0.0.1:1"),
        connection=Connection(),
        watchdog=watchdog,
    )
    health = Health(base, None, Connections(1))
    before = health.problems()
    watchdog.problem = "the event loop did not run for 15 s"

    assert [problem for problem in health.problems() if problem not in before] == [watchdog.problem]


def wait_until_stopped(pid: int) -> None:
    """Wait until the kernel has stopped a process."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.read_text().rsplit(")", 1)[1].split()[0] != "T":
        os.sched_yield()
