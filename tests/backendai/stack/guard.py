"""Ends a stack when whoever started this is no more, however that came about."""

from __future__ import annotations

import sys
from pathlib import Path

from backendai.stack.processes import end

sys.stdin.read()
end(Path(sys.argv[1]))
