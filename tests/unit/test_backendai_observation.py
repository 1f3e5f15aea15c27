"""What a session's end is, from what is seen of it: each row of the tables of states, in any order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.session import observation
from trackbook.adapters.backendai.session.exit_record import Claim, SessionRecord
from trackbook.adapters.backendai.session.observation import Observation
from trackbook.adapters.execution.outcome import Verdict

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIVE = (
    "PENDING",
    "SCHEDULED",
    "PREPARING",
    "PULLING",
    "PREPARED",
    "CREATING",
    "RUNNING",
    "RUNNING_DEGRADED",
    "RESTARTING",
    "TERMINATING",
    "ERROR",
    "PREEMPTED",
    "SOMETHING_NEW",
)


def session(status: str, info: str = "", result: str = "UNDEFINED", **data: Any) -> Session:
    """Return what a manager says."""
    return Session("s1", "tb-1", status, info, result, status_data=data)


def ended(exit_code: int | None = 0, signal: int | None = None, *, stopped: bool = False) -> SessionRecord:
    """Return a record."""
    return SessionRecord(
        attempt=1, ended_at=AT, started_at=AT, session="s1", exit_code=exit_code, signal=signal, stopped=stopped
    )


def verdict(observed: Observation) -> Verdict:
    """Return the verdict, which there has to be."""
    found = observation.verdict(observed)
    assert found
    return found


def test_a_folder_that_was_deleted_is_no_command_that_did_not_run() -> None:
    """Without the folder there can be no claim: that the session ran is then the manager's word."""
    ran = replace(
        session("TERMINATED", "task-failed", "FAILURE"), history={"RUNNING": "2026-11-24T12:00:00+00:00"}
    )
    never = session("TERMINATED", "task-failed", "FAILURE")

    found = verdict(Observation(session=ran, no_record=True, folder_removed=True))
    assert (found.outcome, "folder was deleted" in found.message) == ("lost", True)
    found = verdict(Observation(session=never, no_record=True, folder_removed=True))
    assert (found.outcome, "did not run" in found.message) == ("failed", True)


@pytest.mark.parametrize("status", LIVE)
def test_no_state_but_the_last_ones_is_an_end(status: str) -> None:
    """As long as a session may run there is no verdict, however the manager calls that, and whatever it says."""
    for result in ("UNDEFINED", "SUCCESS", "FAILURE"):
        assert (
            observation.verdict(Observation(session=session(status, "task-finished", result), no_record=True))
            is None
        )
        assert observation.verdict(Observation(session=session(status), asked=True, because="late")) is None


@pytest.mark.parametrize("status", [*LIVE, "TERMINATED", "CANCELLED"])
@pytest.mark.parametrize("result", ["UNDEFINED", "SUCCESS", "FAILURE"])
def test_the_record_counts_before_the_manager(status: str, result: str) -> None:
    """Whatever the manager says, the exit code that the wrapper left is the command's."""
    seen = session(status, "user-requested", result)
    assert verdict(Observation(session=seen, record=ended(0))).outcome == "succeeded"
    failed = verdict(Observation(session=seen, record=ended(3)))
    assert (failed.outcome, failed.exit_code, failed.fault) == ("failed", 3, "")
    assert failed.message == "the command ended with exit code 3"


@pytest.mark.parametrize(
    ("record", "observed", "outcome", "words", "fault"),
    [
        (ended(None, 9), Observation(), "failed", "ended by SIGKILL", ""),
        (ended(None, 64), Observation(), "failed", "SIGRTMAX", ""),
        (ended(None, 63), Observation(), "failed", "signal 63", ""),
        (ended(None, 15, stopped=True), Observation(asked=True), "cancelled", "on request", ""),
        (ended(1, stopped=True), Observation(asked=True), "cancelled", "on request", ""),
        (ended(None, 9), Observation(asked=True), "cancelled", "on request", ""),
        (ended(0, stopped=True), Observation(asked=True), "succeeded", "", ""),
        (ended(1), Observation(asked=True), "failed", "exit code 1", ""),
        (ended(None, 15, stopped=True), Observation(), "failed", "not by this job", "infrastructure"),
        (ended(None, 15, stopped=True), Observation(because="too long"), "failed", "too long", "infrastructure"),
        (ended(None, 15), Observation(because="dumb", silent=True), "lost", "dumb", "infrastructure"),
    ],
)
def test_how_commands_end(
    record: SessionRecord, observed: Observation, outcome: str, words: str, fault: str
) -> None:
    """A signal is a failure, unless it came from us."""
    found = verdict(replace(observed, record=record))
    assert (found.outcome, found.fault) == (outcome, fault)
    assert words in found.message
    assert (found.exit_code, found.signal, found.ended_at) == (record.exit_code, record.signal, AT)


