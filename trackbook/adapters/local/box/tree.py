"""The processes below a launcher, as /proc shows them."""

from __future__ import annotations

# pathlib and what it imports would double the memory of every launcher
# ruff: noqa: PTH208
import os

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


def kill_below(root: int, number: int) -> None:
    """Signal all descendants of `root`, those found at a second look included, each once.

    It looks so often and no more, since something that forks for ever would keep it from its other duties.
    """
    signalled: set[int] = set()
    for _ in range(_LOOKS):
        fresh = [pid for pid in below(root, processes()) if pid not in signalled]
        if not fresh:
            return
        signal_all(fresh, number)
        signalled.update(fresh)
