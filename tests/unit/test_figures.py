"""Sizes and shapes that the code keeps to; tools/figures.py prints all of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    """Return tools/figures.py as a module."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_file_is_longer_than_350_lines(figures: ModuleType) -> None:
    """A longer one holds more than one thing: split it by what changes together."""
    found = figures.files("trackbook", "bench", "tools", "examples")

    assert Path("trackbook/engine/decider.py") in found
    assert {str(path): lines for path, lines in found.items() if lines > 350} == {}


def test_no_modules_import_one_another_in_a_circle(figures: ModuleType) -> None:
    """Not even across packages, or for types only."""
    assert figures.circles() == []


def test_executors_share_no_ten_lines(figures: ModuleType) -> None:
    """What two executors do alike is in adapters/execution, once."""
    assert figures.shared_by_executors() == []
