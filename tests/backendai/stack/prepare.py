"""What a stack stands on: Debian's packages, a Python of the right version, an environment from a lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import NotInstalled, install

from backendai.stack.settings import Settings, Unavailable

HERE = Path(__file__).resolve().parent
PYTHONS = {"23.09": "3.11", "26.8": "3.13"}
UV = "uv==0.13.9"
Say = Callable[[str], None]


def run(argv: list[str | Path], *, cwd: Path | None = None, stdin: str | None = None, **env: str) -> str:
    """Run a command and return what it printed; raise RuntimeError with its last words when it fails."""
    done = subprocess.run(
        [str(word) for word in argv],
        text=True,
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **env},
        input=stdin,
    )
    if done.returncode:
        raise RuntimeError(f"failed: {argv}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def postgres_programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs, which are not on PATH."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def prepare(settings: Settings, say: Say) -> Path:
    """Install what is missing and return the environment's Python; raise Unavailable where that can't be."""
    if os.getuid() != 0:
        raise Unavailable("a stack needs root: PostgreSQL's account, and mount namespaces for sessions")
    settings.cache.mkdir(exist_ok=True)
    with _alone(settings.cache):
        _packages(settings.cache, say)
        if settings.venv:
            return settings.venv / "bin/python"
        return _environment(settings, say)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Let one at a time install."""
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _packages(cache: Path, say: Say) -> None:
    """Install the stores from Debian's packages, without starting the services that come with them."""
    found = {
        "postgresql": any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        "redis-server": shutil.which("redis-server"),
        "etcd-server": shutil.which("etcd"),
        "etcd-client": shutil.which("etcdctl"),
    }
    missing = [name for name, there in found.items() if not there]
    if not missing:
        return
    say("apt-get install " + " ".join(missing))
    try:
        install(missing, archives=cache / "apt")
    except NotInstalled as error:
        raise Unavailable(str(error)) from error


def python_of(series: str) -> str | None:
    """Return a Python that runs the series, from PATH or where pyenv and uv keep theirs."""
    wanted = PYTHONS[series]
    home = Path.home()
    places = [
        *home.glob(f".pyenv/versions/{wanted}*/bin/python{wanted}"),
        *home.glob(f".local/share/uv/python/cpython-{wanted}*/bin/python{wanted}"),
        Path(f"/usr/bin/python{wanted}"),
        Path(f"/usr/local/bin/python{wanted}"),
    ]
    probe = f"import sys, venv; assert sys.version_info[:2] == ({wanted.replace('.', ', ')})"
    for candidate in (shutil.which(f"python{wanted}"), *map(str, places), sys.executable):
        if (
            candidate
            and subprocess.run([candidate, "-c", probe], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    return None


def environment(settings: Settings) -> Path:
    """Return the folder of the virtual environment that belongs to the series."""
    return settings.cache / f"venv-{settings.series}"


def _environment(settings: Settings, say: Say) -> Path:
    """Make the virtual environment of the series from its lock, once for each content of the lock."""
    lock = HERE / f"{settings.series}.lock"
    venv = environment(settings)
    stamp = venv / "installed.lock"
    python = venv / "bin/python"
    if stamp.exists() and stamp.read_text() == lock.read_text() and python.exists():
        return python
    interpreter = python_of(settings.series)
    if interpreter is None:
        raise Unavailable(
            f"Backend.AI {settings.version} needs Python {PYTHONS[settings.series]}, which is not here"
        )
    say(f"installing Backend.AI {settings.version} into {venv}")
    uv = _uv(settings.cache)
    shutil.rmtree(venv, ignore_errors=True)
    try:
        run([uv, "venv", "-q", "--no-config", "--python", interpreter, venv])
        exact: list[str | Path] = ["--no-deps", "--require-hashes", "-r", lock, *_index()]
        target: list[str | Path] = ["--compile-bytecode", "--python", python]
        cached = str(settings.cache / "uv-cache")
        run([uv, "pip", "install", "-q", "--no-config", *exact, *target], UV_CACHE_DIR=cached)
    except RuntimeError as error:
        raise Unavailable(f"Backend.AI {settings.version} can't be installed: {error}") from error
    stamp.write_text(lock.read_text())
    return python


def installed_beside(settings: Settings, say: Say) -> Path:
    """Return a folder with the release's app proxy, for the Python of its environment; raise Unavailable."""
    lock = HERE / f"{settings.series}-proxy.lock"
    folder = settings.cache / f"proxy-{settings.series}"
    stamp = folder / "installed.lock"
    with _alone(settings.cache):
        if stamp.exists() and stamp.read_text() == lock.read_text():
            return folder
        say(f"installing the app proxy of Backend.AI {settings.version}")
        shutil.rmtree(folder, ignore_errors=True)
        exact: list[str | Path] = ["--no-deps", "--require-hashes", "-r", lock, *_index()]
        python = (settings.venv or environment(settings)) / "bin/python"
        target: list[str | Path] = ["--compile-bytecode", "--python", python, "--target", folder]
        try:
            cached = str(settings.cache / "uv-cache")
            uv = _uv(settings.cache)
            run([uv, "pip", "install", "-q", "--no-config", *exact, *target], UV_CACHE_DIR=cached)
        except RuntimeError as error:
            raise Unavailable(f"the app proxy {settings.version} can't be installed: {error}") from error
        stamp.write_text(lock.read_text())
        return folder


def _uv(cache: Path) -> Path:
    """Return uv, from PyPI: it installs these 200 packages in seconds, where pip takes most of a minute."""
    folder = cache / "uv"
    program = folder / "bin/uv"
    if not program.exists():
        try:
            run([sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", folder, UV])
        except RuntimeError as error:
            raise Unavailable(f"uv can't be installed: {error}") from error
    return program


def _index() -> list[str | Path]:
    """Return the index that pip is asked to use, since uv doesn't read pip's configuration."""
    reported = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        text=True,
        capture_output=True,
        check=False,
    )
    index = os.environ.get("PIP_INDEX_URL") or reported.stdout.strip()
    return ["--index-url", index] if index else []
