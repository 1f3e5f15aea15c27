"""A server in a process of its own, its clients, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from conditions import holds
from nats.aio.client import Client

_PROGRAM = Path(__file__).with_name("server.py")
_START_WITHIN = _STOP_WITHIN = 300.0


class Running:
    """A server on `data`: its process, and the HTTP client and the address for whoever asks it."""

    def __init__(self, data: Path, process: subprocess.Popen[bytes], http: httpx.AsyncClient) -> None:
        self.data, self.process, self.http = data, process, http

    def resident(self) -> int:
        """Return the bytes of memory that the process holds, its children left out."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    async def client(self) -> Client:
        """Return a new connection as a client of the command subjects."""
        access = json.loads((self.data / "nats.json").read_text())
        nc = Client()
        await nc.connect(
            access["url"],
            user=access["user"],
            password=access["password"],
            inbox_prefix=access["inbox_prefix"],
            allow_reconnect=False,
        )
        return nc

    async def get(self, path: str) -> Any:
        """Return the JSON of a page."""
        return (await self.http.get(path)).raise_for_status().json()

    async def projected(self) -> int:
        """Wait until the read model holds the whole log; return how many commits that is."""
        while True:
            health = (await self.http.get("/health/ready")).json()
            if health["checkpoint"] == health["head"] > 0:
                return int(health["head"])
            await asyncio.sleep(0.1)


async def ask(nc: Client, command: str, **payload: Any) -> dict[str, Any]:
    """Give a command, which has to be accepted, and return the reply."""
    body = json.dumps({"command_id": uuid.uuid4().hex, **payload}).encode()
    reply: dict[str, Any] = json.loads((await nc.request(f"trackbook.cmd.{command}", body, timeout=60)).data)
    assert reply["status"] == "accepted", reply
    return reply


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[Running]:
    """Run `trackbook up` with sessions that end at once; it must stop in good order at the end."""
    command = [sys.executable, str(_PROGRAM), "up", "--data", str(data)]
    options = ["--http", "127.0.0.1:0", "--durability", "fast", "--log-level", "error"]
    output = data.with_name(f"{data.name}.output")
    with output.open("wb") as file:
        process = subprocess.Popen([*command, *options], stdout=file, stderr=file)  # noqa: ASYNC220
    try:
        await holds(
            lambda: process.poll() is not None or b"Trackbook serves" in output.read_bytes(), _START_WITHIN
        )
        assert process.poll() is None, output.read_text()
        found = json.loads((data / "server.json").read_text())
        headers = {"Authorization": f"Bearer {found['token']}"}
        async with httpx.AsyncClient(base_url=found["url"], headers=headers, timeout=60) as http:
            yield Running(data, process, http)
        process.terminate()
        await holds(lambda: process.poll() is not None, _STOP_WITHIN)
        assert process.returncode == 0, output.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
