"""The limit of open files, sockets and pipes of this process."""

from __future__ import annotations

import resource
from contextlib import suppress

_WANTED = 8192
"""Enough for thousands of connections and tasks; some programs close all that the limit allows, one by one."""
_UNLIMITED = 1 << 20


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of descriptors where the hard one allows it, and return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft
