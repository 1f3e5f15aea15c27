"""Check a run's sessions against a snapshot of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trackbook.adapters.backendai.api.inventory import Image
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.preflight.findings import (
    Findings,
    amount_text,
    amounts_text,
    there_are,
    word_list,
)
from trackbook.adapters.backendai.preflight.mount_checks import model_folder, mounts, pipeline_folder
from trackbook.adapters.backendai.preflight.quota_checks import quotas
from trackbook.adapters.backendai.preflight.snapshot import Snapshot, numbers
from trackbook.adapters.backendai.service import plan as service_plan
from trackbook.adapters.backendai.session import plan
from trackbook.engine.names import did_you_mean
from trackbook.engine.ports import Finding, FolderState, SessionSpec


def check(
    seen: Snapshot,
    cluster: Cluster,
    installation: str,
    specs: Sequence[SessionSpec],
    *,
    aliases: Mapping[str, str],
    folder: FolderState | None,
) -> list[Finding]:
    """Return what would fail, or wait, of these sessions, which are all of one project.

    `aliases` are the full names of images that are named otherwise; `folder` is that of their pipeline.
    """
    findings = Findings()
    findings.add(
        "cluster",
        f"{cluster.endpoint}, manager {seen.version.manager}, as {seen.key.email or seen.key.user}",
        "ok",
    )
    for problem in seen.problems:
        findings.add("cluster", problem, "warn")
    project = specs[0].project or cluster.project
    _place(findings, seen, cluster, project)
    asked: dict[str, dict[str, float]] = {}
    for spec in specs:
        group = _group(findings, seen, cluster, spec, project)
        image = _image(findings, seen, spec.image or cluster.image, spec, aliases)
        asked[spec.task] = _resources(findings, seen, spec, image)
        _agents(findings, seen, spec, asked[spec.task], group)
        _containers(findings, seen, spec)
        mounts(findings, seen, spec)
        _plan(findings, seen, cluster, installation, spec)
        _service(findings, seen, spec)
    quotas(findings, seen, specs, asked)
    pipeline_folder(findings, seen, cluster, specs[0], folder)
    return findings.in_order()


# Where it would run -----------------------------------------------------------------------------------------


def _place(findings: Findings, seen: Snapshot, cluster: Cluster, project: str) -> None:
    if cluster.domain != seen.key.domain:
        findings.add(
            "domain",
            f"the key belongs to the domain {seen.key.domain!r}, not to {cluster.domain!r}",
            "fail",
            f"Set domain = {seen.key.domain!r} for the cluster {cluster.name!r}.",
        )
    if seen.rules is None:
        return
    mine = sorted(seen.key.projects)
    if seen.rules.project is None:
        findings.add(
            "project", f"there is no project {project!r}", "fail", there_are(project, mine, "of the key's user")
        )
    elif project not in seen.key.projects and not seen.key.admin:
        words = f"the key's user is not in the project {project!r}"
        findings.add("project", words, "fail", there_are(project, mine, "of the key's user"))
    elif not seen.rules.project.active:
        findings.add("project", f"the project {project!r} is not active", "fail", "Ask the cluster's operator.")
    if seen.groups == []:
        findings.add(
            "scaling group",
            f"the key may use no scaling group for the project {project!r}",
            "fail",
            "Ask the cluster's operator.",
        )


def _group(findings: Findings, seen: Snapshot, cluster: Cluster, spec: SessionSpec, project: str) -> str:
    """Return the scaling group that the task names, '' where the manager chooses."""
    group = spec.scaling_group or cluster.scaling_group
    if group and seen.groups and group not in seen.groups:
        words = f"there is no scaling group {group!r} that may be used for the project {project!r}"
        findings.add("scaling group", words, "fail", there_are(group, seen.groups), spec.task)
    return group


# Images and resources ---------------------------------------------------------------------------------------


def _image(
    findings: Findings, seen: Snapshot, name: str, spec: SessionSpec, aliases: Mapping[str, str]
) -> Image | None:
    """Return the image as the cluster has it, None where that isn't known."""
    if not name:
        hint = "Name one by `environment: {image: …}` of the task, or by `image` of the cluster's configuration."
        findings.add("image", "no image is named", "fail", hint, spec.task)
        return None
    if seen.images is None:
        return None
    full = aliases.get(name, name)
    found = [image for image in seen.images if image.canonical == full]
    if not found:
        known = sorted({image.canonical for image in seen.images})
        findings.add(
            "image", f"the cluster does not know the image {name}", "fail", there_are(name, known), spec.task
        )
        return None
    allowed = seen.rules.domain.registries if seen.rules and seen.rules.domain else []
    registry = full.partition("/")[0]
    if allowed and registry not in allowed:
        words = f"images of the registry {registry} are not allowed in the domain {seen.key.domain!r}"
        findings.add("image", words, "fail", f"Allowed: {word_list(allowed)}.", spec.task)
    machines = {agent.architecture for agent in seen.agents or [] if agent.architecture}
    made_for = {image.architecture for image in found if image.architecture}
    if machines and made_for and not machines & made_for:
        ours, theirs = word_list(sorted(made_for)), word_list(sorted(machines))
        words = f"the image {name} is made for {ours}, the agents are {theirs}"
        findings.add("image", words, "fail", "", spec.task)
    else:
        findings.add("image", f"the cluster has {name}", "ok")
    return next((image for image in found if image.architecture in machines), found[0])


