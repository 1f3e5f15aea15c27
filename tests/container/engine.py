"""A real container engine for tests: its own, with a store and a socket in a folder, and two images.

TRACKBOOK_CONTAINER names it: `podman` (or `1`), `docker`, `none`. Unset, it is Podman where that can be had, else
the tests are skipped. TRACKBOOK_CONTAINER_SOCKET gives the socket of an engine that runs already, as root or not.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from debian import NotInstalled, install

ASKED = os.environ.get("TRACKBOOK_CONTAINER", "podman?")
SOCKET = os.environ.get("TRACKBOOK_CONTAINER_SOCKET", "")
SH_IMAGE = "localhost/trackbook-test:sh"
"""Has a busybox alone."""
BASH_IMAGE = "localhost/trackbook-test:bash"
_PACKAGES = {
    "podman": ("podman", "runc", "busybox-static", "catatonit"),
    "docker": ("docker.io", "busybox-static", "podman"),
}
_PATIENCE = 60.0
_PARENT, _PREFIX = Path("/var/tmp"), "trackbook-engine-"
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""As a machine takes it that has hybrid cgroups, and gives no right to raise limits."""


class Unavailable(Exception):
    """The engine can't be had here; says why."""


class ContainerEngine:
    """An engine that runs; `address` is for DOCKER_HOST."""

    def __init__(self, address: str, kind: str) -> None:
        self.address = address
        self.kind = kind

    def stop(self) -> None:
        """End the service; containers go on."""
        pytest.skip("the engine is not ours to stop")

    def start(self) -> None:
        """Start the service again."""

    def restart_loses_containers(self) -> bool:
        """Whether this engine's containers end with its service."""
        return False


class OwnEngine(ContainerEngine):
    """One of our own, below a folder."""

    def __init__(self, kind: str, folder: Path, settings: str = "") -> None:
        super().__init__(f"unix://{folder}/engine.sock", kind)
        self.folder = folder
        self._service: subprocess.Popen[bytes] | None = None
        (folder / "containers.conf").write_text(_CONTAINERS_CONF + settings)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}

    def podman(self, *arguments: str) -> list[str]:
        """Return a command on this engine's store."""
        places = [f"--{name}={self.folder}/{name}" for name in ("root", "runroot", "tmpdir")]
        return ["podman", *places, "--storage-driver=vfs", *arguments]

    def start(self) -> None:
        """Start the service; returns when it listens."""
        log = (self.folder / "service.log").open("ab")
        self._service = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *self._command()],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,  # conmon leaves a file `oom` where it stands
            start_new_session=True,
        )
        log.close()
        until = time.monotonic() + _PATIENCE
        while subprocess.run(
            [*self._client(), "version"], check=False, env=self.environment, capture_output=True
        ).returncode:
            if self._service.poll() is not None or time.monotonic() > until:
                raise Unavailable(
                    f"{self.kind} did not start: {(self.folder / 'service.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def _command(self) -> list[str]:
        if self.kind == "podman":
            return self.podman("system", "service", "--time=0", self.address)
        return [
            *("dockerd", "--host", self.address, "--storage-driver=vfs", "--live-restore"),
            *("--data-root", f"{self.folder}/root", "--exec-root", f"{self.folder}/run"),
            *("--pidfile", f"{self.folder}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"),
            *("--default-ulimit", "nofile=1000:1000", "--default-ulimit", "nproc=1000:1000"),
        ]

    def _client(self) -> list[str]:
        """Return a command that speaks to the service."""
        return (
            ["podman", "--remote", "--url", self.address]
            if self.kind == "podman"
            else ["docker", "-H", self.address]
        )

    def stop(self) -> None:
        """End the service; containers go on."""
        assert self._service
        self._service.terminate()
        self._service.wait(_PATIENCE)

    def load(self, image: str, root: Path) -> None:
        """Make an image of a folder."""
        archive = self.folder / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, "/")
        _run([*self._client(), "import", "--change", "ENV PATH=/bin", str(archive), image], self.environment)

    def wipe(self) -> None:
        """End everything and delete it."""
        listed = _run([*self._client(), "ps", "--all", "--quiet"], self.environment)
        if listed.split():
            _run([*self._client(), "rm", "--force", *listed.split()], self.environment)
        self.stop()
        subprocess.run(["umount", str(self.folder / "root")], check=False, capture_output=True)  # dockerd's own
        until = time.monotonic() + _PATIENCE
        while self.folder.exists() and time.monotonic() < until:  # Podman's monitors write to it to their last
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.02)


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _install(kind: str) -> None:
    """Have the engine's packages, by apt where they are missing."""
    if os.geteuid() != 0:
        raise Unavailable("an engine of the tests' own needs root")
    programs = ("podman", "runc", "busybox", *(("dockerd",) if kind == "docker" else ()))
    if all(map(shutil.which, programs)):
        return
    try:
        install(_PACKAGES[kind])
    except NotInstalled as error:
        raise Unavailable(str(error)) from error


def _busybox(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "tmp").mkdir(mode=0o1777)
    shutil.copy2(shutil.which("busybox") or "", root / "bin/busybox")
    for name in subprocess.check_output(["busybox", "--list"], text=True).split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


def _with_bash(root: Path) -> Path:
    """Add this machine's bash, and the libraries that it names."""
    _busybox(root)
    shutil.copy2("/bin/bash", root / "bin/bash")
    for library in re.findall(r"/\S+", subprocess.check_output(["ldd", "/bin/bash"], text=True)):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, place)
    return root


@contextmanager
def booted(kind: str, settings: str = "") -> Iterator[OwnEngine]:
    """Boot an engine of its own, with its images; raises Unavailable. `settings` end its containers.conf."""
    _install(kind)
    _end_orphans()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-", dir=_PARENT))
    lock = (folder / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    engine = OwnEngine(kind, folder, settings)
    try:
        engine.start()
        with tempfile.TemporaryDirectory() as images:
            engine.load(SH_IMAGE, _busybox(Path(images) / "sh"))
            engine.load(BASH_IMAGE, _with_bash(Path(images) / "bash"))
        yield engine
    finally:
        engine.wipe()
        lock.close()


def _end_orphans() -> None:
    """End what runs left that were killed: of such a run the lock is free."""
    for folder in _PARENT.glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            engine = OwnEngine(folder.name.removeprefix(_PREFIX).partition("-")[0], folder)
            engine.start()
            engine.wipe()


@pytest.fixture(scope="session")
def container_engine() -> Iterator[ContainerEngine]:
    """Give a real engine that has SH_IMAGE and BASH_IMAGE; shared, so leave no container."""
    if SOCKET:
        yield ContainerEngine(SOCKET, "given")
        return
    kind = ASKED.removesuffix("?").replace("1", "podman")
    if kind == "none":
        pytest.skip("TRACKBOOK_CONTAINER=none")
    assert kind in _PACKAGES, f"TRACKBOOK_CONTAINER: {kind!r} is none of {', '.join(_PACKAGES)}"
    try:
        boot = booted(kind)
        engine = boot.__enter__()
    except Unavailable as error:
        if ASKED.endswith("?"):
            pytest.skip(f"no container engine: {error}")
        raise
    try:
        yield engine
    finally:
        boot.__exit__(None, None, None)
