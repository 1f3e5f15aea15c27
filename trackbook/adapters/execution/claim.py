"""Claims: an attempt is taken once, by an exclusive link, so that its command runs at most once."""

from __future__ import annotations

import os
from pathlib import Path

from trackbook.private_files import sync_folder


def take(ours: Path, claim: Path) -> bool:
    """Make the file `ours` the claim, durably; return False if there is a claim already. Raises OSError."""
    try:
        os.link(ours, claim)
    except FileExistsError:
        return False
    sync_folder(claim.parent)
    return True
