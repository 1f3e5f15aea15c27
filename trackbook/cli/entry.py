"""Where the `trackbook` command begins: Python's garbage collector is off while it imports and when it ends.

What is imported stays for good. The collector would look through it several times while it comes, and once more
when the process ends: a sixth of a short command.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line and end the process (see main.py); the collector is on while a command works."""
    gc.disable()
    from trackbook.cli.main import main as run

    try:
        run()
    finally:
        gc.freeze()  # what is left goes with the process
