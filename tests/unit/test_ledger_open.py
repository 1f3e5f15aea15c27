"""The engine's SQLite file when two processes open it at once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from trackbook.adapters.sql.ledger import Ledger


def test_roles_that_start_together_create_the_file_together(tmp_path: Path) -> None:
    """A process that finds the new file locked by another, which is still creating it, waits for that one."""
    path = tmp_path / "engine.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE other(x)")
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ("COMMIT",))
        release.start()
        ledger = Ledger(path)
        release.join()
        assert ledger.checkpoint() == (0, "")
        ledger.close()
