"""Starts the stock 23.09 agent with a process-based stand-in for its missing "dummy" backend.

The published agent wheel knows the backend name "dummy" but ships no such package, so the
directory next to this file (holding our own ``dummy`` package) is put on the agent's
package path.  Nothing in site-packages is changed.
"""

import sys
from pathlib import Path

import ai.backend.agent

ai.backend.agent.__path__.append(str(Path(__file__).resolve().parent))

from ai.backend.agent.server import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
