"""The app proxy of a stack, by which services have addresses: the release's own for 26.8, a stand-in for 23.09.

No stack has one unless a test asks: without it a manager makes no service (23.09), or none that ever runs (26.8).
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from backendai.stack import config
from backendai.stack.prepare import HERE, installed_beside, run
from backendai.stack.processes import until
from backendai.stack.settings import NAMESPACE, Settings
from backendai.stack.stack import Stack

TOKEN = "sim-app-proxy-token"
_BOOT = 60.0
_OWN = """\
[secrets]
api_secret = "{token}"
jwt_secret = "sim-app-proxy-jwt-secret-of-no-worth-at-all"
[permit_hash]
secret = "sim-app-proxy-permit"
"""


@contextmanager
def proxied(stack: Stack) -> Iterator[None]:
    """Give the stack's scaling group an app proxy for a while."""
    parts = _real(stack) if stack.settings.newer else _stand_in(stack)
    try:
        for name in parts:
            until(partial(_answers, stack.settings.port(name)), _BOOT, name)
        address = f"http://127.0.0.1:{stack.settings.port('proxy')}"
        point(stack, f"'{address}'", f"'{TOKEN}'")
        yield
    finally:
        point(stack, "null", "null")
        for name in reversed(parts):
            stack.processes.stop(name)


def _answers(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as answer:
        return bool(answer.status == 200)


def point(stack: Stack, address: str, token: str) -> None:
    """Tell the scaling group where its app proxy is, in SQL's words."""
    stack.psql(f"update scaling_groups set wsproxy_addr={address}, wsproxy_api_token={token}")


def _stand_in(stack: Stack) -> list[str]:
    port = str(stack.settings.port("proxy"))
    stack.processes.start("proxy", [sys.executable, HERE / "standin_proxy.py", port, TOKEN], stack.state, {})
    return ["proxy"]


def _real(stack: Stack) -> list[str]:
    settings, folder = stack.settings, stack.state / "conf"
    beside = str(installed_beside(settings, stack.say))
    env = {"PYTHONPATH": beside, "PYTHONUNBUFFERED": "1"}
    (folder / "proxy.toml").write_text(_coordinator(settings))
    (folder / "proxy worker.toml").write_text(_worker(settings))
    if not stack.psql("select 1 from pg_database where datname='appproxy'", "postgres"):
        stack.psql("create database appproxy", "postgres")
        stack.psql('create extension "uuid-ossp"', "appproxy")
        (folder / "alembic-proxy.ini").write_text(_alembic(settings))
        run(
            [stack.python, "-m", "alembic", "-c", folder / "alembic-proxy.ini", "upgrade", "head"],
            PYTHONPATH=beside,
        )
    for name, kind in (("proxy", "coordinator"), ("proxy worker", "worker")):
        program: list[str | Path] = [stack.python, "-m", f"ai.backend.appproxy.{kind}.server"]
        stack.processes.start(name, [*program, "-f", folder / f"{name}.toml"], folder, env)
    return ["proxy", "proxy worker"]


def _coordinator(settings: Settings) -> str:
    at = config.address(settings.port("proxy"))
    return f"""[db]
type = "postgresql"
addr = {config.address(settings.port("postgres"))}
name = "appproxy"
user = "postgres"
password = "unused"
[proxy_coordinator]
id = "i-sim-coordinator"
bind_addr = {at}
announce_addr = {at}
{_common(settings, 0)}"""


def _worker(settings: Settings) -> str:
    at = config.address(settings.port("proxy worker"))
    first = settings.port("proxied")
    own = f"""[proxy_worker]
id = "i-sim-worker"
api_bind_addr = {at}
api_advertised_addr = {at}
announce_addr = {at}
coordinator_endpoint = "http://127.0.0.1:{settings.port("proxy")}"
authority = "sim-worker"
frontend_mode = "port"
protocol = "http"
accepted_traffics = ["inference", "interactive"]
heartbeat_period = 2.0
event_loop = "asyncio"
"""
    ports = f"""[proxy_worker.port_proxy]
bind_host = "127.0.0.1"
advertised_host = "127.0.0.1"
bind_port_range = [{first}, {first + 12}]
"""
    return own + _common(settings, 2, ports)


def _common(settings: Settings, monitor: int, more: str = "") -> str:
    first = settings.port("proxy monitors", monitor)
    return f"""ipc_base_path = "{settings.state}/ipc"
user = 0
group = 0
aiomonitor_termui_port = {first}
aiomonitor_webui_port = {first + 1}
{more}[redis]
addr = {config.address(settings.port("redis"))}
[etcd]
namespace = "{NAMESPACE}"
addr = {config.address(settings.port("etcd"))}
[service_discovery]
type = "redis"
{_OWN.format(token=TOKEN)}{config.LOGGING}[debug]
enabled = false
"""


def _alembic(settings: Settings) -> str:
    text = config.ALEMBIC.format(port=settings.port("postgres"))
    text = text.replace("ai.backend.manager.models:alembic", "ai.backend.appproxy.coordinator.models:alembic")
    return text.replace("postgresql://", "postgresql+asyncpg://").replace("/backend\n", "/appproxy\n")
