"""The spawner: a small single-threaded process that forks launchers, and keeps some ready.

Run as a file by `python -I -S -B`. Forking from here is cheap and safe, since it is small and has one thread; a
launcher costs no start of an interpreter. Requests come as messages on standard input, a socket; when the
executor goes away, that ends and so do the spawner and the launchers without a session, while the others live on.
It answers once, at its start, with what it can give.
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
import select
import struct

from trackbook.adapters.local.box import launcher, roots
from trackbook.adapters.local.box.calls import signal_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_SPACE = 4096
_SPARES = 1
"""Launchers kept ready: what can be done before a request comes costs that request nothing."""
_PLACES = 8
"""At most so many launchers stay for another session (1.2 MB each); any others are forked for one session."""
_SESSIONS = 500
"""Sessions after which a launcher ends in any case, so that nothing can pile up in it."""


def main(*, private: bool, limit: int) -> None:
    """Offer a private root if asked to, then keep launchers ready until the executor is gone.

    `limit` is how many sessions run at once.
    """
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
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM, _signal.SIGCHLD})
    gc.disable()
    gc.freeze()
    keep_ready(server, Board(min(limit + _SPARES, _PLACES)), private=private)


class Board:
    """How launchers tell the spawner whether they are free, and how many of them may stay: two pipes."""

    def __init__(self, places: int) -> None:
        self.heard, self._said = os.pipe()
        self._places, self._leave = os.pipe()
        os.set_blocking(self.heard, False)
        os.set_blocking(self._places, False)
        os.write(self._leave, bytes(places))

    def take_place(self) -> bool:
        """Take one of the places for launchers that stay for another session.

        A launcher that is killed takes its place along; with none left, each launcher runs one session.
        """
        try:
            return len(os.read(self._places, 1)) == 1
        except BlockingIOError:
            return False

    def leave_place(self) -> None:
        """Give the place back."""
        os.write(self._leave, b"\0")

    def say(self, *, free: bool) -> None:
        """Tell the spawner that this launcher is free, or that it is not any more."""
        os.write(self._said, struct.pack("i", os.getpid() if free else -os.getpid()))

    def listen(self, spares: set[int]) -> None:
        """Bring the spawner's list of free launchers up to date."""
        try:
            for (word,) in struct.iter_unpack("i", os.read(self.heard, 4 * 256)):
                if word > 0:
                    spares.add(word)
                else:
                    spares.discard(-word)
        except BlockingIOError:
            return


def keep_ready(server: Any, board: Board, *, private: bool) -> None:
    """See to it that launchers are free, until the executor is gone.

    All of them wait on the same socket, whose messages go to one each. So a request is either still in the
    socket, where it outlives a launcher's death, or with a launcher, whose death the executor sees.
    """
    signals = signal_file(_signal.SIGCHLD, _signal.SIGTERM)
    spares: set[int] = set()
    poll = select.poll()
    poll.register(server, 0)  # nothing but its end: requests are the launchers'
    poll.register(board.heard, select.POLLIN)
    poll.register(signals, select.POLLIN)
    while True:
        fork_spares(spares, server, board, private)
        events = dict(poll.poll(None if len(spares) >= _SPARES else 100))  # no process to be had: soon again
        if server.fileno() in events:
            return see_off(spares)
        if signals in events and launcher.stop_asked(signals):
            return None
        board.listen(spares)
        reap(spares)


def see_off(spares: set[int]) -> None:
    """Wait for the free launchers, which end as well now: not every machine's first process buries orphans."""
    for pid in spares:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue


def reap(spares: set[int]) -> None:
    """Take the dead, launchers that have done their work as well as spares that were killed."""
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            spares.discard(pid)
    except ChildProcessError:
        return


def fork_spares(spares: set[int], server: Any, board: Board, private: bool) -> None:
    """Bring the number of free launchers to what it should be, as far as the system lets us."""
    while len(spares) < _SPARES:
        try:
            pid = os.fork()
        except OSError:
            return
        if pid == 0:
            be_launcher(server, board, private)
        spares.add(pid)


def be_launcher(server: Any, board: Board, private: bool) -> NoReturn:
    """Run sessions, one after the other; forking and warming up cost more than all else a launcher does."""
    try:
        spare = launcher.Spare(private=private)
        if run_session(server, board, spare):
            for _ in range(1, _SESSIONS):
                if not board.take_place():
                    break
                board.say(free=True)  # as good as: nothing need be forked while it makes itself ready
                spare.renew()
                again = run_session(server, board, spare)
                board.leave_place()
                if not again:
                    break
    finally:
        os._exit(0)  # a launcher must never continue as a second spawner


def run_session(server: Any, board: Board, spare: launcher.Spare) -> bool:
    """Wait for a request and run its session; return whether the launcher may run another one."""
    message, extra, _, _ = server.recvmsg(_SPACE, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC)
    if not message:
        return False
    board.say(free=False)
    ordinal, _, folder = message.partition(b" ")
    report, plan = struct.unpack("ii", extra[0][2])
    return launcher.run(spare, os.fsdecode(folder), report, plan, int(ordinal))


if __name__ == "__main__":
    main(private=sys.argv[2:] == ["--private-root"], limit=int(sys.argv[1]))
