"""Imports structlog as where rich is not installed, whose tracebacks with colours are a tenth of a start.

It is to be imported before all that imports structlog.
"""

from __future__ import annotations

import importlib
import sys


def _import_without_rich() -> None:
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # makes its import raise ModuleNotFoundError
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


_import_without_rich()
