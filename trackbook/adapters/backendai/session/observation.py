"""Decide how an attempt ended from what was observed of its session; pure, in whatever order it was observed."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.session import unpacking
from trackbook.adapters.backendai.session.exit_record import Claim, SessionRecord
from trackbook.adapters.execution import outcome
from trackbook.adapters.execution.outcome import Verdict
from trackbook.engine.job import Outcome
from trackbook.events.job import Fault

_ENDED_BY_SOMEBODY = ("user-requested", "force-terminated")
_NEVER_RAN = "failed-to-start"
_UNDECIDED = ("", "UNDEFINED")


class Observation(Struct, frozen=True, kw_only=True):
    """What was seen of one attempt's session, and what we did to it.

    `session` is the manager's latest word, its last one once there was one; `gone`: it knows no such session;
    `no_record`: there was no exit record when the session had ended, `folder_removed`: nor the pipeline's folder,
    in which it would be. `fenced`: we hold the claim, so that the
    command will never run. `asked`: the engine wants it ended; `because`: we do, and why, `silent` for want of a
    sign of life. `given_up` says why we no longer wait for the manager's word that it has ended.
    """

    session: Session | None = None
    gone: bool = False
    record: SessionRecord | None = None
    claim: Claim | None = None
    no_record: bool = False
    folder_removed: bool = False
    fenced: bool = False
    asked: bool = False
    because: str = ""
    silent: bool = False
    given_up: str = ""

    @property
    def ended(self) -> bool:
        """Whether the manager says that there is nothing any more which could run."""
        return self.gone or (self.session is not None and self.session.final)

    @property
    def running(self) -> bool:
        """Whether the session's command can be running, as far as the manager says."""
        return self.session is not None and not self.session.final and "RUNNING" in self.session.status

    @property
    def has_run(self) -> bool:
        """Whether the manager ever said that the session runs."""
        return self.session is not None and "RUNNING" in self.session.history


def with_session(observed: Observation, seen: Session) -> Observation:
    """Add what the manager says of the session; after a last word only its result may still come."""
    before = observed.session
    if before is not None and before.final and not (seen.final and before.result in _UNDECIDED):
        return observed
    return replace(observed, session=seen)


def verdict(observed: Observation) -> Verdict | None:
    """Return how the attempt ended, None while that can't be known yet.

    The exit record counts before all that the manager says. Without one the manager has to have said its last
    word, and the record must have been looked for since.
    """
    if observed.record is not None:
        return _by_record(observed, observed.record)
    if observed.fenced and (observed.ended or observed.session is None or observed.given_up):
        return _never_ran(observed)
    if observed.ended and observed.no_record:
        return _by_manager(observed)
    if observed.given_up:
        return _without_end(observed)
    return None


def refusal_verdict(error: ClusterError, *, after: float = 0) -> Verdict:
    """Return the end of an attempt whose session could not be made in `after` seconds."""
    tried = f", tried for {duration(after)}" if after else ""
    return Verdict("failed", f"the session could not be made{tried}: {error}", error.kind)


def status_and_why(session: Session) -> tuple[str, str]:
    """Return the status as Backend.AI names it, and what keeps the session there where the manager tells."""
    if session.status in ("RUNNING", "TERMINATING"):
        return session.status, ""
    scheduler = session.status_data.get("scheduler")
    words = [_WORDS.get(session.status_info, session.status_info)]
    if isinstance(scheduler, dict):
        failed = [each for each in scheduler.get("failed_predicates") or [] if isinstance(each, dict)]
        words += [
            f"{each.get('name')}: {each['msg']}" if each.get("msg") else str(each.get("name")) for each in failed
        ]
        if not failed and scheduler.get("msg"):
            words.append(str(scheduler["msg"]))
    return session.status, " · ".join(" ".join(word.split()) for word in words if word)[:500]


_WORDS = {"no-available-instances": "no agent has enough left", "predicate-checks-failed": "", "scheduled": ""}


