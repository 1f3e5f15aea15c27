"""Boots and keeps a stack by hand: up, down, wipe, start, stop, kill, env."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from backendai.stack.settings import IMAGE, KEYS, ROOT, VERSIONS, Settings, Sizes
from backendai.stack.stack import Stack


def main() -> None:
    """Run one command; what `up` was told is kept in the state directory for the others."""
    parser = argparse.ArgumentParser(prog="python -m backendai.stack", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "wipe", "start", "stop", "kill", "env"])
    parser.add_argument("what", nargs="?", help=f"up: {' or '.join(VERSIONS)}; start, stop, kill: a part")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / ".stack")
    parser.add_argument("--venv", type=Path, help="an environment that has the release already")
    parser.add_argument("--base-port", type=int, default=28000)
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    told = parser.parse_args()
    kept = told.state / "stack.json"
    if told.verb == "up":
        sizes = {name: getattr(told, name) for name in asdict(Sizes())}
        place = {"series": told.what or "23.09", "base_port": told.base_port}
        told.state.mkdir(parents=True, exist_ok=True)
        paths = {"cache": str(told.cache.resolve()), "venv": str(told.venv.resolve()) if told.venv else ""}
        kept.write_text(json.dumps({**place, **paths, "sizes": sizes}))
    held = json.loads(kept.read_text())
    venv = Path(held["venv"]) if held["venv"] else None
    state = told.state.resolve()
    stack = Stack(
        Settings(held["series"], state, held["base_port"], Sizes(**held["sizes"]), Path(held["cache"]), venv)
    )
    if told.verb in {"start", "stop", "kill"}:
        getattr(stack, told.verb)(told.what)
    elif told.verb != "env":
        getattr(stack, told.verb)()
    if told.verb in {"up", "env"}:
        print(f"BACKEND_ENDPOINT={stack.endpoint}")
        for name, key in KEYS.items():
            print(f"# {name}\nBACKEND_ACCESS_KEY={key.access}\nBACKEND_SECRET_KEY={key.secret}")
        print(f"# image: {IMAGE[0]}/{IMAGE[1]}:{IMAGE[2]}")


if __name__ == "__main__":
    main()
