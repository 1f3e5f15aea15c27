"""Debian's packages for tests that need programs: by apt-get, one process at a time on the whole machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_LOCK = Path("/var/tmp/trackbook-tests.apt")
_PATIENCE = 300.0
"""Seconds for somebody else's apt, such as a new machine's first update by itself."""


class NotInstalled(Exception):
    """A package can't be had; says why."""


def install(packages: Sequence[str], *, archives: Path | None = None) -> None:
    """Install packages without starting the services that come with them; `archives` keeps their files.

    Two apt-gets at once fail, and each worker of a parallel run may need packages: whoever comes second waits.
    Raises NotInstalled where there is no apt-get, or it fails.
    """
    if not shutil.which("apt-get"):
        raise NotInstalled(f"{', '.join(packages)} not installed, and there is no apt-get")
    options = ["-qq", "-o", f"DPkg::Lock::Timeout={_PATIENCE:.0f}"]
    if archives:
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        options += ["-o", f"Dir::Cache::archives={archives}"]
    with _alone(), _services_kept_stopped():
        wanted = [*options, "install", "-y", "--no-install-recommends", *packages]
        if _apt(wanted):  # lists that are missing or old
            for arguments in ([*options, "update"], wanted):
                if refused := _apt(arguments):
                    raise NotInstalled(f"apt-get can't install {', '.join(packages)}: {refused}")


def _apt(arguments: Sequence[str]) -> str:
    """Run apt-get; return why it failed, or nothing. Waits for the lock of the lists, for which apt does not."""
    until = time.monotonic() + _PATIENCE
    while True:
        done = subprocess.run(
            ["apt-get", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return ""
        if "Could not get lock" not in done.stderr or time.monotonic() > until:
            return f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}".strip()
        time.sleep(1)


@contextmanager
def _alone() -> Iterator[None]:
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _services_kept_stopped() -> Iterator[None]:
    """Keep services stopped in the documented way, unless the machine has a policy of its own."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
