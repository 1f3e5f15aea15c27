"""A job in stories: every command and report, every reaction of the saga."""

from __future__ import annotations

from typing import Any

from simulation.core import core
from simulation.story import (
    A_FAILED,
    EXIT_3,
    JOB,
    ON_REQUEST,
    OOM,
    RUNNING,
    at,
    begins,
    cancelled,
    created,
    ends,
    failed,
    fold,
    given,
    launched,
    shapes,
    start,
    started,
    stopping,
    succeeded,
)

from trackbook.engine.decider import Decision
from trackbook.engine.job import (
    CancelJob,
    PauseJob,
    ResumeJob,
    StartJob,
)
from trackbook.events.job import (
    JobCancelled,
    JobCancelRequested,
    JobCreated,
    JobFailed,
    JobPaused,
    JobResumed,
    JobStarted,
    JobSucceeded,
    TaskSkipped,
)

# Names ----------------------------------------------------------------------------------------------------------


def test_a_session_is_named_after_its_job() -> None:
    """The job's id can be read from the name of any of its sessions, whatever the id looks like."""
    names = core().names
    for id_ in ("j", "4f1e-9a", "tb-1-2-3"):
        assert names["job_of"](names["session_name"](id_, 7, 2)) == id_


# Starting ---------------------------------------------------------------------------------------------------


def test_starting_a_job_launches_what_depends_on_nothing() -> None:
    """A new job launches every task without dependencies, in the same commit, and holds back the others."""
    given().when(start("a", "b<a", "c")).then(created("a", "b<a", "c"), launched("a"), launched("c")).because(
        0, 1, 1
    ).leaving("pending", a="launching", b="pending", c="launching")


def test_a_job_keeps_all_that_it_was_started_with() -> None:
    """The creation names the pipeline, its version and content, the executor and the parameters."""
    graph = shapes("a!")
    given().when(StartJob("p9", "eval", 7, "beef", graph, "cluster", {"lr": "0.1"})).then(
        JobCreated("p9", "eval", 7, "beef", graph, "cluster", {"lr": "0.1"}), TaskSkipped("a"), JobSucceeded()
    )


def test_a_job_without_tasks_succeeds_at_once() -> None:
    """A job of no tasks has nothing to wait for."""
    given().when(start()).then(created(), JobSucceeded()).leaving("succeeded")


def test_skipped_tasks_count_as_done() -> None:
    """A task marked skip never gets a session, and what depends on it is launched in the same commit."""
    given().when(start("a!", "b<a")).then(created("a!", "b<a"), TaskSkipped("a"), launched("b")).because(
        0, 1, 1
    ).leaving("pending", a="skipped", b="launching")


def test_a_job_of_skipped_tasks_succeeds_once() -> None:
    """A job that skips everything ends in its first commit, with one terminal event."""
    given().when(start("a!", "b!", "c!<a,b")).then(
        created("a!", "b!", "c!<a,b"), TaskSkipped("a"), TaskSkipped("b"), TaskSkipped("c"), JobSucceeded()
    ).because(0, 1, 1, 1, -4)


def test_a_skipped_task_waits_for_its_dependencies() -> None:
    """A task marked skip is done only once everything before it is."""
    given().when(start("a", "b!<a", "c<b")).then(created("a", "b!<a", "c<b"), launched("a"))
    given(created("a", "b!<a", "c<b"), launched("a"), started("a"), JobStarted(at(1))).when(ends("a")).then(
        *succeeded("a"), TaskSkipped("b"), launched("c")
    ).because(0, -1, 1, 1)


def test_a_job_is_created_once() -> None:
    """Starting a job that exists is refused."""
    given(created("a"), launched("a")).when(start("a")).refused("job_exists", JOB)


def test_a_commit_takes_what_it_has_room_for() -> None:
    """What is due beyond that stays ready, in its order."""
    reported = given().when(start("a", "b", "c", "d"), room=2)
    reported.then(created("a", "b", "c", "d"), launched("a"), launched("b"))
    assert list(reported.leaving(a="launching", b="launching", c="ready", d="ready").state.ready) == ["c", "d"]


def test_skipped_tasks_take_room_as_well() -> None:
    """However many skipped tasks release others, their commit grows no larger than any other."""
    given().when(start("a!", "b!", "c<a", "d<a", "e<b"), room=3).then(
        created("a!", "b!", "c<a", "d<a", "e<b"), TaskSkipped("a"), TaskSkipped("b"), launched("c")
    ).leaving("pending", c="launching", d="ready", e="ready")


