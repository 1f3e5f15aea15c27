"""From a serving task to the model service that a cluster is asked for; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.service_calls import has_revisions, has_variants
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import multiline_variables
from trackbook.adapters.execution import variables
from trackbook.engine import amounts
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.mounts import parse
from trackbook.engine.ports import SessionSpec

OWNER = "TRACKBOOK_SERVICE"
"""The variable by which a service is known as ours: `<installation>/<pipeline>/<kept or ephemeral>/<mounts>`."""
SESSION, JOB = "TRACKBOOK_SESSION", "TRACKBOOK_JOB_ID"
CUSTOM = "custom"
MODELS = "/models"
DEFINITIONS = ("model-definition.yml", "model-definition.yaml")
"""Where a cluster looks for the model's definition by itself."""
_BREAKS = "variables of a service can't have line breaks, which agents cut values at: {}"
_SHORT = 24
"""Characters that 23.09 takes for a service's name."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{2,62}[A-Za-z0-9_]")
_PATH = re.compile(r"/[^\0]*")
_FREE_PLACE = frozenset((CUSTOM, "cmd"))
"""The runtime variants that let the model be mounted elsewhere than at /models."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What a task's `service` asks for, read. `surge`, `unavailable`: None leaves them to the cluster."""

    model: str
    name: str = ""
    mount: str = MODELS
    definition: str = ""
    variant: str = CUSTOM
    replicas: int = 1
    public: bool = False
    ephemeral: bool = False
    surge: int | None = None
    unavailable: int | None = None


class Fault(Struct, frozen=True):
    """What is wrong with a `service`, and at which of its keys."""

    key: str
    message: str


def read(service: Mapping[str, Any]) -> tuple[Wanted, list[Fault]]:
    """Return what a `service` asks for, and what is wrong with it; numbers and truths may be strings."""
    faults: list[Fault] = []

    def text(key: str, default: str = "") -> str:
        value = service.get(key)
        if value is None or value == "":
            return default
        if not isinstance(value, str | int) or isinstance(value, bool):
            faults.append(Fault(key, f"{key} must be text"))
            return default
        return str(value)

    def whole(key: str, least: int) -> int | None:
        if service.get(key) is None:
            return None
        number = amounts.whole(service[key])
        if number is None or number < least:
            faults.append(Fault(key, f"{key} must be a whole number, at least {least}"))
        return number

    def truth(key: str) -> bool:
        if service.get(key) is None:
            return False
        found = amounts.truth(service[key])
        if found is None:
            faults.append(Fault(key, f"{key} is either true or false"))
        return bool(found)

    wanted = Wanted(
        model=text("model"),
        name=text("name"),
        mount=text("model_mount_destination", MODELS),
        definition=text("model_definition_path"),
        variant=text("runtime_variant", CUSTOM).lower(),
        replicas=whole("replicas", 1) or 1,
        public=truth("open_to_public"),
        ephemeral=truth("ephemeral"),
        surge=whole("max_surge", 0),
        unavailable=whole("max_unavailable", 0),
    )
    return wanted, [*faults, *_inconsistent(wanted)]


def _inconsistent(wanted: Wanted) -> Iterator[Fault]:
    if not wanted.model:
        yield Fault("model", "model must name the folder that has the model")
    if wanted.name and not _NAME.fullmatch(wanted.name):
        yield Fault("name", "name must have 4 to 64 letters, digits, _ or -, and no - at its ends")
    if not _PATH.fullmatch(wanted.mount):
        yield Fault("model_mount_destination", "model_mount_destination must be a path that begins with /")
    elif wanted.mount != MODELS and wanted.variant not in _FREE_PLACE:
        message = f"model_mount_destination must be {MODELS} for the runtime variant {wanted.variant}"
        yield Fault("model_mount_destination", message)
    if (wanted.surge, wanted.unavailable) == (0, 0):
        yield Fault("max_surge", "max_surge and max_unavailable can't both be 0: no replica could be replaced")


def lacking(version: Version, wanted: Wanted, mounts: bool) -> list[Fault]:
    """Return what the task asks for that this version can't give; `mounts`: the task mounts folders.

    Seen on 23.09 and 26.8; for the versions between them it is what their sources say.
    """
    if has_revisions(version):
        return []
    found: list[Fault] = []
    release = version.manager
    if has_variants(version):
        return found
    if wanted.variant != CUSTOM:
        message = f"Backend.AI {release} has no runtime variants: {wanted.variant} can't be had"
        found.append(Fault("runtime_variant", message))
    if wanted.definition and wanted.definition.removeprefix("./") not in DEFINITIONS:
        message = f"Backend.AI {release} reads {' or '.join(DEFINITIONS)} at the top of the model's folder alone"
        found.append(Fault("model_definition_path", message))
    if len(wanted.name) > _SHORT:
        found.append(Fault("name", f"name is longer than the {_SHORT} characters that {release} takes"))
    if mounts:
        message = f"services of Backend.AI {release} see the model's folder alone: mounts can't be had"
        found.append(Fault("mounts", message))
    return found


def find_ignored(version: Version, wanted: Wanted) -> list[Fault]:
    """Return what the task asks for that means nothing to this version, and keeps nothing from running."""
    if has_revisions(version):
        return []
    return [
        Fault(key, f"{key} is not used: Backend.AI {version.manager} has no rolling updates")
        for key, given in (("max_surge", wanted.surge), ("max_unavailable", wanted.unavailable))
        if given is not None
    ]


