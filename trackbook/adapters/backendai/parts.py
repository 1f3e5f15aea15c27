"""What the attempts of one executor share."""

from __future__ import annotations

from msgspec import Struct

from trackbook.adapters.backendai.archives import Archives
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.ending import Undertaker
from trackbook.adapters.backendai.enqueue import Enqueuer
from trackbook.adapters.backendai.link import Link
from trackbook.adapters.backendai.notes import Notes
from trackbook.adapters.backendai.shelf import Shelf
from trackbook.adapters.backendai.watch import Watch
from trackbook.adapters.sessions.reporter import Reporter


class Parts(Struct, frozen=True):
    """The cluster, its folders and its watch; our notes; the way to the engine; who ends and makes sessions."""

    link: Link
    shelf: Shelf
    watch: Watch
    notes: Notes
    reports: Reporter
    undertaker: Undertaker
    enqueuer: Enqueuer
    archives: Archives

    @property
    def cluster(self) -> Cluster:
        """The cluster's settings."""
        return self.link.cluster
