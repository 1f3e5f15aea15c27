"""What bounds us on this machine in this minute: an acknowledged publish, a launcher, a bare spawn."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from nats.aio.client import Client

from bench.server import Trackbook

EVENT = b"x" * 700
"""About the bytes of a commit of one task's end and its successor's launch."""


async def publish(server: Trackbook, count: int = 400) -> dict[str, Any]:
    """Acknowledged publishes one at a time to a stream of their own on the same broker, ms."""
    password = json.loads((server.data / "broker" / "credentials.json").read_text())["engine"]
    url = json.loads((server.data / "nats.json").read_text())["url"]
    nc = Client()
    await nc.connect(url, user="engine", password=password)
    try:
        config = json.dumps({"name": "floor", "subjects": ["floor.>"], "storage": "file"}).encode()
        await nc.request("$JS.API.STREAM.CREATE.floor", config, timeout=10)
        times = []
        for number in range(count):
            began = time.perf_counter()
            await nc.request(f"floor.{number % 7}", EVENT, timeout=10)
            times.append(1e3 * (time.perf_counter() - began))
        await nc.request("$JS.API.STREAM.DELETE.floor", b"", timeout=10)
    finally:
        await nc.close()
    return {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(sorted(times)[int(0.99 * count)], 3)}


def launcher(count: int = 1000, parallel: int = 2, *, fast: bool = False) -> float:
    """Return the seconds of so many sessions of /bin/true by our own launcher, without an engine."""
    command = [sys.executable, "-m", "trackbook.adapters.local.floor", str(count), "-P", str(parallel)]
    shown = subprocess.run([*command, *(["--fast"] if fast else [])], check=True, capture_output=True, text=True)
    return float(shown.stdout.split()[0])


def xargs(count: int = 1000, parallel: int = 2) -> float:
    """Return the seconds of so many `bash -c /bin/true` by xargs."""
    began = time.perf_counter()
    numbers = "\n".join(str(n) for n in range(count))
    command = ["xargs", "-P", str(parallel), "-I{}", "bash", "-c", "/bin/true"]
    subprocess.run(command, input=numbers, text=True, check=True)
    return round(time.perf_counter() - began, 3)


async def spawn(count: int = 200) -> float:
    """Return the median ms of one `bash -c /bin/true` by asyncio, for the cost of a launcher beside it."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec("bash", "-c", "/bin/true")
        await process.wait()
        times.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(times), 3)
