"""The life cycle of 23.09's agent around sandboxes in the place of containers.

It also looks every 2 s for those that have ended by themselves; the published agent, every 10.
"""

from __future__ import annotations

import secrets
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import aiotools
import serving
from ai.backend.agent.agent import ACTIVE_STATUS_SET, AbstractAgent, AbstractKernelCreationContext
from ai.backend.agent.exception import UnsupportedResource
from ai.backend.agent.resources import KernelResourceSpec, Mount, known_slot_types
from ai.backend.agent.types import Container, ContainerStatus
from ai.backend.common.types import KernelId, ResourceSlot, current_resource_slots
from devices import make_plugins
from sandbox import Sandbox, chunks, faults_after, faults_before

from .kernel import SandboxKernel, folder_of

LOOK = 2.0
"""Seconds."""


class SandboxContext(AbstractKernelCreationContext):
    async def get_extra_envs(self):
        return {}

    async def prepare_resource_spec(self):
        slots = ResourceSlot.from_json(self.kernel_config["resource_slots"])
        for name, amount in slots.items():
            if name not in known_slot_types and amount != Decimal(0):
                raise UnsupportedResource(name)
        current_resource_slots.set(known_slot_types)
        slots = slots.normalize_slots(ignore_unknown=True)
        spec = KernelResourceSpec(
            container_id="", allocations={}, slots={**slots}, mounts=[], scratch_disk_size=0
        )
        return spec, self.kernel_config.get("resource_opts", {})

    async def prepare_scratch(self): ...

    async def get_intrinsic_mounts(self):
        return []

    async def apply_network(self, cluster_info): ...

    async def prepare_ssh(self, cluster_info): ...

    async def mount_krunner(self, resource_spec, environ): ...

    async def process_mounts(self, mounts):
        self.binds = [(str(m.source), str(m.target), m.permission.value) for m in mounts]

    async def apply_accelerator_allocation(self, computer, device_alloc): ...

    async def generate_accelerator_mounts(self, computer, device_alloc):
        return []

    def resolve_krunner_filepath(self, filename):
        return Path(filename)

    def get_runner_mount(self, type, src, target, perm="ro", opts=None):
        return Mount(type, Path(src), Path(target), perm, opts)

    async def spawn(self, resource_spec, environ, service_ports):
        return await SandboxKernel.new(
            self.kernel_id,
            self.session_id,
            self.agent_id,
            self.image_ref,
            self.kspec_version,
            agent_config=self.local_config,
            resource_spec=resource_spec,
            service_ports=service_ports,
            environ=dict(environ),
            data={},
        )

    async def start_container(self, kernel_obj, cmdargs, resource_opts, preopen_ports):
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
        sandbox = Sandbox.create(folder_of(self.local_config, self.kernel_id), details)
        faults_after(environ, sandbox)
        return {
            "container_id": sandbox.id,
            "kernel_host": "127.0.0.1",
            "repl_in_port": 0,
            "repl_out_port": 0,
            "stdin_port": 0,
            "stdout_port": 0,
            "host_ports": [],
            "domain_socket_proxies": [],
            "block_service_ports": False,
        }


class SandboxAgent(AbstractAgent):
    async def __ainit__(self):
        await super().__ainit__()
        self.timer_tasks.append(aiotools.create_timer(self.sync_container_lifecycles, LOOK))

    async def load_resources(self):
        return make_plugins()

    async def scan_available_resources(self):
        slots = {}
        for context in self.computers.values():
            known_slot_types.update(context.instance.slot_types)
            slots.update(await context.instance.available_slots())
        return slots

    async def enumerate_containers(self, status_filter=ACTIVE_STATUS_SET):
        found = []
        for sandbox in Sandbox.all(Path(self.local_config["container"]["scratch-root"])):
            status = ContainerStatus.RUNNING if sandbox.running else ContainerStatus.EXITED
            if status in status_filter:
                labels = {"ai.backend.session-id": sandbox.details["session"]}
                kernel = KernelId(UUID(sandbox.details["kernel"]))
                found.append((kernel, Container(sandbox.id, status, "", labels, [], sandbox)))
        return found

    async def scan_images(self):
        return {}

    async def pull_image(self, image_ref, registry_conf): ...

    async def check_image(self, image_ref, image_id, auto_pull):
        return False  # never pull

    async def init_kernel_context(
        self, kernel_id, session_id, kernel_config, *, restarting=False, cluster_ssh_port_mapping=None
    ):
        return SandboxContext(
            kernel_id,
            session_id,
            self.id,
            self.event_producer,
            kernel_config,
            self.local_config,
            self.computers,
            restarting=restarting,
        )

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
            return Sandbox(folder_of(self.local_config, kernel_id))
        except FileNotFoundError:
            return None

    async def create_local_network(self, network_name): ...

    async def destroy_local_network(self, network_name): ...

    async def restart_kernel__load_config(self, kernel_id, name):
        return (folder_of(self.local_config, kernel_id) / name).read_bytes()

    async def restart_kernel__store_config(self, kernel_id, name, data):
        path = folder_of(self.local_config, kernel_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
