"""The launcher: one small process beside each session. It claims the attempt, runs the command, leaves a record.

What a death at any step leaves behind, and what the executor makes of it (adapters/local/attempt_state.py):
before the claim nothing happened, and the session may be launched; from the claim to the record the command may
have run, so it is lost and never run again; from the record on it has ended. The claim is a link of a file that
is locked already, so nobody ever sees a living launcher's claim without its lock; the lock is the kernel's and
goes with the process, so neither a reused process id nor a reboot can make a dead launcher look alive.
"""

from __future__ import annotations

# pathlib and what it imports would double the memory of every launcher
# ruff: noqa: PTH102, PTH103, PTH211
import _signal  # type: ignore[import-not-found]
import fcntl
import marshal
import os
import select
import struct
import time

from trackbook.adapters.execution.bounded_log import Log
from trackbook.adapters.local.box import roots
from trackbook.adapters.local.box.calls import become_subreaper, enter_mounts, signal_file
from trackbook.adapters.local.box.ending import Ending
from trackbook.adapters.local.box.points import IGNORE_CLAIM, point

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing alone would add a quarter to a launcher's memory
    from typing import Any

_CHUNK = 65536
_SIGINFO = 128
_ALL_SIGNALS = [number for number in range(1, 32) if number not in {9, 19}]


class Spare:
    """What a launcher has ready before it knows its session."""

    def __init__(self, *, private: bool) -> None:
        os.setsid()
        become_subreaper()
        self.signals = signal_file(_signal.SIGCHLD, _signal.SIGTERM)
        self.null = os.open("/dev/null", os.O_RDONLY)
        self.template = os.open("/proc/self/ns/mnt", os.O_RDONLY) if private else -1
        self.problem: OSError | None = None
        self._enter()

    def _enter(self) -> None:
        try:
            if self.template >= 0:
                roots.enter()
        except OSError as error:
            self.problem = error

    def renew(self) -> None:
        """Leave the last session's root for a fresh one: its command may have mounted something there."""
        os.chdir("/")
        if self.template >= 0:
            enter_mounts(self.template)
            self._enter()


def run(spare: Spare, folder: str, report: int, plan: int, ordinal: int) -> bool:
    """Run the session whose folder is given; return whether the process may run another one.

    `plan` is a file with what to do, `report` the pipe to the executor; both are closed.
    """
    again = False
    try:
        content = marshal.loads(os.pread(plan, os.fstat(plan).st_size, 0))  # noqa: S302 - the executor wrote it
        again = Launcher(spare, folder, report, content, ordinal).run()
    except BaseException as error:
        say(report, f"X{type(error).__name__}: {error}")
    os.close(plan)
    os.close(report)
    return again


def say(report: int, text: str) -> bool:
    """Tell the executor, and return whether it is there: it reads the same from the disk otherwise."""
    try:
        os.write(report, text.replace("\n", " ")[:2000].encode(errors="replace") + b"\n")
    except OSError:
        return False
    return True


def stamp() -> str:
    """Return the time in RFC 3339, UTC, to the microsecond."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06}Z"


def to_json(values: dict[str, str | float | None]) -> bytes:
    """Return a flat JSON object; the json module would add a third to every launcher's memory."""
    return ("{" + ",".join(f'"{key}":{_json_value(value)}' for key, value in values.items()) + "}\n").encode(
        errors="replace"
    )


def _json_value(value: str | float | None) -> str:
    if isinstance(value, str):
        return '"' + "".join(c if c >= " " and c not in '"\\' else f"\\u{ord(c):04x}" for c in value) + '"'
    return "null" if value is None else str(value).lower()