CLAIM = Claim("s1", "k1", AT)


@pytest.mark.parametrize(
    ("seen", "observed", "outcome", "words", "fault"),
    [
        # exit 0 and exit 3, without what the wrapper should have left
        (
            session("TERMINATED", "task-finished", "SUCCESS"),
            Observation(claim=CLAIM),
            "lost",
            "exit code",
            "infrastructure",
        ),
        (
            session("TERMINATED", "task-finished", "FAILURE"),
            Observation(claim=CLAIM),
            "lost",
            "FAILURE",
            "infrastructure",
        ),
        (
            session("TERMINATED", "task-failed", "FAILURE"),
            Observation(claim=CLAIM),
            "lost",
            "killed",
            "infrastructure",
        ),
        (
            session("TERMINATED", "task-failed", "FAILURE"),
            Observation(),
            "failed",
            "did not run",
            "infrastructure",
        ),
        # cannot start
        (
            session("CANCELLED", "failed-to-start", error={"name": "Boom", "repr": "Boom('no  disk')"}),
            Observation(),
            "failed",
            "could not start: Boom('no disk')",
            "infrastructure",
        ),
        (
            session("CANCELLED", "failed-to-start", error={"collection": [{"name": "A"}, {"repr": "B()"}]}),
            Observation(),
            "failed",
            "could not start: A; B()",
            "infrastructure",
        ),
        (session("CANCELLED"), Observation(), "failed", "could not start: cancelled", "infrastructure"),
        # the same on 26.8, whose manager keeps nothing of what the agent says
        (
            session("TERMINATED"),
            Observation(),
            "failed",
            "(TERMINATED): the cluster does not say why",
            "infrastructure",
        ),
        (
            session("TERMINATED", error={"repr": "B()"}),
            Observation(),
            "failed",
            "(TERMINATED): B()",
            "infrastructure",
        ),
        # destroyed, by us and by others; the result may come late
        (session("TERMINATED", "user-requested"), Observation(asked=True), "cancelled", "on request", ""),
        (
            session("TERMINATED", "user-requested", "FAILURE"),
            Observation(asked=True),
            "cancelled",
            "on request",
            "",
        ),
        (session("TERMINATED", "force-terminated"), Observation(asked=True), "cancelled", "on request", ""),
        (session("CANCELLED", "user-requested"), Observation(asked=True), "cancelled", "on request", ""),
        (session("TERMINATED", "user-requested"), Observation(), "failed", "not by this job", "infrastructure"),
        (
            session("TERMINATED", "force-terminated"),
            Observation(claim=CLAIM),
            "failed",
            "not by this job",
            "infrastructure",
        ),
        (session("CANCELLED", "user-requested"), Observation(because="late"), "failed", "late", "infrastructure"),
        (
            session("TERMINATED", "user-requested"),
            Observation(because="dumb", silent=True),
            "lost",
            "dumb",
            "infrastructure",
        ),
        # run by another session of the name
        (
            session("TERMINATED", "task-finished", "FAILURE"),
            Observation(claim=Claim("s0")),
            "lost",
            "another session, s0",
            "unknown",
        ),
    ],
)
def test_ends_without_a_record(
    seen: Session, observed: Observation, outcome: str, words: str, fault: str
) -> None:
    """What the manager says counts once the record is known not to be there; the cause is in words."""
    assert observation.verdict(replace(observed, session=seen)) is None
    found = verdict(replace(observed, session=seen, no_record=True))
    assert (found.outcome, found.fault) == (outcome, fault)
    assert words in found.message


def test_a_session_that_the_manager_has_forgotten() -> None:
    """A session that is no more, without a record, is lost; it was cancelled where that was asked for."""
    assert observation.verdict(Observation(gone=True)) is None
    assert verdict(Observation(gone=True, no_record=True)).outcome == "lost"
    assert verdict(Observation(session=session("RUNNING"), gone=True, no_record=True)).fault == "unknown"
    assert verdict(Observation(gone=True, no_record=True, asked=True)).outcome == "cancelled"


