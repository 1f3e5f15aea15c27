"""What a store reports of itself: which messages are missing, and what lets messages fall out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

MOST_RANGES = 100
"""Ranges of sequences that a condition lists at most: the last one reaches over all that follow."""

Ranges = list[tuple[int, int]]
"""Ranges of sequences, first and last inclusive, in order."""


class StreamCondition(Struct, frozen=True):
    """What the broker reports of one stream.

    `missing` are sequences between 1 and `last` without a message. `lost` are messages that the broker itself
    reports, and that are no loss by themselves beyond `last`: it failed to write them and never acknowledged
    them, or they were destroyed and it will use their sequences again. `cut_bytes` were removed from the end of
    a file at its last start: damaged messages, or a write that was torn by a power cut and never acknowledged.
    The broker can't tell these apart; a witness of the end of the log can. `limits` names settings that let
    messages fall out, `restored` says how often such settings were put back before. A single damaged message of
    a store that was closed cleanly appears nowhere here: only reading shows it.
    """

    name: str
    first: int = 0
    last: int = 0
    messages: int = 0
    missing: Ranges = field(default_factory=list)
    missing_count: int = 0
    lost: Ranges = field(default_factory=list)
    lost_count: int = 0
    cut_bytes: int = 0
    limits: list[str] = field(default_factory=list)
    restored: int = 0

    def gaps(self) -> Ranges:
        """Return the ranges up to `last` that have no message, or one that the broker reports as destroyed."""
        return sorted(
            {*self.missing, *((first, min(last, self.last)) for first, last in self.lost if first <= self.last)}
        )

    def problems(self) -> list[str]:
        """Return in words what is wrong with the stream."""
        found = []
        if gaps := self.gaps():
            found.append(f"the stream {self.name}, which ends at {self.last}, lacks {in_words(gaps)}")
        if self.limits:
            found.append(f"the stream {self.name} may lose messages: {'; '.join(self.limits)}")
        return found


class StoreCondition(Struct, frozen=True):
    """What the broker reports of the two streams of an installation."""

    events: StreamCondition
    blobs: StreamCondition

    def problems(self) -> list[str]:
        """Return in words what is wrong with the streams."""
        return self.events.problems() + self.blobs.problems()


class RestoredLimits(Struct, frozen=True):
    """Settings of a stream that let messages fall out, put back; `problem` says why the broker refused that."""

    stream: str
    settings: list[str]
    problem: str = ""


def ranges_of(sequences: Iterable[int]) -> Ranges:
    """Return sorted sequences as ranges."""
    found: Ranges = []
    for seq in sequences:
        if found and seq == found[-1][1] + 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def bounded(ranges: Ranges) -> Ranges:
    """Return at most MOST_RANGES ranges that reach over the same sequences."""
    if len(ranges) <= MOST_RANGES:
        return ranges
    return [*ranges[: MOST_RANGES - 1], (ranges[MOST_RANGES - 1][0], ranges[-1][1])]


def count_of(ranges: Ranges) -> int:
    """Return how many sequences the ranges have."""
    return sum(last - first + 1 for first, last in ranges)


def in_words(ranges: Sequence[tuple[int, int]]) -> str:
    """Return ranges for people."""
    listed = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges]
    single = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return f"sequence{'' if single else 's'} {', '.join(listed)}"
