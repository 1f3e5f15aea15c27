"""What would fail of serving tasks, looked at before a run."""

from __future__ import annotations

from collections.abc import Sequence

from trackbook.adapters.backendai import facts, service_api, service_plan
from trackbook.adapters.backendai.api import Version
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.examine import trouble
from trackbook.adapters.backendai.link import Link
from trackbook.adapters.backendai.service_api import ModelFolder, Service
from trackbook.adapters.backendai.service_plan import Wanted
from trackbook.adapters.backendai.storage import Storage
from trackbook.engine.ports import Finding, SessionSpec


async def check(link: Link, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Return what is found of the serving ones; that the cluster can't be asked is a finding, too."""
    serving = [spec for spec in specs if spec.service is not None]
    if not serving:
        return []
    found: list[Finding] = []
    try:
        version = await link.version()
        folders = await service_api.folders(link.client)
        there = await service_api.listed(link.client, version)
        for spec in serving:
            wanted, faults = service_plan.read(spec.service or {})
            faults = faults or service_plan.lacking(version, wanted, bool(spec.mounts))
            found += [Finding("service", fault.message, "fail", task=spec.task) for fault in faults]
            found += _variables(version, spec)
            if not faults:
                found.append(await _model(link, spec, wanted, folders))
                found.append(_taken(link, version, spec, wanted, there))
        found += await _proxies(link, serving)
    except ClusterError as error:
        return [trouble(link.cluster, error)]
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


async def _model(link: Link, spec: SessionSpec, wanted: Wanted, folders: Sequence[ModelFolder]) -> Finding:
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
            storage = Storage(link.client)
            there = any([await storage.find(models[0].name, path) for path in wants])
        except ClusterError as error:
            return Finding(what, f"its files can't be looked at: {error}", "warn", task=spec.task)
        if not there:
            found = f"there is no {' or '.join(wants)} in the folder yet"
            return Finding(what, found, "warn", "It has to be there when the service is made.", spec.task)
    return Finding(what, "the folder is there", task=spec.task)


def _taken(link: Link, version: Version, spec: SessionSpec, wanted: Wanted, there: Sequence[Service]) -> Finding:
    name = service_plan.name(spec, wanted, link.installation)
    what = f"service {name}"
    former = next((each for each in there if each.name == name), None)
    if former is None:
        return Finding(what, "it will be made", task=spec.task)
    if service_plan.owned(former.variables)[:2] != (link.installation, spec.pipeline):
        hint = "Give the task another `service.name`."
        return Finding(what, "there is one, which this pipeline did not make", "fail", hint, spec.task)
    if service_plan.has_revisions(version):
        return Finding(what, "it is there and will be brought up to date", task=spec.task)
    found = f"it is there; Backend.AI {version.manager} changes image, resources and replicas of it in place"
    hint = "For other changes it is made again: it does not answer meanwhile, and its address may be another."
    return Finding(what, found, "ok", hint, spec.task)


async def _proxies(link: Link, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Look whether each scaling group has the app proxy that serves models."""
    asked = {(spec.project or link.cluster.project, spec.scaling_group) for spec in specs}
    found = []
    for project, named in sorted(asked):
        group = named or link.cluster.scaling_group
        groups = [group] if group else (await facts.scaling_groups(link.client, project))[:1]
        found += [await _proxy(link, each, project) for each in groups]
    return found


async def _proxy(link: Link, group: str, project: str) -> Finding:
    what, hint = f"app proxy of scaling group {group}", "An operator of the cluster sets it up."
    try:
        kind = await service_api.proxy(link.client, group, project)
    except ClusterError as error:
        if error.kind == "operator":
            raise
        return Finding(what, f"it can't be asked, and was not checked: {error.message}", "warn", hint)
    if kind == "v1":
        return Finding(what, "there is none that serves models", "fail", hint)
    return Finding(what, "it is there")
