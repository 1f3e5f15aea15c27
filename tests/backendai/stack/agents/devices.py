"""Pretend compute devices: cpu, mem and any accelerator the SIM_ACCEL variable asks for.

SIM_ACCEL="cuda.device=4,rocm.device=2" advertises four NVIDIA and two AMD devices.
"""

from __future__ import annotations

import os
from decimal import Decimal

from ai.backend.agent.alloc_map import AllocationStrategy
from ai.backend.agent.resources import (
    AbstractComputeDevice,
    AbstractComputePlugin,
    DeviceSlotInfo,
    DiscretePropertyAllocMap,
    KernelResourceSpec,
)
from ai.backend.common.types import DeviceId, DeviceName, SlotName, SlotTypes


class SimDevice(AbstractComputeDevice):
    pass


class SimPlugin(AbstractComputePlugin):
    config_watch_enabled = False

    def __init__(self, slot: str, slot_type: SlotTypes, per_device: list[int]) -> None:
        super().__init__({}, {})
        self.exclusive_slot_types: set[str] = set()
        self.key = DeviceName(slot.partition(".")[0])
        self.slot = SlotName(slot)
        self.kind = slot_type
        self.slot_types = [(self.slot, slot_type)]
        self.devices = [
            SimDevice(
                DeviceId(f"{self.key}{i}"),
                hw_location="root",
                memory_size=amount if slot_type is SlotTypes.BYTES else 0,
                processing_units=amount,
                numa_node=0,
                device_name=self.key,
            )
            for i, amount in enumerate(per_device)
        ]
        self.amounts = dict(zip((d.device_id for d in self.devices), per_device, strict=False))

    async def init(self, context=None) -> None: ...
    async def cleanup(self) -> None: ...
    async def update_plugin_config(self, new_plugin_config) -> None: ...

    def get_version(self) -> str:
        return "sim"

    def get_metadata(self):
        return {
            "slot_name": str(self.slot),
            "description": f"simulated {self.slot}",
            "human_readable_name": str(self.slot),
            "display_unit": "unit",
            "number_format": {"binary": self.kind is SlotTypes.BYTES, "round_length": 0},
            "display_icon": "cpu",
        }

    async def extra_info(self):
        return {}

    async def list_devices(self):
        return self.devices

    async def available_slots(self):
        return {self.slot: Decimal(sum(self.amounts.values()))}

    async def create_alloc_map(self):
        return DiscretePropertyAllocMap(
            allocation_strategy=AllocationStrategy.FILL,
            device_slots={
                dev: DeviceSlotInfo(self.kind, self.slot, Decimal(n)) for dev, n in self.amounts.items()
            },
        )

    async def restore_from_container(self, container, alloc_map) -> None:
        held = KernelResourceSpec.read_from_string(container.backend_obj.details["resources"])
        mine = held.allocations.get(self.key)
        if mine:
            alloc_map.apply_allocation(mine)

    async def get_attached_devices(self, device_alloc):
        used = {dev for per_dev in device_alloc.values() for dev in per_dev}
        return [
            {"device_id": d.device_id, "model_name": f"sim-{self.key}", "data": {}}
            for d in self.devices
            if d.device_id in used
        ]

    async def gather_node_measures(self, ctx):
        return []

    async def gather_container_measures(self, ctx, container_ids):
        return []

    async def gather_process_measures(self, ctx, pid_map):
        return []

    async def get_hooks(self, distro, arch):
        return []

    async def generate_docker_args(self, docker, device_alloc):
        return {}

    async def get_docker_networks(self, device_alloc):
        return []

    async def generate_mounts(self, source_path, device_alloc):
        return []


def make_plugins() -> dict[DeviceName, SimPlugin]:
    cpus = int(os.environ.get("SIM_CPUS", "8"))
    mem = int(os.environ.get("SIM_MEM_GIB", "32")) * 2**30
    plugins = [SimPlugin("cpu", SlotTypes.COUNT, [1] * cpus), SimPlugin("mem", SlotTypes.BYTES, [mem])]
    for item in filter(None, os.environ.get("SIM_ACCEL", "").split(",")):
        slot, _, count = item.partition("=")
        plugins.append(SimPlugin(slot, SlotTypes.COUNT, [1] * int(count or "1")))
    return {p.key: p for p in plugins}
