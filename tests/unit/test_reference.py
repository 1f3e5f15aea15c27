"""The reference is made from the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_level_with_the_code() -> None:
    """Whoever changes a command, an event or the command line also runs tools/reference.py."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