def _resources(findings: Findings, seen: Snapshot, spec: SessionSpec, image: Image | None) -> dict[str, float]:
    """Return what one container of the task takes, with the image's least where nothing is asked."""
    asked = {slot: float(amount) for slot, amount in spec.resources.items()}
    limits = {slot: numbers({"least": least, "most": most}) for slot, (least, most) in _limits(image)}
    for slot, amount in asked.items():
        if seen.slots is not None and slot not in seen.slots:
            if amount:
                words = f"the cluster has no {slot}"
                hint = f"{did_you_mean(slot, seen.slots)} It has {word_list(sorted(seen.slots))}.".strip()
                findings.add("resources", words, "fail", hint, spec.task)
            continue
        if limits and slot not in limits and amount:
            words = f"the image {image.canonical if image else ''} does not take {slot}"
            findings.add("resources", words, "fail", f"It takes {word_list(sorted(limits))}.", spec.task)
        least, most = limits.get(slot, {}).get("least", 0), limits.get(slot, {}).get("most", 0)
        if amount < least:
            words = f"{amount_text(slot, amount)} are asked for, and the image needs {amount_text(slot, least)}"
            findings.add("resources", words, "fail", "", spec.task)
        elif most and amount > most:
            words = f"{amount_text(slot, amount)} are more than the image takes ({amount_text(slot, most)})"
            findings.add("resources", words, "fail", "", spec.task)
    if spec.shmem and asked.get("mem") and spec.shmem >= asked["mem"]:
        words = f"shmem is {amount_text('mem', spec.shmem)}, and has to be less than all the task has"
        findings.add("resources", words, "fail", "It is a part of `mem`.", spec.task)
    return {slot: each["least"] for slot, each in limits.items() if each.get("least")} | asked


def _limits(image: Image | None) -> Iterable[tuple[str, tuple[str, str]]]:
    return image.limits.items() if image else ()


def _agents(
    findings: Findings, seen: Snapshot, spec: SessionSpec, asked: Mapping[str, float], group: str
) -> None:
    """A session that no machine could ever hold waits for ever."""
    if seen.agents is None or (group and group not in (seen.groups or [group])):
        return
    machines = [agent for agent in seen.agents if not group or agent.group == group]
    if not machines:
        where = f" in the scaling group {group!r}" if group else ""
        findings.add("agents", f"no agent lives{where}: sessions would wait for one", "warn", "", spec.task)
        return
    together = spec.cluster_size if spec.cluster_mode == "single-node" else 1
    known = asked if seen.slots is None else seen.slots  # others are reported already
    wanted = {slot: amount * together for slot, amount in asked.items() if amount and slot in known}
    if not any(all(agent.slots.get(slot, 0) >= amount for slot, amount in wanted.items()) for agent in machines):
        largest = {slot: max(agent.slots.get(slot, 0) for agent in machines) for slot in wanted}
        words = f"no agent has {amounts_text(wanted)} for it, and it would wait for ever"
        hint = f"The most that any agent has: {amounts_text(largest)}."
        if together > 1:
            hint += (
                " All containers of a single-node cluster are on one agent; `cluster_mode: multi-node` spreads."
            )
        findings.add("agents", words, "fail", hint, spec.task)


def _containers(findings: Findings, seen: Snapshot, spec: SessionSpec) -> None:
    most = seen.policy.containers_per_session if seen.policy else 0
    if most and spec.cluster_size > most:
        words = f"cluster_size is {spec.cluster_size}, and a session may have {most} at most"
        findings.add(
            "cluster size", words, "fail", "It is a limit of the key; the operator can raise it.", spec.task
        )


# The session itself -----------------------------------------------------------------------------------------


def _plan(findings: Findings, seen: Snapshot, cluster: Cluster, installation: str, spec: SessionSpec) -> None:
    """Make the session as it would be asked for, for all else that can be wrong with it."""
    try:
        plan.new_session(spec, cluster, installation, seen.version, "")
    except plan.NoImage:  # reported already
        pass
    except ValueError as error:
        findings.add("session", str(error), "fail", "", spec.task)


def _service(findings: Findings, seen: Snapshot, spec: SessionSpec) -> None:
    """Look at what a serving task asks for, now that the version is known, and at its model's folder."""
    if spec.service is None:
        return
    wanted, faults = service_plan.read(spec.service)
    for fault in (*faults, *service_plan.lacking(seen.version, wanted, bool(spec.mounts))):
        findings.add("service", fault.message, "fail", "", spec.task)
    for fault in service_plan.find_ignored(seen.version, wanted):
        findings.add("service", fault.message, "warn", "", spec.task)
    if wanted.model and seen.folders is not None:
        model_folder(findings, seen, wanted.model, spec)
