"""What the database holds before the first request: accounts, policies, a scaling group, images."""

from __future__ import annotations

import json
from collections.abc import Iterator

from backendai.stack.settings import IMAGE, KEYS, Settings

GROUP = "00000000-0000-4000-8000-0000000000aa"
REGISTRY = "00000000-0000-4000-8000-0000000000cc"
EMPTY = b"\x90"
"""An empty list, as msgpack has it."""

Value = str | int | bool | bytes | dict[str, object] | None

HOSTS: dict[str, object] = {
    "local:volume1": [
        "create-vfolder",
        "modify-vfolder",
        "delete-vfolder",
        "mount-in-session",
        "upload-file",
        "download-file",
        "invite-others",
        "set-user-specific-permission",
    ]
}
LABELS: dict[str, object] = {
    "ai.backend.kernelspec": "1",
    "ai.backend.envs.corecount": "OMP_NUM_THREADS",
    "ai.backend.features": "batch query uid-match user-input",
    "ai.backend.base-distro": "ubuntu20.04",
    "ai.backend.resource.min.cpu": "1",
    "ai.backend.resource.min.mem": "64m",
    "ai.backend.runtime-type": "python",
    "ai.backend.runtime-path": "/usr/bin/python",
    "ai.backend.service-ports": "jupyter:http:8081",
    "ai.backend.role": "COMPUTE",
}
SMALL: dict[str, object] = {"cpu": "2", "mem": str(2 * 2**30)}


def literal(value: Value) -> str:
    """Return a value as SQL has it."""
    match value:
        case None:
            return "null"
        case bool() | int():
            return str(value).lower()
        case bytes():
            return f"'\\x{value.hex()}'"
        case dict():
            value = json.dumps(value)
    return "'" + value.replace("'", "''") + "'"


def insert(table: str, **values: Value) -> str:
    """Return an INSERT; a trailing underscore keeps a column's name from being a keyword."""
    names = ", ".join(f'"{name.rstrip("_")}"' for name in values)
    return f"insert into {table} ({names}) values ({', '.join(map(literal, values.values()))})"


def identity(number: int) -> str:
    """Return an identifier that is the same in every stack."""
    return f"00000000-0000-4000-8000-{number:012d}"


def sql(settings: Settings) -> str:
    """Return all of it, as one transaction."""
    parts = [_policies(settings), _places(settings), _accounts(settings), _images(settings)]
    if settings.newer:
        parts += [_slots(), _variants()]
    return "begin;\n" + "".join(f"{statement};\n" for part in parts for statement in part) + "commit;"


def _policies(settings: Settings) -> Iterator[str]:
    newer = settings.newer
    for name, slots, sessions, containers in (
        ("default", {}, settings.sizes.sessions, 8),
        ("small", SMALL, 2, 1),
    ):
        older: dict[str, Value] = {
            "max_concurrent_sftp_sessions": 1,
            "max_vfolder_count": 1000 if name == "default" else 2,
            "max_vfolder_size": 0,
        }
        yield insert(
            "keypair_resource_policies",
            name=name,
            default_for_unspecified="LIMITED" if slots else "UNLIMITED",
            total_resource_slots=slots,
            max_session_lifetime=0,
            max_concurrent_sessions=sessions,
            max_containers_per_session=containers,
            idle_timeout=86400,
            allowed_vfolder_hosts=HOSTS,
            **({} if newer else older),
        )
    if newer:
        quota: dict[str, Value] = {"name": "default", "max_vfolder_count": 0, "max_quota_scope_size": -1}
        customized = insert(
            "user_resource_policies",
            **quota,
            max_session_count_per_model_session=10,
            max_customized_image_count=10,
        )
        yield customized
        yield insert("project_resource_policies", **quota, max_network_count=3)
    else:
        size: dict[str, Value] = {"name": "default", "max_vfolder_size": 0}
        yield insert("user_resource_policies", **size, max_session_count_per_model_session=10)
        yield insert("project_resource_policies", **size)


