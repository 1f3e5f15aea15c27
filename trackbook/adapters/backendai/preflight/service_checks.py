"""Check serving tasks before a run."""

from __future__ import annotations

from collections.abc import Sequence

from trackbook.adapters.backendai.api import inventory, service_calls
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.service_calls import ModelFolder, Service
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.preflight.diagnose import error_finding
from trackbook.adapters.backendai.service import plan as service_plan
from trackbook.adapters.backendai.service.plan import Wanted
from trackbook.engine.ports import Finding, SessionSpec


async def check(connection: ClusterConnection, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Return what is found of the serving ones; that the cluster can't be asked is a finding, too."""
    serving = [spec for spec in specs if spec.service is not None]
    if not serving:
        return []
    found: list[Finding] = []
    try:
        version = await connection.version()
        folders = await service_calls.folders(connection.client)
        there = await service_calls.list_services(connection.client, version)
        for spec in serving:
            wanted, faults = service_plan.read(spec.service or {})
            faults = faults or service_plan.lacking(version, wanted, bool(spec.mounts))
            found += [Finding("service", fault.message, "fail", task=spec.task) for fault in faults]
            found += _variables(version, spec)
            if not faults:
                found.append(await _model(connection, spec, wanted, folders))
                found.append(_taken(connection, version, spec, wanted, there))
        found += await _proxies(connection, serving)
    except ClusterError as error:
        return [error_finding(connection.cluster, error)]
    return found


def _variables(version: Version, spec: SessionSpec) -> list[Finding]:
    """Look for variables that replicas can't be given; those of the run, too, which the definition has not."""
    found = []
    if broken := service_plan.with_breaks(spec.variables):
        words = f"agents cut values at line breaks: {', '.join(broken)}"
        found.append(Finding("service", words, "fail", "Put the text into a file, or encode it.", spec.task))
    empty = sorted(name for name, value in spec.variables.items() if not value)
    if empty and not service_plan.takes_empty(version):
        words = f"Backend.AI {version.manager} takes no empty variables, they are left out: {', '.join(empty)}"
        found.append(Finding("service", words, "warn", task=spec.task))
    return found


async def _model(
    connection: ClusterConnection, spec: SessionSpec, wanted: Wanted, folders: Sequence[ModelFolder]
) -> Finding:
    what = f"model {wanted.model}"
    named = [each for each in folders if wanted.model in (each.name, each.id, each.id.replace("-", ""))]
    if not named:
        hint = "Make it with the usage mode `model`, and put the model with its definition there."
        return Finding(what, "there is no such folder that the key may use", "fail", hint, spec.task)
    models = [each for each in named if each.usage == "model"]
    if not models:
        hint = "Services need one that was made with the usage mode `model`."
        return Finding(what, f"the folder is for {named[0].usage} use", "fail", hint, spec.task)
    wants = [wanted.definition] if wanted.definition else list(service_plan.DEFINITIONS)
    if wanted.variant == service_plan.CUSTOM and not wanted.definition:
        try:
            storage = Storage(connection.client)
            there = any([await storage.find(models[0].name, path) for path in wants])
        except ClusterError as error:
            return Finding(what, f"its files can't be looked at: {error}", "warn", task=spec.task)
        if not there:
            found = f"there is no {' or '.join(wants)} in the folder yet"
            return Finding(what, found, "warn", "It has to be there when the service is made.", spec.task)
    return Finding(what, "the folder is there", task=spec.task)


def _taken(
    connection: ClusterConnection, version: Version, spec: SessionSpec, wanted: Wanted, there: Sequence[Service]
) -> Finding:
    name = service_plan.name(spec, wanted, connection.installation)
    what = f"service {name}"
    former = next((each for each in there if each.name == name), None)
    if former is None:
        return Finding(what, "it will be made", task=spec.task)
    if service_plan.read_owner(former.variables)[:2] != (connection.installation, spec.pipeline):
        hint = "Give the task another `service.name`."
        return Finding(what, "there is one, which this pipeline did not make", "fail", hint, spec.task)
    if service_calls.has_revisions(version):
        return Finding(what, "it is there and will be brought up to date", task=spec.task)
    found = f"it is there; Backend.AI {version.manager} changes image, resources and replicas of it in place"
    hint = "For other changes it is made again: it does not answer meanwhile, and its address may be another."
    return Finding(what, found, "ok", hint, spec.task)


async def _proxies(connection: ClusterConnection, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Look whether each scaling group has the app proxy that serves models."""
    asked = {(spec.project or connection.cluster.project, spec.scaling_group) for spec in specs}
    found = []
    for project, named in sorted(asked):
        group = named or connection.cluster.scaling_group
        groups = [group] if group else (await inventory.scaling_groups(connection.client, project))[:1]
        found += [await _proxy(connection, each, project) for each in groups]
    return found


async def _proxy(connection: ClusterConnection, group: str, project: str) -> Finding:
    what, hint = f"app proxy of scaling group {group}", "An operator of the cluster sets it up."
    try:
        kind = await service_calls.proxy(connection.client, group, project)
    except ClusterError as error:
        if error.kind == "operator":
            raise
        return Finding(what, f"it can't be asked, and was not checked: {error.message}", "warn", hint)
    if kind == "v1":
        return Finding(what, "there is none that serves models", "fail", hint)
    return Finding(what, "it is there")
