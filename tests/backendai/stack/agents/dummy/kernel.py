"""A kernel that is a scratch directory plus ordinary host processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from ai.backend.agent.kernel import AbstractCodeRunner, AbstractKernel
from ai.backend.common.types import CommitStatus


async def prepare_krunner_env(local_config):
    return {}


class Job:
    """One running command: its process and the output not yet handed to the agent."""

    def __init__(self) -> None:
        self.proc: asyncio.subprocess.Process | None = None
        self.out: asyncio.Queue = asyncio.Queue()
        self.pumps: list[asyncio.Task] = []


class ProcessRunner(AbstractCodeRunner):
    """Keeps the agent's runner interface; needs none of its ZeroMQ plumbing."""

    box = None  # set by the kernel

    async def __ainit__(self) -> None:
        self.input_sock.close(0)
        self.output_sock.close(0)
        self.jobs: dict[str, Job] = {}

    async def get_repl_in_addr(self) -> str:
        return ""

    async def get_repl_out_addr(self) -> str:
        return ""

    async def ping(self):
        return {"created": 0.0}

    async def close(self) -> None:
        self._closed = True

    async def attach_output_queue(self, run_id) -> None:
        self.current_run_id = run_id or "default"
        self.jobs.setdefault(self.current_run_id, Job())

    async def feed_batch(self, opts) -> None:
        await self._spawn(["bash", "-c", opts.get("exec") or "true"])

    async def feed_code(self, text: str) -> None:
        await self._spawn(["python3", "-c", text])

    async def feed_input(self, text: str) -> None: ...

    async def feed_interrupt(self) -> None:
        self.box.signal(signal.SIGINT)

    async def _spawn(self, argv: list[str]) -> None:
        job = self.jobs[self.current_run_id]
        job.proc = await self.box.spawn(argv)

        async def pump(name, stream):
            with open(self.box.log_path, "ab", buffering=0) as log:
                while chunk := await stream.read(65536):
                    log.write(chunk)
                    await job.out.put([name, chunk.decode("utf8", "replace")])

        job.pumps = [
            asyncio.create_task(pump("stdout", job.proc.stdout)),
            asyncio.create_task(pump("stderr", job.proc.stderr)),
        ]

    async def get_next_result(self, api_ver=2, flush_timeout=2.0):
        run_id = self.current_run_id
        job = self.jobs[run_id]
        answer = {
            "runId": run_id,
            "status": "continued",
            "exitCode": None,
            "options": None,
            "files": [],
            "console": [],
        }
        with contextlib.suppress(asyncio.TimeoutError):
            answer["console"].append(await asyncio.wait_for(job.out.get(), flush_timeout))
        while not job.out.empty():
            answer["console"].append(job.out.get_nowait())
        if job.proc is None or (job.proc.returncode is not None and all(p.done() for p in job.pumps)):
            if job.out.empty():
                answer["status"] = "finished"
                answer["exitCode"] = job.proc.returncode if job.proc else 0
                self.jobs.pop(run_id, None)
        return answer


class Box:
    """What stands in for the container."""

    def __init__(self, cid: str, root: Path, spec, environ: dict[str, str]) -> None:
        self.cid, self.root, self.spec, self.environ = cid, root, spec, environ
        self.work = root / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.log_path = root / "container.log"
        self.log_path.touch()
        self.binds: list[tuple[str, str, str]] = []
        self.pgids: set[int] = set()
        self.procs: list[asyncio.subprocess.Process] = []
        self.alive = True

    async def spawn(self, argv: list[str]) -> asyncio.subprocess.Process:
        env = {"PATH": os.environ["PATH"], "HOME": "/home/work", "LANG": "C.UTF-8", **self.environ}
        if os.getuid() == 0:
            lines = ["set -e", 'mount --bind "$0" /home/work']
            for _i, (src, dst, perm) in enumerate(self.binds):
                lines.append(f"mkdir -p '{dst}' && mount --bind '{src}' '{dst}'")
                if perm == "ro":
                    lines.append(f"mount -o remount,ro,bind '{dst}'")
            lines += ["cd /home/work", 'exec "$@"']
            Path("/home/work").mkdir(parents=True, exist_ok=True)
            argv = [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-c",
                "\n".join(lines),
                str(self.work),
                *argv,
            ]
        else:  # no mount namespace: links below the working directory
            for src, dst, _ in self.binds:
                link = self.work / Path(dst).name
                if not link.exists():
                    link.symlink_to(src)
        proc = await asyncio.create_subprocess_exec(
            *argv,
            cwd=self.work,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.pgids.add(proc.pid)
        self.procs.append(proc)
        return proc

    def signal(self, signum: int) -> None:
        for proc in self.procs:
            if proc.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(proc.pid, signum)

    async def stop(self, grace: float = 2.0) -> None:
        self.signal(signal.SIGTERM)
        waits = [asyncio.create_task(p.wait()) for p in self.procs if p.returncode is None]
        if waits:
            await asyncio.wait(waits, timeout=grace)
        self.signal(signal.SIGKILL)
        self.alive = False


class ProcessKernel(AbstractKernel):
    box: Box

    def __getstate__(self):
        state = dict(super().__getstate__())
        state["runner"] = None
        state.pop("box", None)
        return state

    async def create_code_runner(self, event_producer, *, client_features, api_version):
        runner = await ProcessRunner.new(
            self.kernel_id, self.session_id, event_producer, client_features=client_features
        )
        runner.box = self.box
        return runner

    async def close(self) -> None: ...

    async def check_status(self):
        return {"created": 0.0}

    async def get_completions(self, text, opts):
        return {"status": "finished", "completions": []}

    async def get_logs(self):
        return {"logs": self.box.log_path.read_text("utf8", "replace")}

    async def interrupt_kernel(self):
        await self.runner.feed_interrupt()
        return {"status": "finished"}

    async def start_service(self, service, opts):
        return {"status": "failed", "error": "not simulated"}

    async def start_model_service(self, model_service):
        return {"status": "failed", "error": "not simulated"}

    async def shutdown_service(self, service): ...

    async def check_duplicate_commit(self, kernel_id, subdir):
        return CommitStatus.READY

    async def commit(self, kernel_id, subdir, filename): ...

    async def get_service_apps(self):
        return {"status": "done", "data": []}

    def _inside(self, path: str) -> Path:
        target = (self.box.work / path.removeprefix("/home/work/")).resolve()
        if not target.is_relative_to(self.box.work.resolve()):
            raise PermissionError(path)
        return target

    async def accept_file(self, filename, filedata):
        target = self._inside(filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(filedata)

    async def download_file(self, filepath):
        raise NotImplementedError

    async def download_single(self, filepath):
        return self._inside(filepath).read_bytes()

    async def list_files(self, path: str):
        import json

        entries = [{"filename": p.name, "size": p.stat().st_size} for p in self._inside(path).iterdir()]
        return {"files": json.dumps(entries), "errors": "", "abspath": str(path)}

    async def notify_event(self, evdata): ...
