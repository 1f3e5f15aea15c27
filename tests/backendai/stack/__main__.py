"""Boots and keeps a stack by hand: up, down, wipe, start, stop, kill, env."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from backendai.stack.settings import IMAGE, KEYS, ROOT, VERSIONS, Settings, Sizes
from backendai.stack.stack import Stack


def main() -> None:
    """Run one command; what `up` was options is kept in the state directory for the others."""
    parser = argparse.ArgumentParser(prog="python -m backendai.stack", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "wipe", "start", "stop", "kill", "env"])
    parser.add_argument("what", nargs="?", help=f"up: {' or '.join(VERSIONS)}; start, stop, kill: a part")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / ".stack")
    parser.add_argument("--venv", type=Path, help="an environment that has the release already")
    parser.add_argument("--base-port", type=int, default=28000)
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args()
    kept = options.state / "stack.json"
    if options.verb == "up":
        sizes = {name: getattr(options, name) for name in asdict(Sizes())}
        place = {"series": options.what or "23.09", "base_port": options.base_port}
        options.state.mkdir(parents=True, exist_ok=True)
        paths = {
            "cache": str(options.cache.resolve()),
            "venv": str(options.venv.resolve()) if options.venv else "",
        }
        kept.write_text(json.dumps({**place, **paths, "sizes": sizes}))
    held = json.loads(kept.read_text())
    venv = Path(held["venv"]) if held["venv"] else None
    state = options.state.resolve()
    stack = Stack(
        Settings(held["series"], state, held["base_port"], Sizes(**held["sizes"]), Path(held["cache"]), venv)
    )
    if options.verb in {"start", "stop", "kill"}:
        getattr(stack, options.verb)(options.what)
    elif options.verb != "env":
        getattr(stack, options.verb)()
    if options.verb in {"up", "env"}:
        print(f"BACKEND_ENDPOINT={stack.endpoint}")
        for name, key in KEYS.items():
            print(f"# {name}\nBACKEND_ACCESS_KEY={key.access}\nBACKEND_SECRET_KEY={key.secret}")
        print(f"# image: {IMAGE[0]}/{IMAGE[1]}:{IMAGE[2]}")


if __name__ == "__main__":
    main()
