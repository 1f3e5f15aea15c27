"""The executor's end of the spawner: starts it, sends it requests, starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.local.box import spawner as program

_PASSED = ("TRACKBOOK_FAILPOINTS", "TRACKBOOK_FAILPOINTS_HIT", "TRACKBOOK_UNSAFE")
_READY_WITHIN = 20.0
_FIRST_TRIES = 3
_LEAVES_WITHIN = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_SEND_AGAIN = 0.05  # seconds until a request is sent again that the kernel did not take
SWITCH = "TRACKBOOK_PRIVATE_ROOT"
"""Set to `off`, sessions get no private root."""


def wants_private_root() -> bool:
    """Whether the environment leaves the private root on."""
    return os.environ.get(SWITCH, "").strip().lower() not in ("off", "0", "no", "false")


class Offer(Struct):
    """What the spawner can give a session; `problem` is why there is no private root."""

    private_root: bool = False
    own_work: bool = False
    problem: str = ""


class SpawnerGone(Exception):
    """The spawner can't take a request now; it is being started again."""


def _nothing() -> None:
    """Do nothing."""


class Spawner:
    """One spawner at a time, for `limit` sessions at once. `changed` is called when one has become ready, `room`
    when one that could not take a request may take it now."""

    def __init__(self, limit: int, changed: Callable[[], None], room: Callable[[], None] = _nothing) -> None:
        self._limit = limit
        self.offer = Offer()
        self.ready = False
        self._changed = changed
        self._room = room
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._handle = -1
        self._restart: asyncio.Task[None] | None = None
        self._closed = False
        self._sent = 0
        self.private = self._wanted = wants_private_root()

    @property
    def pid(self) -> int:
        """The process id of the spawner that runs, 0 if none does."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it, with a private root if the kernel allows one. Raises RuntimeError if it does not come up."""
        for _ in range(_FIRST_TRIES - 1):
            with contextlib.suppress(RuntimeError):  # it was killed, say, before it could answer
                return await self._start()
        return await self._start()

    async def _start(self) -> None:
        offer = await self._open(private=self.private)
        if not self.private:
            offer.problem = "switched off" if self._wanted else f"switched off by {SWITCH}"
        elif offer.problem:
            self.private = False
            self._drop()
            await self._open(private=False)
        self.offer = offer
        self._watch()
        self.ready = True
        self._changed()

    async def _open(self, *, private: bool) -> Offer:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [sys.executable, "-I", "-S", "-B", "-X", "frozen_modules=on", "-X", "utf8", program.__file__]
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - 1 ms, once; our own file
                [*arguments, str(self._limit), *(["--private-root"] if private else [])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # launchers outlive the server and must not keep its output open
                env={name: os.environ[name] for name in _PASSED if name in os.environ},
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for the server alone
            )
        ours.setblocking(False)
        self._socket = ours
        try:
            answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 4096), _READY_WITHIN)
        except (TimeoutError, OSError):
            answer = b""
        if not answer:
            self._drop()
            raise RuntimeError(f"the spawner of sessions did not start ({sys.executable})")
        found: dict[str, Any] = marshal.loads(answer)  # noqa: S302 - from our own child
        return Offer(**found)

    def _watch(self) -> None:
        assert self._process
        self._handle = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._handle, self._on_death)

    def _on_death(self) -> None:
        self._drop()
        if not self._closed:
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        back_off = BackOff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            with contextlib.suppress(RuntimeError, OSError):
                return await self._start()
            await back_off.pause()

    def launch(self, folder: Path, plan: dict[str, Any]) -> int:
        """Ask for a launcher; return the end of the pipe that it writes to. Raises SpawnerGone."""
        listen, speak = os.pipe()
        os.set_blocking(listen, False)
        try:
            self._send(folder, speak, plan)
        except BaseException:
            os.close(listen)
            raise
        finally:
            os.close(speak)
        return listen

    def _send(self, folder: Path, report: int, plan: dict[str, Any]) -> None:
        """Send the request for a launcher that writes to the pipe `report`.

        The request is in the kernel when this returns; if the spawner dies before it takes it, the pipe closes.
        """
        if not self.ready or self._socket is None:
            raise SpawnerGone
        content = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            os.write(content, marshal.dumps(plan))
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [report, content]))
            self._socket.sendmsg([b"%d " % (self._sent + 1), os.fsencode(folder)], [rights])
            self._sent += 1
        except BlockingIOError as error:  # full: the spawner is slower than we are
            asyncio.get_running_loop().add_writer(self._socket, self._has_room, self._socket)
            raise SpawnerGone from error
        except OSError as error:  # broken, or the kernel is short of something: either way it is not taken
            asyncio.get_running_loop().call_later(_SEND_AGAIN, self._send_again)
            raise SpawnerGone from error
        finally:
            os.close(content)

    def _has_room(self, full: socket.socket) -> None:
        asyncio.get_running_loop().remove_writer(full)
        self._room()

    def _send_again(self) -> None:
        if self.ready and not self._closed:
            self._room()

    def _drop(self) -> None:
        self.ready = False
        if self._handle >= 0:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1
        if self._socket:
            asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        if self._process:
            try:
                self._process.wait(_LEAVES_WITHIN)  # it does at once, and takes its free launchers with it
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    async def close(self) -> None:
        """End it; its launchers keep running."""
        self._closed = True
        if self._restart:
            self._restart.cancel()
            await asyncio.gather(self._restart, return_exceptions=True)
        self._drop()
