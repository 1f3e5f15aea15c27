"""The workloads: a chain, a fan, many jobs, a cold start, latency, and graphs of real workflows."""

from __future__ import annotations

import asyncio
import gzip
import heapq
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.server import Trackbook, size

COMMAND = "/bin/true"


def chain(name: str, length: int, command: str = COMMAND) -> dict[str, Any]:
    """Return a pipeline of tasks in sequence."""
    tasks = [
        {"name": f"t{n}", "command": command, "dependencies": [f"t{n - 1}"] if n else []} for n in range(length)
    ]
    return {"name": name, "tasks": tasks}


def fan(name: str, width: int) -> dict[str, Any]:
    """Return a pipeline 1 -> width -> 1."""
    middle = [f"m{n}" for n in range(width)]
    tasks = [{"name": "first", "command": COMMAND, "dependencies": []}]
    tasks += [{"name": task, "command": COMMAND, "dependencies": ["first"]} for task in middle]
    return {"name": name, "tasks": [*tasks, {"name": "last", "command": COMMAND, "dependencies": middle}]}


async def w1(server: Trackbook, runs: int = 5) -> dict[str, Any]:
    """Chain of 100: the median time from a task's end to the start of its successor, in ms."""
    await server.ask("pipeline.apply", definition=chain("w1", 100))
    gaps = [statistics.median(_gaps(server.events(await server.run("w1")))) for _ in range(runs)]
    return {"gap_ms": round(statistics.median(gaps), 3), "runs": [round(gap, 3) for gap in gaps]}


def _gaps(events: list[dict[str, Any]]) -> list[float]:
    starts = {e["task"]: datetime.fromisoformat(e["at"]) for e in events if e["type"] == "TaskStarted"}
    ends = {e["task"]: datetime.fromisoformat(e["at"]) for e in events if e["type"] == "AttemptSucceeded"}
    return [(starts[f"t{n + 1}"] - ends[f"t{n}"]).total_seconds() * 1e3 for n in range(len(starts) - 1)]


async def w2(server: Trackbook, runs: int = 3, width: int = 1000) -> dict[str, Any]:
    """Fan of 1,000: seconds from submit to finished as the client sees it, and what it left on disk."""
    await server.ask("pipeline.apply", definition=fan("w2", width))
    before, totals = server.stored(), []
    for _ in range(runs):
        began = time.perf_counter()
        await server.run("w2")
        totals.append(time.perf_counter() - began)
    tasks = runs * (width + 2)
    after = server.stored()
    return {
        "total_s": round(statistics.median(totals), 3),
        "runs": [round(total, 3) for total in totals],
        "bytes_per_task": {name: (after[name] - before[name]) // tasks for name in after},
    }


async def w3(server: Trackbook, runs: int = 3, jobs: int = 200) -> dict[str, Any]:
    """200 jobs of a chain of three, submitted at once: jobs a second."""
    await server.ask("pipeline.apply", definition=chain("w3", 3))
    rates = []
    for _ in range(runs):
        began = time.perf_counter()
        await asyncio.gather(*(server.run("w3") for _ in range(jobs)))
        rates.append(jobs / (time.perf_counter() - began))
    return {"jobs_s": round(statistics.median(rates), 1), "runs": [round(rate, 1) for rate in rates]}


def w4(runs: int = 3) -> dict[str, Any]:
    """Cold start: one command on an empty directory runs one task and exits; seconds."""
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.yaml"
        file.write_text(f"name: one\ntasks:\n- {{name: a, command: {COMMAND}}}\n")
        for n in range(runs):
            command = [sys.executable, "-m", "trackbook", "run", str(file), "--data", f"{folder}/{n}"]
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            totals.append(time.perf_counter() - began)
    return {"total_s": round(statistics.median(totals), 3), "runs": [round(total, 3) for total in totals]}


async def w5(server: Trackbook, runs: int = 3, jobs: int = 50) -> dict[str, Any]:
    """One task, 50 jobs in sequence on a warm server: submit to finished as the client sees it, ms."""
    await server.ask("pipeline.apply", definition=chain("w5", 1))
    p50, p99 = [], []
    for _ in range(runs):
        times = []
        for _ in range(jobs):
            began = time.perf_counter()
            await server.run("w5")
            times.append(1e3 * (time.perf_counter() - began))
        p50.append(statistics.median(times))
        p99.append(sorted(times)[round(0.99 * (jobs - 1))])
    return {"p50_ms": round(statistics.median(p50), 2), "p99_ms": round(statistics.median(p99), 2)}


async def apply(server: Trackbook, tasks: int = 10_000) -> dict[str, Any]:
    """Apply a pipeline of 10,000 tasks as YAML over NATS: seconds from request to reply."""
    lines = [
        f"- {{name: t{n}, command: echo {n}, dependencies: [{f't{n - 1}' if n % 100 else ''}]}}"
        for n in range(tasks)
    ]
    began = time.perf_counter()
    await server.ask("pipeline.apply", yaml="\n".join(["name: large", "tasks:", *lines]))
    return {"tasks": tasks, "total_s": round(time.perf_counter() - began, 3)}


# Graphs of real workflows -----------------------------------------------------------------------------------


def real_graph(path: Path, seconds: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Return a WfCommons instance as a pipeline of sleeps, its run times scaled to `seconds` in all."""
    workflow = json.loads(gzip.decompress(path.read_bytes()))["workflow"]
    times = {task["id"]: float(task["runtimeInSeconds"]) for task in workflow["execution"]["tasks"]}
    scale = seconds / sum(times.values())
    naps = {task: round(time * scale, 3) for task, time in times.items()}
    tasks = [
        {"name": task["id"], "command": f"sleep {naps[task['id']]}", "dependencies": task["parents"]}
        for task in workflow["specification"]["tasks"]
    ]
    return {"name": path.name.split(".")[0], "tasks": tasks}, naps


async def graph(server: Trackbook, path: Path, slots: int, spawn: float, seconds: float = 20.0) -> dict[str, Any]:
    """Run a real graph: its makespan beside an ideal list schedule of the same naps on the same slots."""
    pipeline, naps = real_graph(path, seconds)
    await server.ask("pipeline.apply", definition=pipeline)
    began = time.perf_counter()
    await server.run(pipeline["name"])
    makespan = time.perf_counter() - began
    ideal = list_schedule(pipeline["tasks"], {task: nap + spawn for task, nap in naps.items()}, slots)
    return {"tasks": len(naps), "makespan_s": round(makespan, 3), "ideal_s": round(ideal, 3), "ratio": round(makespan / ideal, 3)}  # fmt: skip  # noqa: E501


def list_schedule(tasks: list[dict[str, Any]], lasts: dict[str, float], slots: int) -> float:
    """Return the makespan when each task starts as soon as it is ready and a slot is free, first ready first."""
    waiting = {task["name"]: len(task["dependencies"]) for task in tasks}
    after: dict[str, list[str]] = {}
    for task in tasks:
        for dependency in task["dependencies"]:
            after.setdefault(dependency, []).append(task["name"])
    ready = [name for name, count in waiting.items() if not count]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            name = ready.pop(0)
            heapq.heappush(running, (now + lasts[name], name))
        now, ended = heapq.heappop(running)
        for name in after.get(ended, ()):
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
    return now


__all__ = ["apply", "graph", "size", "w1", "w2", "w3", "w4", "w5"]
