"""How long a session may take for what, and what follows; pure, on the times that it is given."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Item
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import observation
from trackbook.adapters.backendai.session.observation import Observation

_LONGEST_TICK = 15.0
_STALE = 3
"""A heartbeat that has not changed for this part of `unreachable_timeout` is read by its path."""
_READS = 6
"""So many reads of a heartbeat by its path within `unreachable_timeout`."""
_STOPS = 3
"""After so many times the cluster's `stop_timeout` a session counts as ended, whatever the cluster says."""


class Away(Struct, frozen=True):
    """Since when, by the loop's clock, the manager has not answered, and with what."""

    since: float
    why: str


class Clocks:
    """When what was seen of a session, by the loop's clock."""

    def __init__(self, cluster: Cluster, now: float) -> None:
        self.cluster = cluster
        self.waiting_since = now
        self.alive_since = now
        self.looked_at = now
        self.end_wanted_at: float | None = None
        self._listed: Item | None = None
        self._read: bytes | None = None
        self._read_at: float | None = None
        self._running = False

    @property
    def tick(self) -> float:
        """Seconds until the times are to be looked at again."""
        shortest = min(self.cluster.pending_timeout, self.cluster.unreachable_timeout, self.cluster.stop_timeout)
        return min(_LONGEST_TICK, max(0.05, shortest / 4))

    def observe(self, session: Session, now: float) -> None:
        """Note since when the session waits, or runs."""
        if session.created_at:
            waited = (datetime.now(UTC) - session.created_at).total_seconds()
            self.waiting_since = min(self.waiting_since, now - max(0, waited))
        running = "RUNNING" in session.status
        if running and not self._running:
            self.alive_since = self.looked_at = now
        self._running = running

    def note_listing(self, heartbeat: Item | None, now: float) -> None:
        """Note the heartbeat's file as a listing of the folder has it; None where it is not in the listing.

        A listing proves that a session lives and never that it is silent: storage proxies cut long ones.
        """
        if heartbeat is not None and heartbeat != self._listed:
            self._listed, self.alive_since, self.looked_at = heartbeat, now, now

    def wants_reading(self, heartbeat: Item | None, now: float) -> bool:
        """Whether the heartbeat has to be read by its path.

        It has where a listing does not have it, or has had it unchanged for long. It is not read at each look,
        because managers limit the requests of a key.
        """
        timeout = self.cluster.unreachable_timeout
        if heartbeat is not None and now - self.alive_since < timeout / _STALE:
            return False
        return self._read_at is None or now - self._read_at >= timeout / _READS

    def read(self, heartbeat: bytes | None, now: float) -> None:
        """Note the heartbeat as it was read by its path, None where there is none."""
        if heartbeat != self._read or self._read_at is None:
            self.alive_since = now
        self._read, self._read_at, self.looked_at = heartbeat, now, now

    def note_end_wanted(self, now: float) -> None:
        """Note that the session is to be ended."""
        if self.end_wanted_at is None:
            self.end_wanted_at = now


def apply(observed: Observation, clocks: Clocks, away: Away | None, now: float) -> Observation:
    """Return what follows from what took too long."""
    if away and now - away.since > clocks.cluster.unreachable_timeout:
        words = f"the cluster did not answer for {observation.duration(now - away.since)}: {away.why}"
        return replace(observed, given_up=observed.given_up or words)
    if observed.asked or observed.because:
        return _stopping(observed, clocks, now)
    if observed.session is None or observed.session.final:
        return observed
    return _overdue(observed, observed.session, clocks, now)


def _overdue(observed: Observation, session: Session, clocks: Clocks, now: float) -> Observation:
    """Return why the session is to be ended, if it is."""
    waited, silence = now - clocks.waiting_since, clocks.looked_at - clocks.alive_since
    if session.status == "ERROR":
        why = observation.problem(session) or session.status_info or "it does not say why"
        return replace(observed, because=f"the cluster holds the session for broken: {why}")
    if observed.running:
        if silence > clocks.cluster.unreachable_timeout:
            words = f"the session gave no sign of life for {observation.duration(silence)}; it is not run again"
            return replace(observed, because=words, silent=True)
    elif waited > clocks.cluster.pending_timeout and "RUNNING" not in session.history:
        status, why = observation.status_and_why(session)
        words = (
            f"the session did not start in {observation.duration(waited)} ({status}{': ' + why if why else ''})"
        )
        return replace(observed, because=words)
    return observed


def _stopping(observed: Observation, clocks: Clocks, now: float) -> Observation:
    took = now - (clocks.end_wanted_at if clocks.end_wanted_at is not None else now)
    if observed.ended or observed.given_up or took < _STOPS * clocks.cluster.stop_timeout:
        return observed
    status = observed.session.status if observed.session else "unknown"
    words = (
        f"the cluster did not confirm its end in {observation.duration(took)} (it is {status}), and is asked on"
    )
    return replace(observed, given_up=words)
