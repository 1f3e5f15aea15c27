"""The collaborators that the attempts of one executor share."""

from __future__ import annotations

from msgspec import Struct

from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session.attempt_state import AttemptStates
from trackbook.adapters.backendai.session.code_archives import Archives
from trackbook.adapters.backendai.session.enqueue import Enqueuer
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.adapters.backendai.session.terminator import Terminator
from trackbook.adapters.backendai.session.watch import Watch
from trackbook.adapters.execution.reporter import Reporter


class ExecutorContext(Struct, frozen=True):
    """Connection, folders and watch of the cluster; local state; the reporter; what creates and ends sessions."""

    connection: ClusterConnection
    pipeline_folders: PipelineFolders
    watch: Watch
    attempt_states: AttemptStates
    reports: Reporter
    terminator: Terminator
    enqueuer: Enqueuer
    archives: Archives

    @property
    def cluster(self) -> Cluster:
        """The cluster's settings."""
        return self.connection.cluster
