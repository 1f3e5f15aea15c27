"""Properties don't depend on how busy the machine is."""

from __future__ import annotations

from hypothesis import settings


def test_no_property_has_a_deadline() -> None:
    """An example that takes long is no counterexample."""
    assert settings().deadline is None
