"""What `trackbook doctor` says of executors: which there are and why, whether they could work, what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trackbook.cli.client.http_client import Client
from trackbook.cli.commands.doctor_check import Finding
from trackbook.cli.server.connect import Where, server
from trackbook.runtime.configuration import (
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


def executors(place: Where) -> Iterator[Finding]:
    """Yield which executors the configuration found here has, and how each fares as seen from this machine."""
    try:
        found = configuration(place.directory)
        looked = asyncio.run(_looked(place.directory, found))
    except ExecutorsMisconfigured as wrong:
        yield Finding("executors", str(wrong), "fail", "docs/clusters.md says what stands there.")
        return
    yield from _loaded(place, found)
    named = [LOCAL, *(f"{name} ({source})" for name, source in sorted(found.sources.items()))]
    default = f"; what names none runs on {found.default} ({found.default_source})"
    yield Finding("executors", ", ".join(named) + default)
    yield from looked


def _loaded(place: Where, here: Configuration) -> Iterator[Finding]:
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
    yield Finding("executors of the server", shown, "warn" if differs else "ok", hint if differs else "")


async def _looked(data: Path, found: Configuration) -> list[Finding]:
    """Examine each; an engine of containers that nobody asked for may be missing."""
    from trackbook.runtime.executors import configured

    backends = configured(data, _none, _NOBODY, found)
    asked = {*found.sources, found.default}
    try:
        lists = await asyncio.gather(*(_examined(name, backends[name].examine) for name in backends))
    finally:
        await backends.close()
    return [
        finding
        for name, findings in zip(backends, lists, strict=True)
        for finding in (findings if name != CONTAINER or name in asked else _unasked(findings))
    ]


async def _examined(name: str, examine: Any) -> list[Finding]:
    try:
        async with asyncio.timeout(_WITHIN):
            found = await examine()
    except TimeoutError:
        return [Finding(name, f"did not answer within {_WITHIN:.0f} s", "fail")]
    except Exception as problem:
        return [Finding(name, f"could not be looked at: {problem or type(problem).__name__}", "fail")]
    what = "" if name in (LOCAL, CONTAINER) else f"{name} "
    return [Finding(f"{what}{each.what}", each.found, each.verdict, each.hint) for each in found]


def _unasked(found: list[Finding]) -> list[Finding]:
    if any(each.verdict == "fail" for each in found):
        return [Finding("container engine", f"none asked for ({found[0].found.partition(':')[0]})")]
    return found


def _none() -> Any:
    raise AssertionError("no executor is made for a look")


def leftovers(place: Where, *, end: bool) -> Iterator[Finding]:
    """Yield what this installation left on its executors: told, or ended as well, by who knows the log.

    Without a server one in this process looks, where that was asked for: it alone knows what no job owns.
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
        yield Finding(f"{each['executor']} {each['what']}", each["found"], each["verdict"], each.get("hint", ""))
    if not found:
        yield Finding("left over", "nothing: each session on an executor belongs to a live task")