def test_causes_are_counted_within_the_commit() -> None:
    """Events that join a commit name their input by its index and other events by their place in it."""
    decision = Decision[Any, Any](fold(created("a", "b", "c!<b"), launched("a"), launched("b")))
    for index, report in enumerate((begins("a"), ends("b", started_at=at(1)), ends("a"))):
        assert core().answer(core().decider, decision, report, index)
    assert core().take_due(core().decider, decision, 3, 10)
    assert decision.events == [
        *(started("a"), JobStarted(at(1))),
        *(started("b"), *succeeded("b"), *succeeded("a")),
        *(TaskSkipped("c"), JobSucceeded()),
    ]
    assert decision.causes == [0, -1, 1, 1, -4, 2, -6, 3, -8]


def test_a_step_answers_one_command() -> None:
    """It takes nothing of what is due: that is for the owner of a commit to do."""
    state, events, causes = core().step(core().decider, fold(created("a", "b"), launched("a")), begins("a"))
    assert (events, causes) == ([started("a"), JobStarted(at(1))], [0, -1])
    assert (state.status, state.tasks["b"].status) == ("running", "ready")


# What is due --------------------------------------------------------------------------------------------------


def test_what_is_due_is_taken_without_a_word() -> None:
    """What stayed ready is launched by the next commits, as much as each has room for."""
    history = (created("a", "b", "c", "d"), launched("a"))
    given(*history).when(None, room=2).then(launched("b"), launched("c")).because(0, 0)
    given(*history, launched("b"), launched("c")).when(None, room=2).then(launched("d"))


def test_what_is_due_follows_all_that_was_said() -> None:
    """Whatever ends or pauses a job keeps what was ready from being launched by the same commit."""
    history = (created("a", "b"), launched("a"))
    given(*history).when(CancelJob()).then(ON_REQUEST, stopping("a"))
    given(*history).when(PauseJob("later")).then(JobPaused("later"))


def test_skipped_tasks_release_what_follows() -> None:
    """A task that is skipped late releases its successors like any other."""
    given(created("a", "b!", "c<b"), launched("a")).when(None).then(TaskSkipped("b"), launched("c")).because(0, 0)


def test_nothing_is_due_when_nothing_is_ready() -> None:
    """A job that was never created, has nothing ready, or is to end adds nothing by itself."""
    given().when(None).then_nothing()
    given(created("a", "b<a"), launched("a")).when(None).then_nothing()
    given(created("a", "b"), launched("a"), ON_REQUEST, stopping("a")).when(None).then_nothing()


# Pausing ------------------------------------------------------------------------------------------------------


def test_a_paused_job_launches_nothing() -> None:
    """What runs goes on, what becomes ready meanwhile waits, and nothing is due."""
    history = (created("a", "b<a", "c"), launched("a"), launched("c"), started("a"), JobStarted(at(1)))
    given(*history).when(PauseJob("at night")).then(JobPaused("at night")).leaving("paused", a="running")
    paused = (*history, JobPaused("at night"))
    given(*paused).when(ends("a")).then(*succeeded("a")).leaving("paused", a="succeeded", b="ready")
    given(*paused, *succeeded("a")).when(None).then_nothing()


def test_a_resumed_job_launches_what_became_ready() -> None:
    """It goes on as if it had never been paused: running if it had begun, else pending."""
    history = (created("a", "b<a", "c!<a"), launched("a"), started("a"), JobStarted(at(1)), JobPaused("later"))
    given(*history, *succeeded("a")).when(ResumeJob()).then(
        JobResumed(), launched("b"), TaskSkipped("c")
    ).because(0, 1, 1).leaving("running", b="launching", c="skipped")
    given(created("a"), launched("a"), JobPaused("later")).when(ResumeJob()).then(JobResumed()).leaving("pending")


def test_a_job_that_begins_while_it_is_paused_stays_paused() -> None:
    """Its start is reported, and it is running once it is resumed."""
    history = (created("a", "b"), launched("a"), launched("b"), JobPaused("later"))
    given(*history).when(begins("a")).then(started("a"), JobStarted(at(1))).leaving("paused", a="running")
    begun = (*history, started("a"), JobStarted(at(1)))
    given(*begun).when(begins("b")).then(started("b")).leaving("paused")
    given(*begun).when(ResumeJob()).then(JobResumed()).leaving("running")


def test_a_paused_job_ends_with_what_runs() -> None:
    """Its last success, a failure and a cancel end it as they end any job."""
    history = (created("a"), launched("a"), started("a"), JobStarted(at(1)), JobPaused("later"))
    given(*history).when(ends("a")).then(*succeeded("a"), JobSucceeded()).leaving("succeeded")
    given(*history).when(ends("a", "failed", message="exit code 3", exit_code=3)).then(
        *failed("a", EXIT_3), A_FAILED, JobFailed("a", EXIT_3)
    ).leaving("failed")
    given(*history).when(CancelJob()).then(ON_REQUEST, stopping("a")).leaving("cancelling")


def test_pausing_and_resuming_again_change_nothing() -> None:
    """A command that comes twice, or for what is so already, is taken and leaves all as it is."""
    given(*RUNNING, JobPaused("later")).when(PauseJob()).then_nothing()
    given(*RUNNING).when(ResumeJob()).then_nothing()


