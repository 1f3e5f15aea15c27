"""Errors of the read model's file, without importing SQLAlchemy."""

from __future__ import annotations

from trackbook.errors import UserError


class DamagedError(UserError):
    """The file can't be read as the read model's database; it is to be rebuilt."""


class DiskFullError(UserError):
    """The file can't grow, since the disk is full."""


class LockedError(UserError):
    """Another program has the file locked."""


class UnavailableError(UserError):
    """The file isn't open, and wasn't within PATIENCE."""
