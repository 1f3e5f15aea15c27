"""Bytes that are too large for a commit, each named by its SHA-256."""

from __future__ import annotations

from typing import Protocol


class BlobMissing(LookupError):
    """No blob with that SHA-256 is stored whole."""


class Blobs(Protocol):
    """Content-addressed bytes for what is too large for a commit."""

    async def put(self, data: bytes) -> str:
        """Store and return the SHA-256 in hex, once acknowledged; what is there already is not written again."""
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing, StoreUnanswered."""
        ...

    async def has(self, sha256: str) -> bool:
        """Tell whether a blob is stored whole."""
        ...
