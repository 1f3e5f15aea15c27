"""Stacks that belong to a process: they end with it, however it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backendai.stack.processes import PREFIX, claim, end_orphans
from backendai.stack.settings import ROOT, SPAN, Settings, Sizes
from backendai.stack.stack import Stack

PARENT = Path("/var/tmp")
"""Not a test's own folder: PostgreSQL's account must get there."""
BASES = range(20000, 30000, 100)
"""Below the ports that the kernel hands out itself."""


@contextmanager
def booted(series: str, sizes: Sizes | None = None, cache: Path = ROOT / ".stack") -> Iterator[Stack]:
    """Boot a stack of its own place and ports; raise Unavailable where it can't be had.

    Stacks that a killed run has left are ended first. This one is ended by its guard should this process be
    killed, and by the next run should the guard be, too.
    """
    end_orphans(PARENT)
    settings = _place(Settings(series, PARENT, 0, sizes or Sizes(), cache))
    stack = Stack(settings, lambda text: print(f"backend.ai {text}", file=sys.__stderr__, flush=True))
    guard = _guard(settings.state)
    try:
        stack.up()
        yield stack
    finally:
        stack.wipe()
        assert guard.stdin
        guard.stdin.close()
        guard.wait()


def _place(settings: Settings) -> Settings:
    """Return a place that nobody has, made: its name holds the base port, so two runs can't share one."""
    start = os.getpid() % len(BASES)
    for base in (*BASES[start:], *BASES[:start]):
        folder = PARENT / f"{PREFIX}{base}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        if all(_free(port) for port in range(base, base + SPAN)):
            claim(folder, os.getpid())
            return settings.at(base, folder)
        folder.rmdir()
    raise RuntimeError("no free ports for a stack")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _guard(state: Path) -> subprocess.Popen[bytes]:
    """Start what ends the stack when this process is no more: it waits for the end of its standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "backendai.stack.guard", str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        start_new_session=True,
    )
