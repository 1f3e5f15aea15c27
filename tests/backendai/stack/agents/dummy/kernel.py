"""A kernel that is a sandbox: what the agent asks of it, without the ZeroMQ in between."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import serving
from ai.backend.agent.kernel import AbstractCodeRunner, AbstractKernel
from ai.backend.common.events import ModelServiceStatusEvent
from ai.backend.common.types import CommitStatus, ModelServiceStatus
from sandbox import Sandbox


async def prepare_krunner_env(local_config):
    return {}


def folder_of(local_config, kernel_id) -> Path:
    return Path(local_config["container"]["scratch-root"]) / str(kernel_id)


class SandboxRunner(AbstractCodeRunner):
    """Runs one command at a time, and reads what it has written since the last look."""

    folder: Path  # set by the kernel
    read = 0

    async def __ainit__(self) -> None:
        self.input_sock.close(0)
        self.output_sock.close(0)

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

    async def feed_batch(self, opts) -> None:
        await Sandbox(self.folder).run(["bash", "-c", opts.get("exec") or "true"])

    async def feed_code(self, text: str) -> None:
        await Sandbox(self.folder).run(["python3", "-c", text])

    async def feed_input(self, text: str) -> None: ...

    async def feed_interrupt(self) -> None:
        Sandbox(self.folder).signal(signal.SIGINT)

    async def get_next_result(self, api_ver=2, flush_timeout=2.0):
        code, console = None, []
        try:
            sandbox = Sandbox(self.folder)
        except FileNotFoundError:  # vanished: a container that is no more says nothing
            await asyncio.sleep(flush_timeout)
        else:
            code = await sandbox.wait(flush_timeout)
            with sandbox.log.open("rb") as log:
                log.seek(self.read)
                if new := log.read():
                    self.read += len(new)
                    console.append(["stdout", new.decode("utf8", "replace")])
        return {
            "runId": self.current_run_id,
            "status": "continued" if code is None else "finished",
            "exitCode": code,
            "options": None,
            "files": [],
            "console": console,
        }


class SandboxKernel(AbstractKernel):
    watch = None

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "watch"}

    @property
    def folder(self) -> Path:
        return folder_of(self.agent_config, self.kernel_id)

    async def create_code_runner(self, event_producer, *, client_features, api_version):
        runner = await SandboxRunner.new(
            self.kernel_id, self.session_id, event_producer, client_features=client_features
        )
        runner.folder = self.folder
        return runner

    async def close(self) -> None: ...

    async def check_status(self):
        return {"created": 0.0}

    async def get_completions(self, text, opts):
        return {"status": "finished", "completions": []}

    async def get_logs(self):
        return {"logs": Sandbox(self.folder).log.read_text("utf8", "replace")}

    async def interrupt_kernel(self):
        await self.runner.feed_interrupt()
        return {"status": "finished"}

    async def start_service(self, service, opts):
        return {"status": "failed", "error": "not simulated"}

    async def start_model_service(self, model_service):
        try:
            url = await serving.start(Sandbox(self.folder), model_service)
        except (KeyError, OSError) as error:
            return {"status": "failed", "error": repr(error)}
        self.watch = asyncio.create_task(self._watch(model_service, url))
        return {"status": "started"}

    async def _watch(self, model_service, url):
        health = model_service["service"].get("health_check") or {}
        tries, seconds = health.get("max_retries") or 10, health.get("max_wait_time") or 1
        well = not url or await serving.healthy(url, tries, seconds)
        status = ModelServiceStatus.HEALTHY if well else ModelServiceStatus.UNHEALTHY
        event = ModelServiceStatusEvent(self.kernel_id, self.session_id, model_service["name"], status)
        await self.runner.event_producer.produce_event(event)

    async def shutdown_service(self, service): ...

    async def check_duplicate_commit(self, kernel_id, subdir):
        return CommitStatus.READY

    async def commit(self, kernel_id, subdir, filename): ...

    async def get_service_apps(self):
        return {"status": "done", "data": []}

    def _inside(self, path: str) -> Path:
        work = Sandbox(self.folder).work.resolve()
        target = (work / path.removeprefix("/home/work/")).resolve()
        if not target.is_relative_to(work):
            raise PermissionError(path)
        return target

    async def accept_file(self, filename, filedata):
        target = self._inside(filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(filedata)

    async def download_file(self, filepath):
        raise NotImplementedError("archives of several files: a sandbox hands out single files only")

    async def download_single(self, filepath):
        return self._inside(filepath).read_bytes()

    async def list_files(self, path: str):
        entries = [{"filename": p.name, "size": p.stat().st_size} for p in self._inside(path).iterdir()]
        return {"files": json.dumps(entries), "errors": "", "abspath": str(path)}

    async def notify_event(self, evdata): ...
