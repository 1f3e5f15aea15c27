"""`python -m bench [WORKLOAD…] [--peers DIR]`: run the workloads, print a table and its raw rows."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import floors, folding, workloads
from bench.server import trackbook

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
PEERS = ("restate", "dbos", "temporal")
ALL = ("W1", "W2", "W3", "W4", "W5", "graphs", "apply", "fold")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("which", nargs="*", help=f"of {' '.join(ALL)}; all by default")
    parser.add_argument("--peers", type=Path, help="a folder that the peers' harness was set up in")
    parser.add_argument("--harness", type=Path, default=SHARED / "peers" / "peers.sh")
    parser.add_argument("--graphs", type=Path, default=SHARED / "data" / "wfinstances")
    parser.add_argument("--durability", default="always")
    parser.add_argument("--write", type=Path, help="write the rows there as JSON lines as well")
    options = parser.parse_args()
    which = tuple(options.which) or ALL
    if unknown := set(which) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    rows = asyncio.run(_ours(which, options))
    if options.peers:
        rows += _peers(which, options)
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    if options.write:
        options.write.write_text(text)
    _table(rows)


def _row(workload: str, engine: str, **figures: Any) -> dict[str, Any]:
    row = {"w": workload, "engine": engine, "load": os.getloadavg()[0], **figures}
    print(json.dumps(row), flush=True)
    return row


async def _ours(which: tuple[str, ...], options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = [_row("machine", platform.platform(), cores=os.cpu_count(), python=platform.python_version())]
    rows[0]["at"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    with tempfile.TemporaryDirectory(prefix="trackbook-bench-") as folder:
        async with trackbook(Path(folder) / "data", "--durability", options.durability) as server:
            rows.append(_row("memory", "trackbook", when="warm, before", **server.memory()))
            floor = await floors.publish(server)
            rows.append(_row("floor", "acknowledged publish", durability=options.durability, **floor))
            if "W1" in which:
                rows.append(_row("W1", "trackbook", **await workloads.w1(server)))
                again = await floors.publish(server)
                mean = (floor["p50_ms"] + again["p50_ms"]) / 2
                rows[-1]["gap_per_publish"] = round(rows[-1]["gap_ms"] / mean, 2)
            if "W2" in which:
                rows.append(_row("W2", "trackbook", **await workloads.w2(server)))
                rows += await _launch_floors(rows[-1])
            if "W3" in which:
                rows.append(_row("W3", "trackbook", **await workloads.w3(server)))
            if "W5" in which:
                rows.append(_row("W5", "trackbook", **await workloads.w5(server)))
            rows.append(_row("memory", "trackbook", when="after W1 to W3, W5", **server.memory()))
            if "apply" in which:
                rows.append(_row("apply", "trackbook", **await workloads.apply(server)))
            if "graphs" in which and options.graphs.is_dir():
                rows += await _graphs(server, options.graphs)
    if "W4" in which:
        rows.append(_row("W4", "trackbook", **workloads.w4()))
    if "fold" in which:
        rows.append(_row("fold", "trackbook", **folding.fold()))
    return rows


async def _launch_floors(w2: dict[str, Any]) -> list[dict[str, Any]]:
    ours, bare = floors.launcher(), floors.xargs()
    w2["per_launcher_floor"] = round(w2["total_s"] / ours, 2)
    return [
        _row("floor", "1,000 by our launcher, 2 at a time", total_s=ours),
        _row("floor", "1,000 by xargs -P2 bash -c", total_s=bare),
        _row("floor", "bash -c by asyncio", each_ms=await floors.spawn()),
    ]


async def _graphs(server: Any, folder: Path) -> list[dict[str, Any]]:
    slots = 2 * (os.cpu_count() or 1)
    spawn = floors.launcher(200) / 200 * 2  # two at a time
    paths = sorted(folder.glob("*.json.gz"))  # noqa: ASYNC240 - nothing else waits
    return [_row("graph", path.name, **await workloads.graph(server, path, slots, spawn)) for path in paths]


def _peers(which: tuple[str, ...], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the peers' own harness in the same minutes."""
    rows: list[dict[str, Any]] = []
    warm = [name for name in which if name in ("W1", "W2", "W3", "W5")]
    for peer in PEERS:
        calls = [["run", str(options.peers), peer, *warm]] if warm else []
        calls += [["cold", str(options.peers), peer]] if "W4" in which else []
        for call in calls:
            command = ["bash", str(options.harness), *call]
            shown = subprocess.run(command, check=False, capture_output=True, text=True)
            rows += [_row(f.pop("w"), f.pop("peer"), **f) for f in map(_json, shown.stdout.splitlines()) if f]
            if shown.returncode:
                print(f"{peer}: {shown.stderr[-500:]}", file=sys.stderr)
    return rows


def _json(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "w" in found else {}


def _table(rows: list[dict[str, Any]]) -> None:
    hidden = {"w", "engine", "load", "runs", "at", "python", "cmd"}
    print("\n| workload | engine | figures |\n|---|---|---|")
    for row in rows:
        figures = ", ".join(f"{name} {value}" for name, value in row.items() if name not in hidden)
        print(f"| {row['w']} | {row['engine']} | {figures} |")


if __name__ == "__main__":
    main()
