"""Evidence of loss: found, kept, and blocking all commands until an operator accepts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from msgspec import Struct

from trackbook.engine.log import LogState
from trackbook.engine.ports import EventStore, LossFound
from trackbook.engine.store_condition import StreamCondition
from trackbook.errors import UserError
from trackbook.events.commit import digest
from trackbook.events.log import Evidence
from trackbook.runtime.integrity.witness_file import AnyWitness, Head

HINT = "`trackbook log status` shows it; restore a backup, or continue without it by `trackbook log accept-loss`."
_RANGES = 50
"""Missing ranges of a stream that become evidence of their own; with more, they are one."""

log = structlog.get_logger(__name__)


class LogDamaged(UserError, LossFound):
    """The log lost or changed what was on it; no command is taken until an operator accepted that."""

    def __init__(self, message: str) -> None:
        super().__init__(message, HINT)


class Claim(Struct, frozen=True):
    """What somebody knows of the log: the message at a sequence had this SHA-256."""

    by: str
    seq: int
    sha256: str


class Integrity:
    """Compares the log with what its witnesses remember, and refuses commands while evidence of loss is open."""

    def __init__(self, store: EventStore, witnesses: Sequence[AnyWitness] = ()) -> None:
        self._store = store
        self._witnesses = witnesses
        self._found: dict[str, Evidence] = {}
        self.accepted: dict[str, Evidence] = {}
        self.dismissed: dict[int, str] = {}
        for witness in witnesses:
            self._found |= witness.evidence

    @property
    def open(self) -> list[Evidence]:
        """Evidence that no operator accepted yet."""
        return [each for id, each in self._found.items() if id not in self.accepted]  # noqa: A001

    @property
    def head(self) -> Head:
        """The end of the log as the furthest witness remembers it."""
        return max((witness.head for witness in self._witnesses), key=lambda head: head.seq, default=Head())

    def problems(self) -> list[str]:
        """Return in words what keeps commands from being taken."""
        return [f"the log is damaged: {each.message}. {HINT}" for each in self.open]

    def warnings(self) -> list[str]:
        """Return in words what is wrong with the witnesses themselves."""
        return [witness.problem for witness in self._witnesses if witness.problem]

    def refuse(self) -> None:
        """Raise LogDamaged while evidence is open."""
        if found := self.open:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise LogDamaged(f"the log is damaged: {found[0].message}{more}")

    def set_decisions(self, state: LogState) -> None:
        """Take note of what operators decided, as it is on the log."""
        self.accepted, self.dismissed = dict(state.accepted), dict(state.dismissed)

    def is_accepted(self, first: int, last: int) -> bool:
        """Whether an operator knows that the log has no messages at these sequences."""
        return any(e.kind == "gap" and e.first <= first and last <= e.last for e in self.accepted.values())

    def is_dismissed(self, seq: int, data: bytes) -> bool:
        """Whether an operator decided that this message is left out of its history."""
        return seq in self.dismissed and self.dismissed[seq] == digest(data)

    def record_head(self, seq: int, sha256: str) -> None:
        """Remember the end of the log as the broker acknowledged it."""
        for witness in self._witnesses:
            witness.record_head(seq, sha256)

    def add_evidence(self, kind: str, key: str, message: str, first: int = 0, last: int = 0) -> None:
        """Keep evidence of loss; what was found before, or accepted, changes nothing."""
        if self.has_evidence(kind, key, first, last):
            return
        evidence = Evidence(_id(kind, key), kind, message, first, last or first)
        self._found[evidence.id] = evidence
        log.error("log.damaged", evidence=evidence.id, kind=kind, found=message, hint=HINT)
        for witness in self._witnesses[:1]:
            witness.record(evidence)

    def has_evidence(self, kind: str, key: str, first: int = 0, last: int = 0) -> bool:
        """Whether evidence of that kind and key was found or accepted, or other evidence says it already."""
        covering = {"gap": ("gap",), "history": ("gap", "tail")}.get(kind, ())
        found = _id(kind, key)
        return found in self._found or found in self.accepted or self._is_covered(first, last or first, covering)

    def _is_covered(self, first: int, last: int, kinds: Sequence[str]) -> bool:
        """Whether open evidence of these kinds says already that the log lost these sequences."""
        return any(each.kind in kinds and each.first <= first and last <= each.last for each in self.open)

    async def examine(self, claims: Iterable[Claim] = ()) -> None:
        """Compare the log with what the broker reports of it, with the witnesses, and with other claims."""
        own = [Claim(w.name, w.head.seq, w.head.sha256) for w in self._witnesses]
        condition = await self._store.condition()  # behind the claims: what is written meanwhile is no loss
        self._examine_stream(condition.events, "gap", "of the log")
        self._examine_stream(condition.blobs, "blobs", "of the stream of large bodies")
        for claim in dict.fromkeys([*own, *claims]):
            if claim.seq:
                await self._compare(claim, condition.events.last)

    async def recheck(self) -> None:
        """Look again after the broker was away; raises LogDamaged while evidence is open."""
        await self.examine()
        self.refuse()

    def _examine_stream(self, found: StreamCondition, kind: str, where: str) -> None:
        if found.limits:
            text = "; ".join(found.limits)
            again = f"/{found.restored}" if found.restored else ""
            self.add_evidence(
                "limits", f"{found.name}/{text}{again}", f"the stream {found.name} was changed: {text}"
            )
        ranges = found.gaps()
        if len(ranges) > _RANGES:
            ranges = [(ranges[0][0], ranges[-1][1])]
        for first, last in ranges:
            self.add_evidence(
                kind, f"{first}-{last}", f"messages {where} are missing: {range_text(first, last)}", first, last
            )

    async def _compare(self, claim: Claim, head: int) -> None:
        key = f"{claim.seq}/{claim.sha256}"
        if head < claim.seq:
            message = f"the log ends at sequence {head}, and {claim.by} knows of sequence {claim.seq}"
            self.add_evidence("tail", key, message, head + 1, claim.seq)
            return
        async for batch in self._store.read_all(claim.seq):
            if not batch or batch[0].seq != claim.seq:
                self.add_gap(claim.seq, claim.seq, claim.by)
            elif digest(batch[0].data) != claim.sha256:
                message = f"the message at sequence {claim.seq} is not the one that {claim.by} knows of"
                self.add_evidence("replaced", key, message, claim.seq)
            return
        self.add_gap(claim.seq, claim.seq, claim.by)

    def add_gap(self, first: int, last: int, by: str = "") -> None:
        """Keep as evidence that the log has no messages at some sequences, of which somebody may know."""
        if not self.is_accepted(first, last):
            known = f", which {by} knows of" if by else ""
            message = f"messages of the log are missing: {range_text(first, last)}{known}"
            self.add_evidence("gap", f"{first}-{last}", message, first, last)

    async def holes(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return which sequences from `first` to `last` the log has no message at."""
        found, expected = [], first
        async for batch in self._store.read_all(first):
            for stored in batch:
                seq = min(stored.seq, last + 1)
                if seq > expected:
                    found.append((expected, seq - 1))
                expected = seq + 1
                if seq > last:
                    return found
        return found + ([(expected, last)] if expected <= last else [])

    def set_installation(self, installation: str) -> None:
        """Have the witnesses remember the log under its new installation id."""
        for witness in self._witnesses:
            witness.installation = installation
            witness.rewind(witness.head)

    def rewind(self, seq: int, sha256: str) -> None:
        """Have the witnesses remember this end of the log, since a loss behind it was accepted."""
        for witness in self._witnesses:
            witness.rewind(Head(seq, sha256))


def _id(kind: str, key: str) -> str:
    return digest(f"{kind}/{key}".encode())[:12]


def range_text(first: int, last: int) -> str:
    """Return a range of sequences in words."""
    return f"sequence {first}" if first == last else f"sequences {first} to {last}"


def evidence_json(evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    """Return evidence as it is shown."""
    return [
        {"id": e.id, "kind": e.kind, "message": e.message, "first": e.first, "last": e.last} for e in evidence
    ]
