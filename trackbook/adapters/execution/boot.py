"""Which start of the machine this is."""

from __future__ import annotations

from pathlib import Path

_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Return the kernel's id of this start of the machine, '' where it has none."""
    try:
        return _ID.read_text().strip()
    except OSError:
        return ""
