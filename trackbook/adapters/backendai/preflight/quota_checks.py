"""Check what sessions request against the limits of key, project and domain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from trackbook.adapters.backendai.preflight.findings import Findings, amount_text
from trackbook.adapters.backendai.preflight.snapshot import Snapshot
from trackbook.engine import graph
from trackbook.engine.ports import SessionSpec


def quotas(
    findings: Findings, seen: Snapshot, specs: Sequence[SessionSpec], asked: Mapping[str, Mapping[str, float]]
) -> None:
    """Compare with each limit the largest task, which would wait for ever, and all that may run side by side."""
    total = {
        spec.task: {slot: amount * spec.cluster_size for slot, amount in asked[spec.task].items()}
        for spec in specs
    }
    level = graph.levels(_graph(specs))
    at_once: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for task, slots in total.items():
        for slot, amount in slots.items():
            at_once[level[task]][slot] += amount
    for who, limits in _limits_of(seen):
        for slot, limit in limits.items():
            allowed = amount_text(slot, limit)
            for task, slots in total.items():
                if slots.get(slot, 0) > limit:
                    words = f"{amount_text(slot, slots[slot])} are more than {who} may use ({allowed})"
                    findings.add("quota", words, "fail", "It would wait for ever.", task)
            most = max((slots.get(slot, 0) for slots in at_once.values()), default=0.0)
            if most > limit:
                words = f"tasks side by side ask for {amount_text(slot, most)}, and {who} may use {allowed}"
                findings.add("quota", words, "warn", "Some wait for others.")
    left = seen.usage.key_left if seen.usage else {}
    limits = seen.usage.key_limits if seen.usage else {}
    for slot, amount in left.items():
        most = max((slots.get(slot, 0) for slots in total.values()), default=0.0)
        if amount < most <= limits.get(slot, most):
            words = f"of {slot} {amount_text(slot, amount)} are left for the key just now, and a task needs more"
            findings.add("quota", words, "warn", "It waits until other sessions have ended.")
    _at_once(findings, seen, max(Counter(level.values()).values(), default=0))


def _at_once(findings: Findings, seen: Snapshot, width: int) -> None:
    most = seen.policy.concurrent_sessions if seen.policy else 0
    if most and width > most:
        words = f"up to {width:,} tasks run side by side, and the key may have {most:,} sessions at once"
        findings.add("quota", words, "warn", "Some wait for others.")


def _graph(specs: Sequence[SessionSpec]) -> dict[str, list[str]]:
    here = {spec.task for spec in specs}
    return {spec.task: [source.task for source in spec.inputs if source.task in here] for spec in specs}


def _limits_of(seen: Snapshot) -> Iterable[tuple[str, Mapping[str, float]]]:
    if seen.usage:
        yield "the key", seen.usage.key_limits
    if seen.rules and seen.rules.project:
        yield "the project", seen.rules.project.slots
    if seen.rules and seen.rules.domain:
        yield "the domain", seen.rules.domain.slots
