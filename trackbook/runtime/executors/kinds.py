"""The kinds of executors that are installed, by the entry point group `trackbook.executors`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from trackbook.adapters.execution.kind import GROUP, OpenBackend
from trackbook.errors import UserError

OURS = {
    "local": "trackbook.adapters.local.backend:open_backend",
    "container": "trackbook.adapters.container.backend:open_backend",
    "backendai": "trackbook.adapters.backendai.backend:open_backend",
}
"""Trackbook's own, as pyproject.toml registers them: no other package replaces them, and no search is needed."""


class KindUnusable(UserError):
    """A kind of executor can't be loaded; says which, and why."""


def kinds() -> dict[str, str]:
    """Return the installed kinds with what makes them (`module:function`); of two of a name, the first found."""
    from importlib.metadata import entry_points  # it reads a file of each installed package

    return {each.name: each.value for each in reversed(entry_points(group=GROUP))} | OURS


def load(kind: str) -> OpenBackend:
    """Return what makes executors of a kind. Raises KindUnusable."""
    value = OURS.get(kind) or kinds().get(kind)
    if value is None:
        raise KindUnusable(f"no installed package has the kind of executor {kind!r}")
    module, _, function = value.partition(":")
    try:
        return cast("OpenBackend", getattr(import_module(module), function))
    except Exception as error:  # a package of somebody else
        raise KindUnusable(f"the kind of executor {kind!r} ({value}) can't be loaded: {error!r}") from error
