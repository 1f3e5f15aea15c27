"""Starts the published agent of 26.x in its "dummy" mode, its sessions in sandboxes.

The published dummy starts nothing, mounts nothing, never ends a batch session and forgets all at a restart; its
methods that stand for a container engine are replaced here, in memory.
"""

import asyncio
import secrets
import sys
from pathlib import Path
from uuid import UUID

import serving
from ai.backend.agent.agent import ACTIVE_STATUS_SET, AbstractAgent
from ai.backend.agent.dummy import DummyAgentDiscovery
from ai.backend.agent.dummy import agent as published
from ai.backend.agent.dummy.kernel import DummyFakeCodeRunner, DummyKernel
from ai.backend.agent.kernel_registry.exception import KernelRegistryNotFound
from ai.backend.agent.kernel_registry.loader.pickle import PickleBasedKernelRegistryLoader
from ai.backend.agent.kernel_registry.writer.pickle import PickleBasedKernelRegistryWriter
from ai.backend.agent.resources import known_slot_types
from ai.backend.agent.types import Container, ContainerStatus
from ai.backend.common.docker import LabelName
from ai.backend.common.types import ContainerId, KernelId
from devices import make_plugins
from sandbox import Sandbox, chunks, faults_after, faults_before


def folder_of(scratch_root, kernel_id) -> Path:
    return Path(scratch_root) / str(kernel_id)


class Context(published.DummyKernelCreationContext):
    async def process_mounts(self, mounts):
        self.binds = [(str(m.source), str(m.target), m.permission.value) for m in mounts]

    async def start_container(self, kernel_obj, cmdargs, resource_opts, preopen_ports, cluster_info):
        environ = {name: str(value) for name, value in kernel_obj.environ.items()}
        await faults_before(environ)
        details = {
            "id": "sim" + secrets.token_hex(14),
            "kernel": str(self.kernel_id),
            "session": str(self.session_id),
            "environ": environ,
            "binds": self.binds,
            "resources": kernel_obj.resource_spec.write_to_string(),
            "ports": serving.publish(kernel_obj.service_ports),
        }
        sandbox = Sandbox.create(folder_of(self.local_config.container.scratch_root, self.kernel_id), details)
        faults_after(environ, sandbox)
        data = await super().start_container(kernel_obj, cmdargs, resource_opts, preopen_ports, cluster_info)
        return {**data, "container_id": sandbox.id, "host_ports": []}


class Runner(DummyFakeCodeRunner):
    folder: Path  # set by the kernel

    def __getstate__(self):
        return {}

    async def attach_output_queue(self, run_id):
        self.current_run_id = run_id

    async def feed_batch(self, opts):
        await Sandbox(self.folder).run(["bash", "-c", opts.get("exec") or "true"])

    async def get_next_result(self, api_ver=2, flush_timeout=2.0):
        code = None
        try:
            sandbox = Sandbox(self.folder)
        except FileNotFoundError:  # vanished: a container that is no more says nothing
            await asyncio.sleep(flush_timeout)
        else:
            code = await sandbox.wait(flush_timeout)
        status = "continued" if code is None else "finished"
        return {"runId": self.current_run_id, "status": status, "exitCode": code, "options": None, "console": []}


class Kernel(DummyKernel):
    @property
    def folder(self) -> Path:
        return folder_of(self.agent_config["container"]["scratch-root"], self.kernel_id)

    def __getstate__(self):
        return {**super().__getstate__(), "runner": None}

    async def create_code_runner(self, event_producer, *, client_features, api_version):
        runner = await Runner.new(
            self.kernel_id,
            self.session_id,
            event_producer,
            kernel_host="127.0.0.1",
            repl_in_port=0,
            repl_out_port=0,
            client_features=client_features,
        )
        runner.folder = self.folder
        return runner

    async def get_logs(self):
        return {"logs": Sandbox(self.folder).log.read_text("utf8", "replace")}

    async def start_model_service(self, model_service):
        try:
            await serving.start(Sandbox(self.folder), model_service)
        except (KeyError, OSError) as error:
            return {"status": "failed", "error": repr(error)}
        return {"status": "started"}


class Agent(published.DummyAgent):
    execute = AbstractAgent.execute
    sync_container_lifecycles = AbstractAgent.sync_container_lifecycles
    get_public_service_ports = AbstractAgent.get_public_service_ports

    def _registry(self):
        agent = self.local_config.agent
        name = f"last_registry.{self.local_instance_id}.dat"
        return Path(agent.var_base_path) / name, Path(agent.ipc_base_path) / name

    async def _load_kernel_registry_from_recovery(self):
        self._registry_writer = PickleBasedKernelRegistryWriter(self._registry()[0])
        try:
            return await PickleBasedKernelRegistryLoader(*self._registry()).load_kernel_registry()
        except KernelRegistryNotFound:
            return {}

    async def _write_kernel_registry_to_recovery(self, kernel_registry, metadata):
        await self._registry_writer.save_kernel_registry(kernel_registry, metadata)

    async def enumerate_containers(self, status_filter=ACTIVE_STATUS_SET):
        found = []
        for sandbox in Sandbox.all(Path(self.local_config.container.scratch_root)):
            status = ContainerStatus.RUNNING if sandbox.running else ContainerStatus.EXITED
            if status in status_filter:
                labels = {
                    LabelName.SESSION_ID: sandbox.details["session"],
                    LabelName.KERNEL_ID: sandbox.details["kernel"],
                    LabelName.AGENT_ID: str(self.id),
                }
                container = Container(ContainerId(sandbox.id), status, "", labels, [], sandbox)
                found.append((KernelId(UUID(sandbox.details["kernel"])), container))
        return found

    async def destroy_kernel(self, kernel_id, container_id):
        if sandbox := self._sandbox(kernel_id):
            await sandbox.stop()

    async def clean_kernel(self, kernel_id, container_id, restarting):
        if sandbox := self._sandbox(kernel_id):
            sandbox.kill()
            await self.collect_logs(kernel_id, sandbox.id, chunks(sandbox.log))
            if not restarting:
                sandbox.remove()

    def _sandbox(self, kernel_id):
        try:
            return Sandbox(folder_of(self.local_config.container.scratch_root, kernel_id))
        except FileNotFoundError:
            return None


async def load_resources(self, etcd, local_config):
    return make_plugins()


async def scan_available_resources(self, compute_device_types):
    slots = {}
    for plugin in compute_device_types.values():
        known_slot_types.update(plugin.slot_types)
        slots.update(await plugin.available_slots())
    return slots


published.DummyKernelCreationContext = Context
published.DummyKernel = Kernel
DummyAgentDiscovery.get_agent_cls = lambda _: Agent
DummyAgentDiscovery.load_resources = load_resources
DummyAgentDiscovery.scan_available_resources = scan_available_resources

from ai.backend.agent.server import main  # noqa: E402 - what it starts is replaced first

if __name__ == "__main__":
    sys.exit(main())
