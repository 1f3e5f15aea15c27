"""Runs the stock 26.x agent in its "dummy" mode, with batch commands executed for real.

The stock dummy agent spins for ever on batch sessions (its execute() never finishes and never
yields), so a handful of its methods are replaced here, in memory only.
"""

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

from ai.backend.agent.agent import AbstractAgent
from ai.backend.agent.dummy import agent as dummy_agent
from ai.backend.agent.dummy import kernel as dummy_kernel

SCRATCH = Path(os.environ["SIM_SCRATCH"])
procs: dict[str, asyncio.subprocess.Process] = {}


def log_of(kernel_id) -> Path:
    return SCRATCH / f"{kernel_id}.log"


async def attach_output_queue(self, run_id):
    self.current_run_id = run_id


async def feed_batch(self, opts):
    kernel = self.sim_kernel
    env = {"PATH": os.environ["PATH"], "HOME": str(SCRATCH), **{k: str(v) for k, v in kernel.environ.items()}}
    with open(log_of(kernel.kernel_id), "ab") as out:
        procs[str(kernel.kernel_id)] = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            opts.get("exec") or "true",
            env=env,
            cwd=SCRATCH,
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


async def get_next_result(self, api_ver=2, flush_timeout=2.0):
    proc = procs.get(str(self.sim_kernel.kernel_id))
    answer = {"runId": self.current_run_id, "status": "finished", "exitCode": 0, "options": None, "console": []}
    if proc is not None:
        try:
            answer["exitCode"] = await asyncio.wait_for(proc.wait(), flush_timeout)
        except TimeoutError:
            answer |= {"status": "continued", "exitCode": None}
    return answer


make_runner = dummy_kernel.DummyKernel.create_code_runner


async def create_code_runner(self, *args, **kwargs):
    runner = await make_runner(self, *args, **kwargs)
    runner.sim_kernel = self
    return runner


async def get_logs(self):
    path = log_of(self.kernel_id)
    return {"logs": path.read_text("utf8", "replace") if path.exists() else ""}


async def destroy_kernel(self, kernel_id, container_id):
    proc = procs.pop(str(kernel_id), None)
    if proc is not None and proc.returncode is None:
        os.killpg(proc.pid, signal.SIGKILL)


async def clean_kernel(self, kernel_id, container_id, restarting):
    await destroy_kernel(self, kernel_id, container_id)
    path = log_of(kernel_id)

    async def chunks():
        if path.exists():
            yield path.read_bytes()

    if container_id:
        await self.collect_logs(kernel_id, container_id, chunks())


start_stock = dummy_agent.DummyKernelCreationContext.start_container


async def start_container(self, *args, **kwargs):
    data = dict(await start_stock(self, *args, **kwargs))
    data["container_id"] = "sim" + secrets.token_hex(14)  # without one, no logs are collected
    return data


def strip_runner(self):
    state = dict(super(dummy_kernel.DummyKernel, self).__getstate__())
    state["runner"] = None
    return state


runner = dummy_kernel.DummyFakeCodeRunner
runner.attach_output_queue, runner.feed_batch, runner.get_next_result = (
    attach_output_queue,
    feed_batch,
    get_next_result,
)
dummy_kernel.DummyKernel.create_code_runner = create_code_runner
dummy_agent.DummyKernelCreationContext.start_container = start_container
dummy_kernel.DummyKernel.get_logs = get_logs
dummy_kernel.DummyKernel.__getstate__ = strip_runner
if "execute" in vars(dummy_agent.DummyAgent):
    dummy_agent.DummyAgent.execute = AbstractAgent.execute
if "get_logs" in vars(dummy_agent.DummyAgent):
    dummy_agent.DummyAgent.get_logs = AbstractAgent.get_logs
dummy_agent.DummyAgent.destroy_kernel = destroy_kernel
dummy_agent.DummyAgent.clean_kernel = clean_kernel

from ai.backend.agent.server import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
