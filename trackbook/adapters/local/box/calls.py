"""System calls that Python has no function for. All raise OSError; 64-bit Linux."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME = 32, 1024, 2048
MS_BIND, MS_REC, MS_SLAVE, MS_RELATIME = 4096, 16384, 1 << 19, 1 << 21
_ST_RELATIME = 4096
_MNT_DETACH = 2
_PR_SET_CHILD_SUBREAPER = 36
_SFD_FLAGS = 0o2000000 | 0o4000  # close on exec, do not block

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.pivot_root.argtypes = (ctypes.c_char_p, ctypes.c_char_p)


def _check(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def unshare(flags: int) -> None:
    """Give the process namespaces of its own."""
    _check(_libc.unshare(flags), "unshare")


def enter_mounts(namespace: int) -> None:
    """Go to the mount namespace that the descriptor stands for."""
    _check(_libc.setns(namespace, CLONE_NEWNS), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount, as mount(2)."""
    args = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode())
    _check(_libc.mount(*args), f"show {source} at {target}")


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show `source`, and what is mounted below it, at `target`."""
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """Make one mount read-only and keep its other flags: a user namespace may not clear inherited ones."""
    held = os.statvfs(target).f_flag
    flags = held & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    if held & _ST_RELATIME:
        flags |= MS_RELATIME
    mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def detach(target: str) -> None:
    """Unmount now; what still uses it keeps it."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root and hang the old root on `old` below it."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), "pivot_root")


def become_subreaper() -> None:
    """Become the parent of every orphan among the process's descendants."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def signal_file(*signals: int) -> int:
    """Return a descriptor that is readable while one of the (blocked) signals is pending."""
    mask = (ctypes.c_ulong * 16)(sum(1 << (number - 1) for number in signals))
    return _check(_libc.signalfd(-1, ctypes.byref(mask), _SFD_FLAGS), "signalfd")