def _by_record(observed: Observation, record: SessionRecord) -> Verdict:
    def ended(outcome: Outcome, message: str = "", fault: Fault = "") -> Verdict:
        return Verdict(
            outcome, message, fault, record.ended_at, record.started_at, record.exit_code, record.signal
        )

    if record.exit_code == 0:
        return ended("succeeded")
    if record.stopped or (record.signal is not None and (observed.asked or observed.because)):
        if observed.asked:
            return ended("cancelled", "the session was stopped on request")
        if observed.because:
            return ended("lost" if observed.silent else "failed", observed.because, "infrastructure")
        return ended("failed", "the session was ended on the cluster, not by this job", "infrastructure")
    return _not_run(record) if record.problem else outcome.verdict(record)


def _not_run(record: SessionRecord) -> Verdict:
    """Return the end of an attempt that did not get its code."""
    message = f"the code can't be unpacked: {record.problem}"
    fault: Fault = "permanent" if record.exit_code == unpacking.NO_TOOL else "infrastructure"
    return Verdict("failed", message, fault, record.ended_at)


def _never_ran(observed: Observation) -> Verdict:
    at = observed.session.terminated_at if observed.session else None
    if observed.because and not observed.asked:
        return Verdict("failed", observed.because, "infrastructure", at)
    left = f"; {observed.given_up}" if observed.given_up else ""
    return Verdict("cancelled", f"the session was stopped before its command began{left}", "", at)


def _by_manager(observed: Observation) -> Verdict:
    """Return the end of a session that left no record."""
    session = observed.session
    outcome, message, fault = _wanted_end(observed) or _unwanted_end(observed)
    at = session.terminated_at if session else None
    return Verdict(outcome, message, fault, at, observed.claim.started_at if observed.claim else None)


def _wanted_end(observed: Observation) -> tuple[Outcome, str, Fault] | None:
    if observed.asked:
        return "cancelled", "the session was stopped on request", ""
    if observed.because:
        return "lost" if observed.silent else "failed", observed.because, "infrastructure"
    return None


def _unwanted_end(observed: Observation) -> tuple[Outcome, str, Fault]:
    session, claim = observed.session, observed.claim
    if session is None or not session.final:
        return "lost", "the cluster knows the session no more, and it left no exit record", "unknown"
    if claim and claim.session and claim.session != session.id:
        other = f"the attempt was run by another session, {claim.session}"
        return "lost", f"{other}, which left no exit record", "unknown"
    info = session.status_info
    how = ", ".join(word for word in (info, session.result) if word not in _UNDECIDED) or session.status
    if info in _ENDED_BY_SOMEBODY:
        message = f"the session was ended on the cluster, not by this job ({info})"
    elif info == _NEVER_RAN or (session.status == "CANCELLED" and claim is None):
        message = f"the session could not start: {problem(session) or info or 'cancelled'}"
    elif observed.folder_removed and observed.has_run:
        message = (
            "the pipeline's folder was deleted on the cluster while the task ran, and its exit code and outputs"
            f" with it ({how}); it is not run again"
        )
        return "lost", message, "infrastructure"
    elif claim is None:
        # 26.8 drops what an agent says that can't start a session.
        why = problem(session) or ("" if info else "the cluster does not say why")
        message = f"the command did not run: the session ended without it ({how})" + (f": {why}" if why else "")
    else:
        message = (
            f"the session ended without leaving its exit code ({how}): it was killed, for want of memory"
            " say, or its node died; it is not run again"
        )
        return "lost", message, "infrastructure"
    return "failed", message, "infrastructure"


def _without_end(observed: Observation) -> Verdict:
    """Return the end of a session of which we no longer wait to hear."""
    began = observed.claim.started_at if observed.claim else None
    if observed.asked:
        return Verdict("cancelled", f"the session was stopped on request; {observed.given_up}", "", None, began)
    words = f"{observed.because}; {observed.given_up}" if observed.because else observed.given_up
    return Verdict("lost", words, "infrastructure", None, began)


def problem(session: Session) -> str:
    """Return why a session failed, in the manager's words, '' where it tells nothing."""
    found = [*_problems(session.status_data.get("error"))]
    for container in session.containers:
        found += _problems(container.status_data.get("error"))
    return "; ".join(dict.fromkeys(found))[:1000]


def _problems(error: Any) -> list[str]:
    if not isinstance(error, dict):
        return []
    inner = [each for each in error.get("collection") or [] if isinstance(each, dict)]
    return [" ".join(str(each.get("repr") or each.get("name") or "").split()) for each in inner or [error]]


def duration(seconds: float) -> str:
    """Return so many seconds in words."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