def _places(settings: Settings) -> Iterator[str]:
    place: dict[str, Value] = {
        "name": "default",
        "description": "sim",
        "is_active": True,
        "total_resource_slots": {},
        "allowed_vfolder_hosts": HOSTS,
        "dotfiles": EMPTY,
    }
    yield insert("domains", **place, allowed_docker_registries="{" + IMAGE[0] + "}")
    general: dict[str, Value] = {"type": "general"} if settings.newer else {}
    yield insert("groups", id=GROUP, domain_name="default", resource_policy="default", **place, **general)
    newer: dict[str, Value] = {
        "is_default": True,
        "default_deployment_options": {},
        "default_session_options": {},
    }
    patience: Value = 0 if settings.newer else "0"
    yield insert(
        "scaling_groups",
        name="default",
        description="sim",
        is_active=True,
        is_public=True,
        driver="static",
        driver_opts={},
        scheduler="fifo",
        use_host_network=True,
        scheduler_opts={
            "allowed_session_types": ["interactive", "batch", "inference"],
            "pending_timeout": patience,
            "config": {},
        },
        **(newer if settings.newer else {}),
    )
    joined: dict[str, Value] = {} if settings.newer else {"id": identity(50)}
    yield insert("sgroups_for_domains", scaling_group="default", domain="default", **joined)
    if not settings.newer:
        preset: dict[str, object] = {"cpu": "1", "mem": str(2**30)}
        yield insert("resource_presets", name="small", resource_slots=preset, shared_memory=None)


def _accounts(settings: Settings) -> Iterator[str]:
    newer = settings.newer
    for number, (name, key) in enumerate(KEYS.items(), start=1):
        admin = name == "admin"
        user: dict[str, Value] = {"password": "x"} if newer else {}
        yield insert(
            "users",
            uuid=identity(number),
            username=name,
            email=f"{name}@sim.test",
            need_password_change=False,
            full_name=name,
            status="active",
            domain_name="default",
            role="superadmin" if admin else "user",
            resource_policy="default",
            sudo_session_enabled=False,
            **user,
        )
        yield insert(
            "keypairs",
            user_id=f"{name}@sim.test",
            access_key=key.access,
            secret_key=key.secret,
            is_active=True,
            is_admin=admin,
            rate_limit=60000,
            num_queries=0,
            user=identity(number),
            resource_policy="small" if name == "small" else "default",
            dotfiles=EMPTY,
            bootstrap_script="",
        )
        yield f"update users set main_access_key='{key.access}' where uuid='{identity(number)}'"
        joined: dict[str, Value] = {} if newer else {"id": identity(60 + number)}
        yield insert("association_groups_users", user_id=identity(number), group_id=GROUP, **joined)
        if newer:
            yield insert(
                "association_scopes_entities",
                scope_type="project",
                scope_id=GROUP,
                entity_type="user",
                entity_id=identity(number),
                relation_type="auto",
            )


def _images(settings: Settings) -> Iterator[str]:
    registry, name, plain = IMAGE
    newer: dict[str, Value] = {}
    if settings.newer:
        newer = {"project": "stable", "registry_id": REGISTRY, "status": "ALIVE"}
        yield insert(
            "container_registries",
            id=REGISTRY,
            url="http://127.0.0.1:9",
            registry_name=registry,
            type="docker",
            project="stable",
            ssl_verify=False,
            is_global=True,
        )
    for number, accelerator in enumerate(("", "cuda"), start=80):
        tag = plain + ("-cuda11.8" if accelerator else "")
        limits: dict[str, object] = {"cpu": {"min": "1", "max": None}, "mem": {"min": str(2**26), "max": None}}
        if accelerator:
            limits |= {slot: {"min": "0", "max": None} for slot in ("cuda.device", "cuda.shares")}
        older: dict[str, Value] = {"id": identity(number)}
        yield insert(
            "images",
            name=f"{registry}/{name}:{tag}",
            image=name.rpartition("/")[2] if settings.newer else name,
            tag=tag,
            registry=registry,
            architecture="x86_64",
            config_digest="sha256:" + "0" * 64,
            size_bytes=1,
            is_local=False,
            type="COMPUTE",
            accelerators=accelerator,
            labels=LABELS,
            resources=limits,
            **(newer or older),
        )


def _variants() -> Iterator[str]:
    yield insert(
        "runtime_variants",
        name="custom",
        description="what the model's definition says",
        reads_vfolder_config_files=True,
        default_model_definition={},
    )


def _slots() -> Iterator[str]:
    for slot, kind in (("cpu", "count"), ("mem", "bytes"), ("cuda.device", "count"), ("cuda.shares", "count")):
        statement = insert(
            "resource_slot_types",
            slot_name=slot,
            slot_type=kind,
            required=slot in {"cpu", "mem"},
            enabled=True,
            display_name=slot,
            description=slot,
            display_unit="unit",
            display_icon="cpu",
            number_format={"binary": False, "round_length": 0},
            rank=100,
        )
        yield statement + " on conflict do nothing"
