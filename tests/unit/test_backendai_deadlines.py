"""How long a session may take for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Item
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import deadlines
from trackbook.adapters.backendai.session.deadlines import Away, Clocks
from trackbook.adapters.backendai.session.observation import Observation

CLUSTER = Cluster(
    name="main",
    endpoint="http://cluster",
    access_key="a",
    secret_key="s",
    pending_timeout=100,
    unreachable_timeout=50,
    stop_timeout=10,
)
ALIVE = Item("0-1.alive", "file", 20, datetime.now(UTC))


def session(status: str, **more: str) -> Session:
    """Return what a manager says of a session that was just made."""
    return Session("s1", "tb-1", status, history=more, created_at=datetime.now(UTC))


def seen(status: str) -> tuple[Observation, Clocks]:
    """Return a session that was seen so at second 0."""
    observed, clocks = Observation(session=session(status)), Clocks(CLUSTER, 0.0)
    assert observed.session
    clocks.observe(observed.session, 0.0)
    return observed, clocks


def test_waiting_for_resources() -> None:
    """A session that does not start in time is ended, and why is reported; one that ran once is not."""
    for status in ("PENDING", "SCHEDULED", "PREPARING", "CREATING"):
        observed, clocks = seen(status)
        assert deadlines.apply(observed, clocks, None, 99.0) == observed
        assert deadlines.apply(observed, clocks, None, 101.0).because == (
            f"the session did not start in 101 seconds ({status})"
        )
    again = Observation(session=session("PENDING", RUNNING="2026-11-24T00:00:00+00:00"))
    assert deadlines.apply(again, clocks, None, 1000.0) == again


def test_waiting_counts_from_when_the_session_was_made() -> None:
    """An executor that adopts a session goes on counting where the last one was."""
    observed, clocks = Observation(session=session("PENDING")), Clocks(CLUSTER, 0.0)
    made = datetime.now(UTC) - timedelta(seconds=200)
    clocks.observe(Session("s1", "tb-1", "PENDING", created_at=made), 0.0)
    assert deadlines.apply(observed, clocks, None, 1.0).because.startswith(
        "the session did not start in 3 minutes"
    )


def test_silence() -> None:
    """A session whose heartbeat stays as it is counts as lost, as far as it was read by its path."""
    observed, clocks = seen("RUNNING")
    clocks.note_listing(ALIVE, 9.0)
    clocks.read(b"one", 10.0)
    clocks.read(b"one", 59.0)
    assert deadlines.apply(observed, clocks, None, 1000.0) == observed
    clocks.read(b"one", 61.0)
    found = deadlines.apply(observed, clocks, None, 61.0)
    assert found.silent
    assert "no sign of life for 51 seconds" in found.because
    clocks.note_listing(Item("0-1.alive", "file", 21, None), 62.0)
    assert deadlines.apply(observed, clocks, None, 63.0) == observed


def test_nothing_follows_from_what_a_listing_has_not() -> None:
    """A heartbeat that is not in a listing, or unchanged in it, is no silence, and is read by its path."""
    observed, clocks = seen("RUNNING")
    for at in range(0, 1000, 5):
        clocks.note_listing(None, float(at))
        assert deadlines.apply(observed, clocks, None, float(at)) == observed
    assert clocks.wants_reading(None, 1000.0)
    clocks.read(b"one", 1000.0)
    assert not clocks.wants_reading(None, 1001.0)
    assert clocks.wants_reading(None, 1010.0)
    clocks.note_listing(ALIVE, 1010.0)
    assert not clocks.wants_reading(ALIVE, 1020.0)
    assert clocks.wants_reading(ALIVE, 1030.0)
    clocks.read(b"two", 1030.0)
    clocks.read(None, 1070.0)
    assert deadlines.apply(observed, clocks, None, 1075.0) == observed


def test_a_manager_that_is_away() -> None:
    """A manager that stays away is waited for so long, whatever the session was last seen as."""
    for status in ("PENDING", "RUNNING", "TERMINATING"):
        observed, clocks = seen(status)
        assert deadlines.apply(observed, clocks, Away(1.0, "it can't be reached"), 50.0).given_up == ""
        found = deadlines.apply(observed, clocks, Away(1.0, "it can't be reached"), 52.0)
        assert found.given_up == "the cluster did not answer for 51 seconds: it can't be reached"


def test_a_session_that_is_broken() -> None:
    """A session in ERROR stays there for ever, unless somebody ends it."""
    observed, clocks = seen("ERROR")
    assert "it does not say why" in deadlines.apply(observed, clocks, None, 1.0).because


def test_ends_that_are_not_confirmed() -> None:
    """A stop is waited for three times as long as it takes to become forced."""
    observed, clocks = seen("TERMINATING")
    observed = Observation(session=observed.session, asked=True)
    clocks.note_end_wanted(5.0)
    clocks.note_end_wanted(20.0)
    assert deadlines.apply(observed, clocks, None, 34.0) == observed
    assert "in 31 seconds (it is TERMINATING)" in deadlines.apply(observed, clocks, None, 36.0).given_up


def test_times_are_looked_at_often_enough() -> None:
    """The shortest limit is kept within a quarter of it."""
    assert Clocks(CLUSTER, 0.0).tick == 2.5
