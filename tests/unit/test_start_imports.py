"""What a server does not import before it needs it: each of these takes tenths of a second at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["aiodocker", "aiohttp", "sqlalchemy.orm"])
def test_a_start_does_not_import_it(name: str) -> None:
    """Neither the engine nor the executor of containers nor the read model brings it along."""
    program = (
        "import sys; import trackbook.runtime.app; import trackbook.adapters.container.backend; "
        f"import sqlalchemy.dialects.sqlite.aiosqlite; sys.exit({name!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