class Launcher:
    """One attempt. `plan` is made by trackbook.adapters.local.plan."""

    def __init__(self, spare: Spare, folder: str, report: int, plan: dict[str, Any], ordinal: int) -> None:
        self.spare = spare
        self.plan = plan
        self.report = report
        self.ordinal = ordinal
        self.name = folder.rpartition("/")[2]
        self.folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.files = [self.folder]
        self.signals = spare.signals
        self.claim_file = -1
        self.left_out = 0
        self.stopped = False
        self.started: str | None = None
        self.began = 0.0
        self.status: int | None = None

    def run(self) -> bool:
        """Claim, run, record; return whether all went as usual, so that the process may run another session."""
        self._point("before_claim")
        if not self._claim():
            say(self.report, "T")
            return False
        self._point("claimed")
        message = self._attempt()
        self._point("ended")
        self._record(message)
        self._point("recorded")
        again = say(self.report, "E") and not message and not self._is_marked("adopted")
        for file in self.files:
            os.close(file)  # the claim's lock goes with it
        return again

    def _is_marked(self, name: str) -> bool:
        """Whether the executor has left a mark: a signal, or a wait for our death, names no session."""
        try:
            os.stat(name, dir_fd=self.folder)
        except FileNotFoundError:
            return False
        return True

    def _stop_asked(self) -> bool:
        """Whether this session is to be stopped; a signal alone may have been meant for the one before."""
        return stop_asked(self.signals) and self._is_marked("stop")

    def _point(self, name: str) -> None:
        point(f"launcher.{name}", self.name, self.ordinal)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT, 0o600, dir_fd=self.folder)

    def _claim(self) -> bool:
        """Take the attempt for this process, durably; False if it was taken before."""
        mine = f"claim.{os.getpid()}"
        self.claim_file = self._open(mine, os.O_RDWR | os.O_TRUNC)
        self.files.append(self.claim_file)
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(self.claim_file, fcntl.F_SETLK, lock)
        os.write(self.claim_file, to_json({"pid": os.getpid(), "claimed_at": stamp()}))
        try:
            if IGNORE_CLAIM:
                os.replace(mine, "claim", src_dir_fd=self.folder, dst_dir_fd=self.folder)
                return True
            os.link(mine, "claim", src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except FileExistsError:
            return False
        finally:
            if not IGNORE_CLAIM:
                os.unlink(mine, dir_fd=self.folder)
        if self.plan["durable"]:
            self._sync()
        return True

    def _sync(self) -> None:
        """Make the claim survive a loss of power: its name, and the name of the folder that has it."""
        os.fsync(self.folder)
        sessions = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.folder)
        os.fsync(sessions)
        os.close(sessions)

    def _attempt(self) -> str:
        """Run the command to its end; return why it could not run, or ''."""
        try:
            log_file = self._open("log", os.O_RDWR | os.O_TRUNC)
            log = Log(log_file, self.plan["log_limit"], self.folder)
            self._prepare()
            output, write_end = os.pipe()
            self.files += (log_file, output)
            os.set_blocking(output, False)
            if self._stop_asked():
                self.stopped = True
                os.close(write_end)
                return ""
            child = self._spawn(write_end)
            os.close(write_end)
        except Exception as error:
            return f"the session could not be set up: {error}"
        self._point("started")
        say(self.report, f"S{self.started}")
        self._supervise(child, output, log)
        self.left_out = log.left_out
        return ""

    def _prepare(self) -> None:
        plan = self.plan
        os.umask(0o022)
        for path in plan["make"]:
            make_folder(path)
        work = plan["work"]
        make_folder(work)
        if plan["private_root"]:
            if self.spare.problem:
                raise self.spare.problem
            work = roots.furnish(plan["binds"], work, plan["mounts"], own_work=plan["own_work"])
        else:
            for source, alias in plan["mounts"]:
                if not os.path.lexists(f"{work}/{alias}"):
                    make_folder(f"{work}/{alias}".rpartition("/")[0])
                    os.symlink(source, f"{work}/{alias}")
        os.chdir(work)

    def _spawn(self, output: int) -> int:
        """Start the command; posix_spawn copies no page tables and closes what is marked close-on-exec."""
        started_at, began = stamp(), time.clock_gettime(time.CLOCK_BOOTTIME)
        child = os.posix_spawn(
            self.plan["arguments"][0],
            self.plan["arguments"],
            self.plan["environment"],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self.spare.null, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_ALL_SIGNALS,
        )
        self.started, self.began = started_at, began
        claim = to_json({"pid": os.getpid(), "command_pid": child, "started_at": started_at})
        os.pwrite(self.claim_file, claim, 0)
        return child

    def _supervise(self, child: int, output: int, log: Log) -> None:
        """Copy output until the command and all that it left behind are gone."""
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(self.signals, select.POLLIN)
        ending = Ending(self.plan["grace"])
        while True:
            for file, _ in poll.poll(ending.wait()):
                if file == self.signals:
                    if self._stop_asked() and self.status is None and not ending.stopping:
                        self.stopped = True
                        ending.terminate()
                elif not copy(output, log):
                    poll.unregister(output)
            gone = self._reap(child)
            if gone:
                break
            ending.advance(command_ended=self.status is not None)
        while copy(output, log):
            pass

    def _reap(self, child: int) -> bool:
        """Take the dead; return whether nothing is left (orphans are ours, so no child means no descendant)."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == child:
                    self.status = status
                elif pid == 0:
                    return False
        except ChildProcessError:
            return True

    def _record(self, message: str) -> None:
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        record = to_json(
            {
                "exit_code": code if code is not None and code >= 0 else None,
                "signal": -code if code is not None and code < 0 else None,
                "stopped": self.stopped,
                "started_at": self.started,
                "ended_at": stamp(),
                "run_time": self._run_time(),
                "message": message,
                "left_out": self.left_out,
                "shell": self.plan["arguments"][0],
                "private_root": self.plan["private_root"],
            }
        )
        while not self._leave(record):
            time.sleep(1)  # the disk is full, say: the result must not be lost, so wait until it can be written

    def _run_time(self) -> float | None:
        """Return the seconds since the command began, by a clock that can't be set and counts a suspend."""
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - self.began, 6) if self.started else None

    def _leave(self, record: bytes) -> bool:
        try:
            file = self._open("exit.new", os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(file, record)
            finally:
                os.close(file)
            os.rename("exit.new", "exit", src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except OSError as error:
            say(self.report, f"D{error}")
            return os.fstat(self.folder).st_nlink == 0  # where the folder was deleted, nobody asks any more
        return True


def make_folder(path: str) -> None:
    """Make a folder and those above it; the last alone is missing as a rule, and looking for that costs most."""
    try:
        os.mkdir(path)
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        return


def stop_asked(signals: int) -> bool:
    """Take the pending signals; return whether a stop is among them."""
    asked = False
    try:
        while info := os.read(signals, _SIGINFO):
            asked = asked or info[0] == _signal.SIGTERM
    except BlockingIOError:
        return asked
    return asked


def copy(output: int, log: Log) -> bool:
    """Copy what can be read now; return whether there may be more."""
    try:
        data = os.read(output, _CHUNK)
    except BlockingIOError:
        return False
    log.write(data)
    return bool(data)