def test_a_fenced_attempt() -> None:
    """An attempt whose claim we hold has been cancelled once there is no session, or that one has ended."""
    assert (
        verdict(Observation(fenced=True, asked=True)).message
        == "the session was stopped before its command began"
    )
    assert observation.verdict(Observation(fenced=True, asked=True, session=session("PREPARING"))) is None
    done = verdict(
        Observation(fenced=True, asked=True, session=session("TERMINATED", "task-finished", "FAILURE"))
    )
    assert (done.outcome, done.started_at) == ("cancelled", None)
    assert verdict(Observation(fenced=True, because="late", session=session("CANCELLED"))).outcome == "failed"


def test_a_cluster_that_does_not_confirm() -> None:
    """What was given up waiting for is cancelled where that was asked for, and lost where it wasn't."""
    running = Observation(session=session("TERMINATING"), given_up="it does not say")
    assert verdict(running).outcome == "lost"
    found = verdict(replace(running, asked=True))
    assert (found.outcome, found.message) == ("cancelled", "the session was stopped on request; it does not say")
    assert verdict(replace(running, because="dumb")).message == "dumb; it does not say"
    assert verdict(replace(running, fenced=True, asked=True)).message.endswith("began; it does not say")
    assert verdict(replace(running, record=ended(0))).outcome == "succeeded"


STORIES = [
    ([*LIVE[:7], "TERMINATING"], session("TERMINATED", "task-finished", "SUCCESS"), ended(0)),
    ([*LIVE[:7]], session("TERMINATED", "task-finished", "FAILURE"), ended(3)),
    (["PENDING", "PREPARING"], session("CANCELLED", "failed-to-start"), None),
    (["RUNNING", "TERMINATING", "CREATING", "RUNNING"], session("TERMINATED", "user-requested"), None),
]


@given(st.data())
def test_the_order_of_what_is_seen_does_not_matter(data: st.DataObject) -> None:
    """However observations are mixed and doubled, once all are in the verdict is the same."""
    statuses, last, record = data.draw(st.sampled_from(STORIES))
    late = replace(last, result="FAILURE" if last.result == "UNDEFINED" else last.result)
    said = [*map(session, statuses), last, late]
    order = data.draw(st.permutations([*said, *said[: data.draw(st.integers(0, len(said)))]]))
    observed = Observation(claim=CLAIM if record else None)
    for seen in order:
        observed = observation.with_session(observed, seen)
        if not observed.ended:
            assert observation.verdict(observed) is None
    observed = replace(observed, record=record, no_record=record is None)
    expected = Observation(session=late, claim=observed.claim, record=record, no_record=record is None)
    assert verdict(observed) == verdict(expected)


def test_a_last_word_stands() -> None:
    """After the manager's last word nothing counts but its result, which may come late."""
    last = session("TERMINATED", "user-requested")
    observed = observation.with_session(Observation(), last)
    assert observation.with_session(observed, session("RUNNING")).session == last
    late = replace(last, result="FAILURE")
    assert observation.with_session(observed, late).session == late
    assert observation.with_session(observation.with_session(observed, late), last).session == late


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (session("PENDING"), ("PENDING", "")),
        (session("PENDING", "no-available-instances"), ("PENDING", "no agent has enough left")),
        (
            session("PENDING", "no-available-instances", scheduler={"msg": "no  agents", "retries": 3}),
            ("PENDING", "no agent has enough left · no agents"),
        ),
        (
            session(
                "PENDING",
                "predicate-checks-failed",
                scheduler={
                    "retries": 7,
                    "failed_predicates": [
                        {"name": "keypair_resource_limit", "msg": "quota\nexceeded"},
                        {"name": "reserved_time"},
                    ],
                },
            ),
            ("PENDING", "keypair_resource_limit: quota exceeded · reserved_time"),
        ),
        (session("RUNNING", "scheduled"), ("RUNNING", "")),
        (session("PULLING", "pulling"), ("PULLING", "pulling")),
        (session("TERMINATING", "user-requested"), ("TERMINATING", "")),
    ],
)
def test_why_a_session_waits(seen: Session, expected: tuple[str, str]) -> None:
    """The status is reported as the cluster names it, with what keeps the session there."""
    assert observation.status_and_why(seen) == expected


def test_sessions_that_could_not_be_made() -> None:
    """A refusal is reported in the manager's words, with whose failure it is."""
    found = observation.refusal_verdict(ClusterError("main", "permanent", "object-not-found", "No such image."))
    assert found.message == "the session could not be made: cluster 'main': No such image."
    assert (found.outcome, found.fault) == ("failed", "permanent")
    found = observation.refusal_verdict(ClusterError("main", "operator", "auth-failed", "Key."), after=900)
    assert found.message == "the session could not be made, tried for 15 minutes: cluster 'main': Key."
