"""The end of watching a job: how it went, from its server or from the data directory."""

from __future__ import annotations

from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import Unreachable
from trackbook.cli.server.connection import Where, server
from trackbook.cli.terminal.formatting import emit
from trackbook.cli.watch.follower import conclude
from trackbook.cli.watch.progress import Progress

_ENDS_WITHIN = 2.0
"""Seconds to wait for a server that is away once the job has ended, before the data directory is asked."""


def print_ending(client: Client, progress: Progress, place: Where, *, json: bool, served: bool = True) -> None:
    """Print how the job went.

    A server that is another command's (`trackbook run`) ends with the last job, maybe before it has answered
    this: then the data directory is read.
    """
    if place.given_url is not None:  # there is no directory to fall back on: a server that restarts is waited for
        _print_ending(client, progress, place, json=json, served=served)
        return
    client.patience = min(client.patience, _ENDS_WITHIN)
    try:
        _print_ending(client, progress, place, json=json, served=served)
    except Unreachable:
        with server(place) as other:
            _print_ending(other, progress, place, json=json, served=False)


def _print_ending(client: Client, progress: Progress, place: Where, *, json: bool, served: bool) -> None:
    if json:
        emit(client.get(f"/api/jobs/{progress.job['id']}", after=int(progress.last.partition(".")[0] or 0)))
    else:
        conclude(client, progress, place.again(), served=served)
