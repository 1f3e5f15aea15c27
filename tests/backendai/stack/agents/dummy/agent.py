"""ProcessAgent: the stock agent's life cycle around host processes instead of containers.

Session environment variables that ask for faults (only for tests):
  SIM_START_DELAY=<s>   sleep before the kernel counts as started
  SIM_START_FAIL=1      refuse to create the kernel
  SIM_VANISH_AFTER=<s>  let the "container" disappear without any notice
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from decimal import Decimal
from pathlib import Path

from ai.backend.agent.agent import ACTIVE_STATUS_SET, AbstractAgent, AbstractKernelCreationContext
from ai.backend.agent.exception import UnsupportedResource
from ai.backend.agent.resources import KernelResourceSpec, Mount, known_slot_types
from ai.backend.agent.types import Container, ContainerStatus
from ai.backend.common.types import ResourceSlot, current_resource_slots

from .devices import make_plugins
from .kernel import Box, ProcessKernel


class ProcessContext(AbstractKernelCreationContext):
    agent: ProcessAgent

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
        kernel = await ProcessKernel.new(
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
        cid = "sim" + secrets.token_hex(14)
        root = Path(self.local_config["container"]["scratch-root"]) / str(self.kernel_id)
        kernel.box = Box(cid, root, resource_spec, {k: str(v) for k, v in environ.items()})
        kernel.box.binds = self.binds
        return kernel

    async def start_container(self, kernel_obj, cmdargs, resource_opts, preopen_ports):
        env, box = kernel_obj.environ, kernel_obj.box
        await asyncio.sleep(float(env.get("SIM_START_DELAY", "0")))
        if env.get("SIM_START_FAIL"):
            raise RuntimeError("simulated failure to create the container")
        box.session_id = self.session_id
        self.agent.boxes[self.kernel_id] = box
        if "SIM_VANISH_AFTER" in env:
            asyncio.get_running_loop().call_later(
                float(env["SIM_VANISH_AFTER"]), self.agent.vanish, self.kernel_id
            )
        return {
            "container_id": box.cid,
            "kernel_host": "127.0.0.1",
            "repl_in_port": 0,
            "repl_out_port": 0,
            "stdin_port": 0,
            "stdout_port": 0,
            "host_ports": [],
            "domain_socket_proxies": [],
            "block_service_ports": False,
        }


class ProcessAgent(AbstractAgent):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.boxes: dict = {}

    def vanish(self, kernel_id) -> None:
        if box := self.boxes.pop(kernel_id, None):
            box.signal(9)

    async def load_resources(self):
        return make_plugins()

    async def scan_available_resources(self):
        slots = {}
        for ctx in self.computers.values():
            known_slot_types.update(ctx.instance.slot_types)
            slots.update(await ctx.instance.available_slots())
        return slots

    async def enumerate_containers(self, status_filter=ACTIVE_STATUS_SET):
        found = []
        for kernel_id, box in self.boxes.items():
            status = ContainerStatus.RUNNING if box.alive else ContainerStatus.EXITED
            if status in status_filter:
                labels = {"ai.backend.session-id": str(box.session_id)}
                found.append((kernel_id, Container(box.cid, status, "", labels, [], box)))
        return found

    async def scan_images(self):
        return {}

    async def pull_image(self, image_ref, registry_conf): ...

    async def check_image(self, image_ref, image_id, auto_pull):
        return False  # never pull

    async def init_kernel_context(
        self, kernel_id, session_id, kernel_config, *, restarting=False, cluster_ssh_port_mapping=None
    ):
        ctx = ProcessContext(
            kernel_id,
            session_id,
            self.id,
            self.event_producer,
            kernel_config,
            self.local_config,
            self.computers,
            restarting=restarting,
        )
        ctx.agent = self
        return ctx

    async def destroy_kernel(self, kernel_id, container_id):
        if box := self.boxes.get(kernel_id):
            await box.stop()

    async def clean_kernel(self, kernel_id, container_id, restarting):
        box = self.boxes.pop(kernel_id, None)
        if box is None:
            kernel = self.kernel_registry.get(kernel_id)
            box = getattr(kernel, "box", None)
        if box is None:
            return
        await box.stop(0.1)

        async def chunks():
            with open(box.log_path, "rb") as f:
                while data := f.read(65536):
                    yield data

        await self.collect_logs(kernel_id, box.cid, chunks())
        if not restarting:
            shutil.rmtree(box.root, ignore_errors=True)

    async def create_local_network(self, network_name): ...

    async def destroy_local_network(self, network_name): ...

    def _cfg(self, kernel_id, name) -> Path:
        path = Path(self.local_config["container"]["scratch-root"]) / str(kernel_id) / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    async def restart_kernel__load_config(self, kernel_id, name):
        return self._cfg(kernel_id, name).read_bytes()

    async def restart_kernel__store_config(self, kernel_id, name, data):
        self._cfg(kernel_id, name).write_bytes(data)
