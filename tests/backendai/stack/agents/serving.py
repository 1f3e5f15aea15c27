"""What stands in for a container's model server: the definition's command, in the sandbox, at a port of the host.

A sandbox has no network of its own, so the port of the definition is replaced by a free one, in the command too.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import urllib.error
import urllib.request
from typing import Any

from sandbox import Sandbox


def publish(service_ports: list[dict[str, Any]]) -> dict[str, int]:
    """Give each port of a model server one of the host; return them by the port in the definition."""
    given = {}
    for port in service_ports:
        if port.get("is_inference"):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                free = probe.getsockname()[1]
            port["host_ports"] = (free,)
            given[str(port["container_ports"][0])] = free
    return given


async def start(sandbox: Sandbox, model: dict[str, Any]) -> str:
    """Start the model's server; return where its health is asked for, empty where nobody asks."""
    service = model["service"]
    port = str(service["port"])
    free = str(sandbox.details["ports"][port])
    command = service["start_command"]
    words = command if isinstance(command, list) else shlex.split(command)
    await sandbox.run([word.replace(port, free) for word in words])
    health = service.get("health_check")
    return f"http://127.0.0.1:{free}{health['path']}" if health else ""


async def healthy(url: str, tries: int, seconds: float) -> bool:
    """Ask until the server is well, as the runner in a container of 23.09 does."""
    for _ in range(tries):
        try:
            with await asyncio.to_thread(urllib.request.urlopen, url, None, 2) as answer:
                if answer.status == 200:
                    return True
        except (OSError, urllib.error.URLError):
            pass
        await asyncio.sleep(seconds)
    return False
