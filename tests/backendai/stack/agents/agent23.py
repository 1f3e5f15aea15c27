"""Starts the published agent of 23.09 with a "dummy" backend, which its wheel names and doesn't ship: ours.

Nothing in site-packages is changed: this folder is put on the package path of ai.backend.agent, in memory.
"""

import sys
from pathlib import Path

import ai.backend.agent

ai.backend.agent.__path__.append(str(Path(__file__).resolve().parent))

from ai.backend.agent.server import main  # noqa: E402 - the package path comes first

if __name__ == "__main__":
    sys.exit(main())
