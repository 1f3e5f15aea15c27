"""The spawner: a small single-threaded process that forks a launcher for each request.

Run as a file by `python -I -S -B`. Forking from here is cheap and safe, since it is small and has one thread, and a
launcher costs no start of an interpreter. Requests come as messages on standard input, a socket; when the executor
goes away, that ends and so does the spawner, while its launchers live on. It answers once, at its start, with what
it can give.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # the packages above are not run: they are the server's
    _FOLDER = __file__.rpartition("/")[0]
    _NAMES = ("trackbook.adapters.local.box", "trackbook.adapters.local", "trackbook.adapters", "trackbook")
    for _depth, _name in enumerate(_NAMES):
        _package = type(sys)(_name)
        _package.__path__ = [_FOLDER.rsplit("/", _depth)[0]]
        sys.modules[_name] = _package


import _signal  # type: ignore[import-not-found]
import _socket
import gc
import marshal
import os
from typing import Any, NoReturn

from trackbook.adapters.local.box import launcher, roots

_HELD_BACK = {_signal.SIGTERM, _signal.SIGCHLD}
_SPACE = 4096


def main(private: bool) -> None:
    """Offer a private root if asked to, then serve until the executor is gone."""
    server = _socket.socket(fileno=0)
    ready: dict[str, Any] = {"private_root": False, "own_work": False, "problem": ""}
    if private:
        try:
            ready["own_work"] = roots.build_template()
            ready["private_root"] = True
        except OSError as error:
            ready["problem"] = str(error)
    server.send(marshal.dumps(ready))
    if ready["problem"]:
        return  # perhaps half way into a new root: the executor starts another one without it
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # launchers need no reaping
    gc.disable()
    gc.freeze()
    serve(server)


def serve(server: Any) -> None:
    """Fork a launcher for each request: its folder as text, the report pipe and the plan as descriptors."""
    ordinal = 0
    space = _socket.CMSG_SPACE(8)
    while True:
        folder, extra, _, _ = server.recvmsg(_SPACE, space, _socket.MSG_CMSG_CLOEXEC)
        if not folder:
            return
        descriptors = extra[0][2]
        report, plan = (int.from_bytes(descriptors[at : at + 4], sys.byteorder) for at in (0, 4))
        ordinal += 1
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD_BACK)  # a stop may come before the launcher is ready
        try:
            if os.fork() == 0:
                become_launcher(folder, report, plan, ordinal)
        except OSError as error:
            launcher.say(report, f"X{error}")
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _HELD_BACK)
        os.close(report)
        os.close(plan)


def become_launcher(folder: bytes, report: int, plan: int, ordinal: int) -> NoReturn:
    """Leave the spawner behind and run the session."""
    try:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        os.dup2(1, 0)  # leave the socket, and the number occupied
        size = os.fstat(plan).st_size
        content = marshal.loads(os.pread(plan, size, 0))  # noqa: S302 - by the executor, for this interpreter
        os.close(plan)
    except BaseException as error:
        launcher.say(report, f"X{type(error).__name__}: {error}")
        os._exit(1)
    launcher.run(os.fsdecode(folder), report, content, ordinal)


if __name__ == "__main__":
    main(private="--private-root" in sys.argv)
