"""One stack: boot it, stop and start its parts, take it away."""

from __future__ import annotations

import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from backendai.stack import config, seed
from backendai.stack.prepare import HERE, environment, postgres_programs, prepare, run
from backendai.stack.processes import Processes, end, until
from backendai.stack.settings import NAMESPACE, Settings

STORES = ("postgres", "redis", "etcd")
TUNED = (
    "fsync=off",
    "max_connections=200",
    "jit=off",
    "dynamic_shared_memory_type=mmap",
    "enable_seqscan=off",
    *(f"max_pred_locks_per_{what}" for what in ("transaction=1024", "relation=1024", "page=256")),
)
"""For PostgreSQL. The manager's transactions are serializable: on tables as small as a test's, plans that scan
all of a table make every two of them conflict, and retry."""

BOOT = 90.0
"""Seconds that a part may take to be ready; 26.8's manager took 6 on two busy cores."""


class Ended(Exception):
    """A part has ended by itself; the text has its last words."""


class Stack:
    """Names of its parts: postgres, redis, etcd, storage, manager, agent1, agent2 …"""

    def __init__(self, settings: Settings, say: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.state = settings.state
        self._say = say
        self._processes = Processes(settings.state)
        self._python = (settings.venv or environment(settings)) / "bin/python"
        self._since = time.monotonic()

    @property
    def python(self) -> Path:
        """The Python of the release's environment."""
        return self._python

    @property
    def processes(self) -> Processes:
        """Its processes, for parts that not every stack has."""
        return self._processes

    @property
    def endpoint(self) -> str:
        """The manager's address."""
        return f"http://127.0.0.1:{self.settings.port('manager')}"

    @property
    def storage_endpoint(self) -> str:
        """The storage proxy's address, for clients."""
        return f"http://127.0.0.1:{self.settings.port('storage for clients')}"

    @property
    def volume(self) -> Path:
        """Where the storage proxy keeps virtual folders."""
        return self.state / "volume1"

    @property
    def names(self) -> list[str]:
        """The parts, in the order of their starting."""
        return [*STORES, "storage", "manager", *self.agents]

    @property
    def agents(self) -> list[str]:
        """The agents' names."""
        return [f"agent{number}" for number in range(1, self.settings.sizes.agents + 1)]

    def up(self) -> None:
        """Boot all of it; raise Unavailable where that can't be, others when it fails."""
        self._python = prepare(self.settings, self.say)
        for name in ("log", "conf", "pid", "volume1", "ipc", "commit", "var", "redis"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        for name in self.agents:
            (self.state / "scratch" / name.replace("agent", "a")).mkdir(parents=True, exist_ok=True)
        for name in STORES:
            self._launch(name)
        for name in STORES:
            self._wait(name)
        self._configure()
        self._seed()
        for name in ("storage", "manager"):
            self._launch(name)
        for name in ("storage", "manager"):
            self._wait(name)
        for name in self.agents:
            self._launch(name)
        for name in self.agents:
            self._wait(name)
        self.say(f"{self.settings.version} is up at {self.endpoint}")

    def down(self) -> None:
        """Stop all of it, gently, in the order that lets each part finish; the data stay."""
        for name in reversed(self.names):
            self.stop(name)

    def wipe(self) -> None:
        """End all of it at once, and remove its data."""
        for name in self.names:
            if name != "postgres":
                self.kill(name)
        end(self.state)
        self.kill("postgres")

    def start(self, name: str) -> None:
        """Start a part, and wait until it is ready."""
        self._launch(name)
        self._wait(name)

    def stop(self, name: str) -> None:
        """Stop a part as an operator does; an agent ends its sessions then, which a killed one doesn't."""
        self._processes.stop(name, signal.SIGINT if name == "postgres" else signal.SIGTERM)

    def kill(self, name: str) -> None:
        """End a part at once, as a crash does; sessions of an agent go on."""
        self._processes.kill(name)

    def psql(self, statement: str, database: str = "backend") -> str:
        """Run SQL on the manager's database, for what no request can bring about."""
        port = str(self.settings.port("postgres"))
        where: list[str | Path] = ["-h", "127.0.0.1", "-p", port, "-U", "postgres", "-d", database]
        return run(["psql", *where, "-v", "ON_ERROR_STOP=1", "-qAt"], stdin=statement).strip()

    def say(self, text: str) -> None:
        """Tell of progress."""
        self._say(f"[{time.monotonic() - self._since:5.1f} s] {text}")

    def _configure(self) -> None:
        folder = self.state / "conf"
        key = folder / "manager.key_secret"
        if not key.exists():
            make = "import sys, zmq.auth; zmq.auth.create_certificates(sys.argv[1], 'manager')"
            run([self._python, "-c", make, folder])
        for name, text in config.files(self.settings, key).items():
            (folder / name).write_text(text)
        (self.volume / "version.txt").write_text(
            "3"
        )  # the layout that the storage proxy of 23.09 and of 26.8 wants
        at = f"127.0.0.1:{self.settings.port('etcd')}"
        lines = [
            f'put "/sorna/{NAMESPACE}/{name}" "{value}"' for name, value in config.shared(self.settings).items()
        ]
        run(["etcdctl", "--endpoints", at, "txn"], stdin="\n" + "\n".join(lines) + "\n\n\n", ETCDCTL_API="3")

    def _seed(self) -> None:
        if not self.psql("select 1 from pg_database where datname='backend'", "postgres"):
            self.psql("create database backend", "postgres")
        folder = self.state / "conf"
        if not self.psql("select to_regclass('alembic_version')"):
            schema: list[str | Path] = ["schema", "oneshot", "-f", folder / "alembic.ini"]
            run([*self._backend_ai(), "mgr", "-f", folder / "manager.toml", *schema], cwd=folder)
            self.say("schema: made")
        if self.psql("select count(*) from keypairs") == "0":
            self.psql(seed.sql(self.settings))

    def _backend_ai(self) -> list[str | Path]:
        """Return the command line of Backend.AI's program, wherever its environment was moved since it was made.

        The first line of the program names the Python of the folder in which it was installed.
        """
        return [self._python, self._python.parent / "backend.ai"]

    def _launch(self, name: str) -> None:
        if name in STORES:
            argv = getattr(self, f"_{name}")()
            self._processes.start(name, argv, Path("/"), {})
            return
        folder = self.state / "conf"
        sizes = self.settings.sizes
        env = {
            "DOCKER_HOST": "tcp://127.0.0.1:9",
            "PYTHONUNBUFFERED": "1",
            "SIM_SCRATCH": str(self.state / "scratch"),
            "SIM_ACCEL": sizes.accelerators,
            "SIM_CPUS": str(sizes.cpus),
            "SIM_MEM_GIB": str(sizes.mem_gib),
        }
        program: list[str | Path]
        if name.startswith("agent"):
            program = [self._python, HERE / f"agents/agent{self.settings.series.partition('.')[0]}.py"]
        elif name == "manager" and self.settings.newer:
            program = [*self._backend_ai(), "mgr", "start-server"]
        elif name == "manager":
            program = [self._python, HERE / "agents/manager23.py"]
        else:
            program = [self._python, "-m", f"ai.backend.{name}.server"]
        self._processes.start(name, [*program, "-f", folder / f"{name}.toml"], folder, env)

    def _postgres(self) -> list[str | Path]:
        programs, data = postgres_programs(), self.state / "pg"
        account: list[str | Path] = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        if not (data / "PG_VERSION").exists():
            data.mkdir(exist_ok=True)
            shutil.chown(data, "postgres", "postgres")
            data.chmod(0o700)
            make: list[str | Path] = [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "--auth=trust",
                "--no-sync",
            ]
            run([*account, *make, "-E", "UTF8"], cwd=Path("/"))
        port = str(self.settings.port("postgres"))
        tuned = [word for setting in TUNED for word in ("-c", setting)]
        return [*account, programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", port, "-k", "", *tuned]

    def _redis(self) -> list[str | Path]:
        port = str(self.settings.port("redis"))
        kept: list[str | Path] = ["--dir", self.state / "redis", "--save", "", "--appendonly", "no"]
        return ["redis-server", "--bind", "127.0.0.1", "--port", port, *kept]

    def _etcd(self) -> list[str | Path]:
        own, peer = (f"http://127.0.0.1:{self.settings.port(name)}" for name in ("etcd", "etcd peer"))
        clients: list[str | Path] = ["--listen-client-urls", own, "--advertise-client-urls", own]
        peers: list[str | Path] = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        data: list[str | Path] = ["--name", "n0", "--data-dir", self.state / "etcd", "--unsafe-no-fsync"]
        return ["etcd", *data, *clients, *peers, "--initial-cluster", f"n0={peer}"]

    def _wait(self, name: str) -> None:
        def ready() -> bool:
            if not self._processes.pid(name):
                raise Ended(self._last_words(name))
            return self._ready(name)

        until(ready, BOOT, f"{name}: ready")
        self.say(f"{name}: ready")

    def _ready(self, name: str) -> bool:
        port = self.settings.port
        if name == "manager":
            with urllib.request.urlopen(self.endpoint, timeout=2) as answer:
                return b"manager" in answer.read()
        if name == "postgres":
            run([postgres_programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port("postgres"))])
            return True
        listening = {"storage": "storage for clients"}.get(name, name)
        number = port("agent", int(name[5:]) - 1) if name.startswith("agent") else port(listening)
        with socket.create_connection(("127.0.0.1", number), 1):
            pass
        alive = f"select 1 from agents where id='i-sim-{name}' and status='ALIVE'"
        return not name.startswith("agent") or self.psql(alive) == "1"

    def _last_words(self, name: str) -> str:
        log = self.state / f"log/{name}.log"
        return f"{name} has ended: " + log.read_text(errors="replace")[-2000:]
