"""The private root: `/pipeline` and `/home/work` for a session, the rest of the machine as it is.

The spawner builds a template once, in a mount namespace of its own: a small read-only tmpfs as root with every
top-level directory of the machine bound into it. A launcher then needs a copy of that namespace and a few binds,
which is why a private root costs a fraction of what building one per session does.
"""

from __future__ import annotations

# pathlib and what it imports would double the memory of every launcher
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH114, PTH115, PTH208, PTH211
import os

from trackbook.adapters.local.box.calls import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    bind,
    detach,
    make_read_only,
    mount,
    pivot_root,
    unshare,
)

PIPELINE = "/pipeline"
HOME = "/home"
WORK = "/home/work"
_OLD = "/.trackbook-old-root"
_HOMES = 64
"""So many entries of /home are bound one by one to make room for /home/work; with more, /home is bound whole."""


def build_template() -> bool:
    """Move the process into a private root; return whether `/home/work` is free to be a session's own.

    Raises OSError where the kernel forbids it; the process is then of no further use, since it may be half way.
    """
    _enter_namespace()
    mount("", "/", "", MS_REC | MS_SLAVE)  # mounts made later on the machine show up inside, never the other way
    entries = os.listdir("/")
    base = next(path for path in ("/tmp", "/mnt", "/run", "/var") if os.path.isdir(path))  # noqa: S108
    mount("trackbook", base, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    os.mkdir(base + _OLD)
    pivot_root(base, base + _OLD)
    os.chdir("/")
    own_work = _split_home() if "home" not in entries or _is_plain(_OLD + HOME) else False
    for name in entries:
        if name != "home" or not own_work:
            show(f"{_OLD}/{name}", f"/{name}")
    if not os.path.lexists(PIPELINE):
        os.mkdir(PIPELINE)
    detach(_OLD)
    os.rmdir(_OLD)
    make_read_only("/")  # a file written to / would be lost without a word
    return own_work


def _enter_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWNS)
    except PermissionError:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")  # the kernel's condition for mapping a group without privilege
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _is_plain(home: str) -> bool:
    """Whether a machine's /home can be shown entry by entry beside a `work` that it does not have."""
    if os.path.islink(home):
        return False
    names = os.listdir(home)
    return len(names) <= _HOMES and "work" not in names


def _split_home() -> bool:
    os.mkdir(HOME)
    old = _OLD + HOME
    for name in os.listdir(old) if os.path.isdir(old) else ():
        show(f"{old}/{name}", f"{HOME}/{name}")
    os.mkdir(WORK)
    return True


def show(source: str, target: str) -> None:
    """Show a file, directory or link at a new place; what can't be shown (another user's mount) is left out."""
    try:
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target)
            bind(source, target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
            bind(source, target)
    except OSError:
        return


def enter() -> None:
    """Give the process a copy of the template and an empty /pipeline in it."""
    unshare(CLONE_NEWNS)
    mount("trackbook", PIPELINE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")


def furnish(
    binds: list[tuple[str, str, bool]], work: str, mounts: list[tuple[str, str]], *, own_work: bool
) -> str:
    """Bind a session's folders into the process's root and return the working directory.

    `binds` are (source or "" for an empty one, name below /pipeline, read only), `mounts` (source, alias).
    """
    for source, name, read_only in binds:
        target = f"{PIPELINE}/{name}"
        os.mkdir(target)
        if source:
            bind(source, target, read_only=read_only)
    make_read_only(PIPELINE)
    if own_work:
        for _, alias in mounts:
            os.makedirs(f"{work}/{alias}", exist_ok=True)
        bind(work, WORK)
        work = WORK
    elif mounts:
        _lay_over(WORK, [alias for _, alias in mounts])
    for source, alias in mounts:
        bind(source, f"{WORK}/{alias}")
    return work


def _lay_over(path: str, names: list[str]) -> None:
    """Make room for directories in one that is not ours: a tmpfs over it that shows its other entries again."""
    if not os.path.isdir(path):
        parent, _, name = path.rpartition("/")
        _lay_over(parent, [name])
        if not os.path.isdir(path):
            raise OSError(f"{path} can't be made here")
    below = os.open(path, os.O_PATH | os.O_DIRECTORY)
    entries = set(os.listdir(path))
    mount("trackbook", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for entry in entries.difference(name.partition("/")[0] for name in names):
        show(f"/proc/self/fd/{below}/{entry}", f"{path}/{entry}")
    for name in names:
        os.makedirs(f"{path}/{name}", exist_ok=True)
    os.close(below)