def validate(tasks: list[Task], version: Version | None) -> list[Refused | Warned]:
    """Return what is wrong with serving tasks; `version` is the cluster's, where it is known already."""
    found: list[Refused | Warned] = []
    taken: dict[str, str] = {}
    for task in tasks:
        at = f"tasks[{task.index}]"
        service = task.settings.get("service")
        if not service or not isinstance(service, dict):
            message = f"task {task.name!r} serves a model, and has no `service` that says which"
            hint = "Give it `service: {model: FOLDER}`, FOLDER being a folder of the usage mode `model`."
            found.append(Refused("service_missing", message, f"{at}.service", hint=hint))
            continue
        wanted, faults = read(service)
        faults = faults or (lacking(version, wanted, bool(task.mounts)) if version else [])
        for fault in faults:
            place = f"{at}.mounts" if fault.key == "mounts" else f"{at}.service.{fault.key}"
            found.append(Refused("service_invalid", f"task {task.name!r}: {fault.message}", place))
        found += _variable_problems(task, version)
        for fault in find_ignored(version, wanted) if version else ():
            message = f"task {task.name!r}: {fault.message}"
            found.append(Warned("service_key_ignored", message, f"{at}.service.{fault.key}"))
        if wanted.name and wanted.name in taken:
            message = f"tasks {taken[wanted.name]!r} and {task.name!r} would both be the service {wanted.name!r}"
            found.append(Refused("service_twice", message, f"{at}.service.name"))
        taken.setdefault(wanted.name, task.name)
        if task.command.strip():
            message = (
                f"task {task.name!r}: what a service runs stands in the model's definition, not in `command`"
            )
            found.append(Warned("service_command_ignored", message, f"{at}.command"))
        if task.code:
            message = f"task {task.name!r}: a service does not get the pipeline's code; it has its model's folder"
            found.append(Warned("service_code_ignored", message, "code"))
    return found


def _variable_problems(task: Task, version: Version | None) -> Iterator[Refused | Warned]:
    at = f"tasks[{task.index}].environment.envs"
    for variable in with_breaks(task.variables):
        hint = "Put the text into a file in the model's folder, or encode it."
        message = f"task {task.name!r}: {_BREAKS.format(variable)}"
        yield Refused("service_invalid", message, f"{at}.{variable}", hint=hint)
    for variable, value in task.variables.items():
        if version and not value and not takes_empty(version):
            message = (
                f"task {task.name!r}: {variable} is empty, which {version.manager} does not take: it is left out"
            )
            yield Warned("service_variable_left_out", message, f"{at}.{variable}")


def name(spec: SessionSpec, wanted: Wanted, installation: str) -> str:
    """Return the service's name: the task's own, or one that any run of the pipeline comes to; 24 characters."""
    if wanted.name:
        return wanted.name
    digest = hashlib.sha256(f"{spec.pipeline}/{spec.task}".encode()).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9]+", "", spec.task)[:5] or "serve"
    return f"{names.prefix(installation)}{slug}-{digest[:6]}"


def owner(spec: SessionSpec, wanted: Wanted, installation: str) -> str:
    """Return what the variable OWNER has; the last of it is a digest of what is mounted."""
    digest = hashlib.sha256("\n".join(spec.mounts).encode()).hexdigest()[:8] if spec.mounts else "none"
    return f"{installation}/{spec.pipeline}/{'ephemeral' if wanted.ephemeral else 'kept'}/{digest}"


def read_owner(given: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Return installation, pipeline, kind and mounts by a service's variables, '' each where they tell none."""
    parts = given.get(OWNER, "").split("/")
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == 4 else ("", "", "", "")


def takes_empty(version: Version) -> bool:
    """Whether a service may have empty variables: 23.09 answers 400 to one, 26.8 takes it."""
    return has_revisions(version)


def environment(spec: SessionSpec, wanted: Wanted, installation: str, version: Version) -> dict[str, str]:
    """Return the variables of the replicas: those of the task, and who it is.

    Empty ones are left out where the version takes none. Raises ValueError for what a replica can't be given.
    """
    found = spec.variables | variables.of(spec) | {OWNER: owner(spec, wanted, installation)}
    variables.check(found)
    if broken := with_breaks(found):
        raise ValueError(_BREAKS.format(", ".join(broken)))
    return {name: value for name, value in found.items() if value or takes_empty(version)}


def with_breaks(given: Mapping[str, str]) -> list[str]:
    """Return the names of the variables with line breaks, which an agent would cut at the first of them."""
    return sorted(name for name, value in given.items() if multiline_variables.has_breaks(value))


def resources(spec: SessionSpec) -> dict[str, str]:
    """Return the slots of a replica as managers read them."""
    return {slot: str(amount) for slot, amount in spec.resources.items()}


def options(spec: SessionSpec) -> dict[str, str]:
    """Return the resource options of a replica."""
    return {} if spec.shmem is None else {"shmem": str(spec.shmem)}


def mounts(spec: SessionSpec) -> list[tuple[str, str, str]]:
    """Return (folder, part of it, path where it is seen) of what the task mounts. Raises ValueError."""
    found = [parse(text) for text in spec.mounts]
    return [(mount.folder, mount.subpath, mount.path) for mount in found]


def image(spec: SessionSpec, cluster: Cluster) -> str:
    """Return the image of the replicas. Raises ValueError where neither task nor cluster names one."""
    found = spec.image or cluster.image
    if not found:
        words = (
            f"task {spec.task!r} names no image, and neither does the configuration of cluster {cluster.name!r}"
        )
        raise ValueError(words)
    return found
