"""Removes a pipeline's files as an ordinary account: `tree_removal_child.py DATA VERB [PATH]`; prints errors."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.engine.ports import ExecutorUnavailable

NOBODY = 65534


async def main() -> None:
    """Remove, with the privileges of nobody."""
    folders = DataFolders(Path(sys.argv[1]))
    try:
        if sys.argv[2] == "purge":
            await folders.purge("p1")
        else:
            await folders.delete("p1", sys.argv[3])
    except ExecutorUnavailable as error:
        sys.stdout.write(str(error))


if __name__ == "__main__":
    asyncio.run(asyncio.to_thread(os.getpid))  # imports what nobody may be unable to read
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    asyncio.run(main())