def test_what_ends_or_is_not_there_is_neither_paused_nor_resumed() -> None:
    """The refusal says why."""
    for command in (PauseJob(), ResumeJob()):
        given().when(command).refused("job_not_found", JOB)
        given(created("a"), launched("a"), *succeeded("a"), JobSucceeded()).when(command).refused(
            "job_ended", "succeeded"
        )
        given(created("a"), launched("a"), ON_REQUEST, stopping("a")).when(command).refused(
            "job_cancelling", "on request"
        )
        given(*RUNNING, *failed("a", OOM), A_FAILED, stopping("b")).when(command).refused("job_failing", "failed")


# Cancelling -------------------------------------------------------------------------------------------------


def test_cancelling_stops_what_runs() -> None:
    """A cancelled job stops each live session and waits until they are gone."""
    given(created("a", "b", "c<a"), launched("a"), launched("b"), started("b"), JobStarted(at(1))).when(
        CancelJob()
    ).then(ON_REQUEST, stopping("a"), stopping("b")).because(0, -1, -1).leaving(
        "cancelling", a="launching", b="running", c="cancelled"
    )


def test_cancelling_keeps_the_reason() -> None:
    """The reason of a cancel stands in its request and in the job's end."""
    given(created("a")).when(CancelJob("wrong data")).then(
        JobCancelRequested("wrong data"), JobCancelled("wrong data")
    )


def test_cancelling_a_job_without_sessions_ends_it() -> None:
    """A job that has nothing live is cancelled at once, and what was ready is never launched."""
    reported = given(created("a", "b<a")).when(CancelJob())
    reported.then(ON_REQUEST, JobCancelled("on request")).leaving("cancelled", a="cancelled", b="cancelled")
    assert not reported.state.ready


def test_cancelling_leaves_what_is_done() -> None:
    """A task that ended, or was skipped, before a cancel stays as it is and is not stopped."""
    history = (created("a", "b!", "c"), launched("a"), TaskSkipped("b"), launched("c"), *succeeded("a"))
    given(*history).when(CancelJob()).then(ON_REQUEST, stopping("c")).leaving(a="succeeded", b="skipped")


def test_cancelling_twice_changes_nothing() -> None:
    """A job that is ending already isn't asked to a second time, whoever asked first."""
    given(*RUNNING, ON_REQUEST, stopping("a"), stopping("b")).when(CancelJob("again")).then_nothing()
    given(*RUNNING, *failed("a", OOM), A_FAILED, stopping("b")).when(CancelJob()).then_nothing()


def test_cancelling_needs_a_job() -> None:
    """Cancelling a job that was never created is refused."""
    given().when(CancelJob()).refused("job_not_found", JOB)


def test_an_ended_job_is_not_cancelled() -> None:
    """Cancelling a job after its end is refused, whatever the end was."""
    ended = (created("a"), launched("a"), started("a"))
    given(*ended, *succeeded("a"), JobSucceeded()).when(CancelJob()).refused("job_ended", "succeeded")
    given(*ended, *failed("a", OOM), A_FAILED, JobFailed("a", OOM)).when(CancelJob()).refused(
        "job_ended", "failed"
    )
    given(*ended, ON_REQUEST, stopping("a"), *cancelled("a"), JobCancelled("on request")).when(
        CancelJob()
    ).refused("job_ended", "cancelled")


# Folding ----------------------------------------------------------------------------------------------------


def test_folding_never_reacts() -> None:
    """A history that stops in the middle is folded as it is: nothing is added to it."""
    assert fold(created("a", "b"), launched("a")).tasks["b"].status == "ready"
    assert fold(*RUNNING, *failed("a", OOM)).status == "running"


def test_outstanding_is_what_may_be_live() -> None:
    """Exactly the sessions that were launched and are not confirmed gone are outstanding, stopped or not."""
    history = (
        created("a", "b", "c", "d"),
        launched("a"),
        launched("b"),
        launched("c"),
        started("b"),
        *succeeded("c"),
    )
    state = fold(*history, ON_REQUEST, stopping("a"))
    assert [(task.shape.name, task.stop_requested) for task in state.live()] == [("a", True), ("b", False)]
    assert state.tasks["a"].session == "tb-j1-0-1"


def test_a_job_knows_whether_it_ended() -> None:
    """A job has ended with its terminal event and never before."""
    assert not any(fold(*RUNNING[:length]).ended for length in range(len(RUNNING) + 1))
    assert not fold(*RUNNING, ON_REQUEST).ended
    for last in (JobSucceeded(), JobFailed("a", OOM), JobCancelled("on request")):
        assert fold(*RUNNING, last).ended


def test_a_job_that_runs_launches_what_is_due() -> None:
    """A job may have begun before all that was ready was launched."""
    given(created("a", "b"), launched("a"), started("a"), JobStarted(at(1))).when(None).then(launched("b"))
