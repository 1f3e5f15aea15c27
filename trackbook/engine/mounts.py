"""What a task mounts: `FOLDER[/SUBPATH][:ALIAS]`.

The folder, or the part of it that SUBPATH names, is found at `/home/work/ALIAS`, or at ALIAS itself where that is
an absolute path. Without an alias the place is `/home/work/FOLDER[/SUBPATH]`.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

WORK = "/home/work"
PIPELINE = "/pipeline"
FORMS = "'folder', 'folder:alias' or 'folder/sub/path:alias'"
_LONGEST = 512
_LONGEST_STEP = 255
_SYSTEM = frozenset(
    f"/{name}"
    for name in (
        *("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt"),
        *("proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    )
)
"""Places that managers refuse to mount at, and where nothing else would work any more."""
_KERNEL = ("/dev", "/proc", "/sys")


class Mount(Struct, frozen=True):
    """A mount: `subpath` is '' for the whole folder, `path` is the absolute path where it is found."""

    folder: str
    subpath: str
    path: str

    @property
    def source(self) -> str:
        """The folder with the part of it: `FOLDER[/SUBPATH]`."""
        return f"{self.folder}/{self.subpath}" if self.subpath else self.folder

    @property
    def below_work(self) -> str:
        """The path below `/home/work`, '' for one elsewhere."""
        return self.path.removeprefix(f"{WORK}/") if is_below(self.path, WORK) else ""


@lru_cache(2048)
def parse(text: str) -> Mount:
    """Return the mount. Raises ValueError, which says what is wrong."""
    if not text.isprintable() or len(text) > _LONGEST:
        raise ValueError(f"{text[:80]!r} is not printable text of at most {_LONGEST} characters")
    source, colon, alias = text.partition(":")
    folder, _, subpath = source.partition("/")
    _check_steps(text, source)
    if not colon:
        return Mount(folder, subpath, f"{WORK}/{source}")
    absolute = alias.startswith("/")
    _check_steps(text, alias[1:] if absolute else alias)
    path = alias if absolute else f"{WORK}/{alias}"
    if path == WORK or path in _SYSTEM or any(is_below(path, each) for each in _KERNEL):
        raise ValueError(f"{text!r} would hide {path}: choose a path of its own")
    if path == PIPELINE or is_below(path, PIPELINE):
        raise ValueError(f"{text!r} would hide the pipeline's own folders at {PIPELINE}: choose another path")
    return Mount(folder, subpath, path)


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, at any depth."""
    return path.startswith(f"{folder}/")


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return one == other or is_below(one, other) or is_below(other, one)


def _check_steps(text: str, path: str) -> None:
    for step in path.split("/"):
        if step in ("", ".", "..") or step.strip() != step:
            raise ValueError(f"{text!r} is not {FORMS}: {step!r} can't be the name of a folder")
        if len(step.encode()) > _LONGEST_STEP:
            raise ValueError(f"{text[:80]!r}: the name of a folder has at most {_LONGEST_STEP} bytes")
