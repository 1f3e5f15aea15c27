"""The executors in `trackbook doctor`: those configured, whether they work, and leftover sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trackbook.cli.client.http_client import Client
from trackbook.cli.commands.doctor_check import Check
from trackbook.cli.server.connection import Where, server
from trackbook.runtime.executors.configuration import (
    CONTAINER,
    LOCAL,
    Configuration,
    ExecutorsMisconfigured,
    configuration,
)

_WITHIN = 60.0
"""Seconds for an executor to be looked at."""

_NOBODY = "00000000"
"""The installation's id where none is needed: nothing is made under it."""


def executors(place: Where) -> Iterator[Check]:
    """Yield which executors the configuration found here has, and how each fares as seen from this machine."""
    try:
        found = configuration(place.directory)
        looked = asyncio.run(_examine_all(place.directory, found))
    except ExecutorsMisconfigured as wrong:
        yield Check("executors", str(wrong), "fail", "docs/clusters.md describes the file.")
        return
    yield from _server_executors(place, found)
    named = [LOCAL, *(f"{name} ({source})" for name, source in sorted(found.sources.items()))]
    default = f"; what names none runs on {found.default} ({found.default_source})"
    yield Check("executors", ", ".join(named) + default)
    yield from looked


def _server_executors(place: Where, here: Configuration) -> Iterator[Check]:
    """Yield what the running server has loaded, which is what jobs run on."""
    if place.find() is None:
        return
    items = Client(place.find, patience=0).get("/api/executors")["items"]
    names = [each["name"] for each in items]
    default = next((each["name"] for each in items if each["default"]), LOCAL)
    expected = {LOCAL, CONTAINER, *here.sources}
    differs = set(names) != expected or default != here.default
    hint = (
        f"The configuration seen here is another: {', '.join(sorted(expected))}, and {here.default}. The server"
        f" has the {here.path.name} of its own data directory and the variables of its own environment."
    )
    shown = f"{', '.join(names)}; what names none runs on {default}"
    yield Check("executors of the server", shown, "warn" if differs else "ok", hint if differs else "")


async def _examine_all(data: Path, found: Configuration) -> list[Check]:
    """Examine each; an engine of containers that nobody asked for may be missing."""
    from trackbook.adapters.execution.kind import Host
    from trackbook.runtime.executors.registry import make_backends

    backends = make_backends(Host(data=data, installation=_NOBODY), found)
    asked = {*found.sources, found.default}
    try:
        lists = await asyncio.gather(*(_diagnose(name, backends[name].diagnose) for name in backends))
    finally:
        await backends.close()
    return [
        finding
        for name, findings in zip(backends, lists, strict=True)
        for finding in (findings if name != CONTAINER or name in asked else _without_unused_engine(findings))
    ]


async def _diagnose(name: str, diagnose: Any) -> list[Check]:
    try:
        async with asyncio.timeout(_WITHIN):
            found = await diagnose()
    except TimeoutError:
        return [Check(name, f"did not answer within {_WITHIN:.0f} s", "fail")]
    except Exception as problem:
        return [Check(name, f"could not be checked: {problem or type(problem).__name__}", "fail")]
    what = "" if name in (LOCAL, CONTAINER) else f"{name} "
    return [Check(f"{what}{each.what}", each.found, each.verdict, each.hint) for each in found]


def _without_unused_engine(found: list[Check]) -> list[Check]:
    if any(each.verdict == "fail" for each in found):
        return [Check("container engine", f"none asked for ({found[0].found.partition(':')[0]})")]
    return found


def leftovers(place: Where, *, end: bool) -> Iterator[Check]:
    """Yield the sessions that this installation left on its executors; `end` terminates them as well.

    Only a server can tell which of them no job owns: with `end` and no running server, one is started here.
    """
    if not end and place.find() is None:
        return
    with ExitStack() as stack:
        if place.find_ready():
            client = stack.enter_context(Client(place.find, patience=0))
        else:
            client = stack.enter_context(server(place))
        reply = client.command("executor", "sweep", {"end": end})
    found = reply.get("findings") or []
    for each in found:
        yield Check(f"{each['executor']} {each['what']}", each["found"], each["verdict"], each.get("hint", ""))
    if not found:
        yield Check("left over", "nothing: each session on an executor belongs to a live task")
