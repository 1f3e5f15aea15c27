"""Starts Trackbook's command line in forks of itself, so that the libraries are imported but once.

Run as a program. Standard input takes {"argv", "env", "log"} a line, and is answered with {"started": pid}; a
death with {"ended": pid, "status": exit code, or the negative number of the signal}. When the input ends,
everything is killed. What a fork runs is what the installed command runs: `trackbook.cli.entry`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
from typing import Any, NoReturn

LIBRARIES = (
    "aiosqlite", "faststream.nats", "httpx", "litestar", "litestar.openapi.config", "msgspec", "nats", "pydantic",
    "rich", "sqlalchemy.dialects.sqlite.aiosqlite", "structlog", "typer", "uvicorn", "yaml",
)  # fmt: skip


def main() -> None:
    """Fork on request until the input ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    living: set[int] = set()
    text = b""
    tell({"ready": os.getpid()})
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            bury(living)
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                living.add(start(json.loads(line)))
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def tell(news: dict[str, Any]) -> None:
    """Write a line to whoever started us."""
    os.write(1, json.dumps(news).encode() + b"\n")


def bury(living: set[int]) -> None:
    """Tell of those that have died."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        living.discard(pid)
        tell({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def start(asked: dict[str, Any]) -> int:
    """Fork and run the command line there."""
    pid = os.fork()
    if not pid:
        run(asked)
    tell({"started": pid})
    return pid


def run(asked: dict[str, Any]) -> NoReturn:
    """Become what was asked for."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for file, place in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(file, place)
        os.closerange(3, 256)
        os.environ.update(asked["env"])
        sys.argv = ["trackbook", *asked["argv"]]
        from trackbook.cli.entry import main as trackbook

        trackbook()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
