"""The processes below a launcher, as /proc shows them."""

from __future__ import annotations

# pathlib and what it imports would double the memory of every launcher
# ruff: noqa: PTH208
import os
from _signal import SIGKILL, SIGTERM  # type: ignore[import-not-found]

_LOOKS = 10


def stat_fields(pid: int | str) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat from the state on (state, parent, group, session …), None if gone."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(file)


def processes() -> dict[int, list[bytes]]:
    """Return every process's fields as stat_fields has them.

    One reading of /proc is not one moment: what is forked meanwhile may be missed, so a caller that must get
    everything asks again until it finds nothing new.
    """
    found = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields:
            found[int(name)] = fields
    return found


def living(fields: list[bytes]) -> bool:
    """Whether a process can still be signalled (one that is dead only waits to be reaped)."""
    return fields[0] not in {b"Z", b"X"}


def below(root: int, table: dict[int, list[bytes]]) -> list[int]:
    """Return the living processes that descend from `root`."""
    children: dict[int, list[int]] = {}
    for pid, fields in table.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    ahead = [root]
    while ahead:
        found += children.get(ahead[-1], [])
        ahead += children.get(ahead.pop(), [])
    return [pid for pid in found if living(table[pid])]


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to each; those gone meanwhile are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def terminate_below(root: int) -> None:
    """Send SIGTERM to the descendants of `root` that live now.

    They are looked for once, before the first of them gets the signal: what a handler of it starts, to save the
    work so far, must not get the signal as well.
    """
    signal_all(below(root, processes()), SIGTERM)


def kill_below(root: int) -> None:
    """Send SIGKILL to all descendants of `root`, each once, those found at a second look included.

    It looks so often and no more, since something that forks for ever would keep it from its other duties.
    """
    killed: set[int] = set()
    for _ in range(_LOOKS):
        fresh = [pid for pid in below(root, processes()) if pid not in killed]
        if not fresh:
            return
        signal_all(fresh, SIGKILL)
        killed.update(fresh)
