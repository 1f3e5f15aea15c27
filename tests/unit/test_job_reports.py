"""A job reported in stories: what executors report, and every reaction of the saga."""

from __future__ import annotations

from simulation.story import (
    A_FAILED,
    EXIT_3,
    ON_REQUEST,
    OOM,
    RUNNING,
    at,
    attempt_cancelled,
    attempt_failed,
    attempt_succeeded,
    begins,
    cancelled,
    created,
    ends,
    failed,
    given,
    launched,
    started,
    stopping,
    succeeded,
)

from trackbook.engine.job import (
    CancelJob,
    ReportTaskEnded,
    ReportTaskStarted,
    ReportTaskStatus,
)
from trackbook.events.job import (
    AttemptCancelled,
    AttemptFailed,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobStarted,
    JobSucceeded,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskStarted,
    TaskStatusReported,
    TaskStopRequested,
    TaskSucceeded,
)

# Reports of a start -----------------------------------------------------------------------------------------


def test_the_first_start_starts_the_job() -> None:
    """The job runs from the moment that its first command began."""
    given(created("a", "b"), launched("a"), launched("b")).when(begins("b")).then(
        started("b"), JobStarted(at(1))
    ).because(0, -1).leaving("running", a="launching", b="running")


def test_a_later_start_starts_only_its_task() -> None:
    """A job that runs isn't started again."""
    given(*RUNNING[:-1]).when(begins("b")).then(started("b")).leaving("running", b="running")


def test_a_start_is_reported_once() -> None:
    """A doubled report of a start changes nothing, even with another time."""
    given(*RUNNING).when(begins("a")).then_nothing()
    given(*RUNNING).when(ReportTaskStarted("a", 1, at(5))).then_nothing()


def test_a_start_while_the_job_ends_is_still_reported() -> None:
    """A launch that raced a cancel shows as started, and doesn't bring the job back to life."""
    given(created("a"), launched("a"), ON_REQUEST, stopping("a")).when(begins("a")).then(started("a")).leaving(
        "cancelling", a="running"
    )


def test_reports_for_another_attempt_change_nothing() -> None:
    """Only the attempt that is live now can be reported on, neither one before it nor one after."""
    for attempt in (0, 2):
        given(*RUNNING[:3]).when(begins("a", attempt)).then_nothing()
        given(*RUNNING[:3]).when(ReportTaskStatus("a", attempt, "PULLING")).then_nothing()
    given(created("a"), launched("a", 2)).when(ends("a")).then_nothing()
    given(created("a"), launched("a", 2)).when(begins("a", 2)).then(
        started("a").__class__("a", 2, at(1)), JobStarted(at(1))
    )


def test_reports_on_what_is_not_there_change_nothing() -> None:
    """A report for a job that was never created, an unknown task, or a task not launched is a no-op."""
    given().when(begins("a")).then_nothing()
    given(created("a"), launched("a")).when(ends("z")).then_nothing()
    given(created("a", "b<a"), launched("a")).when(begins("b", 0)).then_nothing()
    given(created("a"), JobPaused("later")).when(ReportTaskStatus("a", 0, "PULLING")).then_nothing()
    given(created("a", "b<a"), launched("a")).when(ends("b")).then_nothing()


# Reports of a status ----------------------------------------------------------------------------------------


def test_the_executors_status_is_kept() -> None:
    """The executor's own word for a session's state is reported when it changes, and only then."""
    pulling = TaskStatusReported("a", 1, "PULLING")
    reported = given(created("a"), launched("a")).when(ReportTaskStatus("a", 1, "PULLING"))
    assert reported.then(pulling).leaving("pending", a="launching").state.tasks["a"].executor_status == "PULLING"
    given(created("a"), launched("a"), pulling).when(ReportTaskStatus("a", 1, "PULLING")).then_nothing()
    given(created("a"), launched("a"), pulling).when(ReportTaskStatus("a", 1, "RUNNING")).then(
        TaskStatusReported("a", 1, "RUNNING")
    )


def test_where_a_session_is_shown_is_reported() -> None:
    """The link to the executor's own interface is reported with the status."""
    given(created("a"), launched("a")).when(ReportTaskStatus("a", 1, "PENDING", "", "https://web/s")).then(
        TaskStatusReported("a", 1, "PENDING", "", "https://web/s")
    )


def test_why_a_session_waits_is_kept() -> None:
    """Another reason for the same status is reported as well, and the last one stands."""
    no_agent = TaskStatusReported("a", 1, "PENDING", "no agent has enough left")
    before = given(created("a"), launched("a"), TaskStatusReported("a", 1, "PENDING"))
    reported = before.when(ReportTaskStatus("a", 1, "PENDING", "no agent has enough left")).then(no_agent)
    assert reported.state.tasks["a"].executor_message == "no agent has enough left"
    given(created("a"), launched("a"), no_agent).when(
        ReportTaskStatus("a", 1, "PENDING", "no agent has enough left")
    ).then_nothing()


def test_what_a_service_offers_is_kept() -> None:
    """A task that succeeded with a service serves from then on; one without, or one that runs on, does not."""
    url = {"url": "https://model.example.org"}
    end = ends("a", service=url)
    reported = given(created("a", "b"), launched("a"), launched("b"), started("a")).when(end)
    state = reported.then(attempt_succeeded("a", service=url), TaskSucceeded("a")).state
    assert (state.tasks["a"].serves, state.tasks["b"].serves) == (True, False)
    plain = given(created("a", "b"), launched("a"), launched("b"), started("a"))
    ended = plain.when(ends("a")).then(*succeeded("a"))
    assert not ended.state.tasks["a"].serves


def test_what_a_command_left_as_its_result_is_kept() -> None:
    """A result is kept with the success, and makes no service of the task."""
    end = ends("a", result={"loss": 0.5})
    reported = given(created("a", "b"), launched("a"), launched("b"), started("a")).when(end)
    state = reported.then(attempt_succeeded("a", result={"loss": 0.5}), TaskSucceeded("a")).state
    assert not state.tasks["a"].serves


def test_what_is_wrong_with_a_success_is_kept() -> None:
    """A success stays one where its result can't be used, and the event says why."""
    words = "result.json is not used: NaN is no JSON number"
    reported = given(created("a"), launched("a"), started("a")).when(ends("a", message=words))
    reported.then(attempt_succeeded("a", warning=words), TaskSucceeded("a"), JobSucceeded())


def test_whose_failure_it_was_is_kept() -> None:
    """The fault that an executor names is in the cause, of the task and of the job."""
    error = TaskError("the cluster was away", fault="infrastructure")
    end = ends("a", "lost", message="the cluster was away", fault="infrastructure")
    given(created("a"), launched("a")).when(end).then(*failed("a", error), A_FAILED, JobFailed("a", error))


# Reports of an end ------------------------------------------------------------------------------------------


def test_a_success_launches_what_became_ready() -> None:
    """A task's end and the launch of each successor that waited for it alone are one commit."""
    history = (created("a", "b<a", "c<a", "d<b"), launched("a"), started("a"), JobStarted(at(1)))
    given(*history).when(ends("a")).then(*succeeded("a"), launched("b"), launched("c")).because(
        0, -1, 1, 1
    ).leaving("running", a="succeeded", b="launching", c="launching", d="pending")


def test_a_task_waits_for_all_its_dependencies() -> None:
    """A task is launched when the last of its dependencies succeeded, and never before."""
    history = (created("a", "b", "c<a,b"), *RUNNING[1:])
    given(*history).when(ends("a")).then(*succeeded("a")).leaving(c="pending")
    given(*history, *succeeded("a")).when(ends("b")).then(*succeeded("b"), launched("c"))


def test_a_dependency_named_twice_counts_once_it_is_done() -> None:
    """A graph that names a dependency twice waits for that one task."""
    history = (created("a", "b<a,a"), launched("a"), started("a"), JobStarted(at(1)))
    given(*history).when(ends("a")).then(*succeeded("a"), launched("b"))


def test_the_last_success_ends_the_job() -> None:
    """A job succeeds with the last of its tasks, and not before."""
    given(*RUNNING).when(ends("a")).then(*succeeded("a")).leaving("running")
    given(*RUNNING, *succeeded("a")).when(ends("b")).then(*succeeded("b"), JobSucceeded()).because(
        0, -1, -2
    ).leaving("succeeded")


def test_an_end_tells_the_start_that_went_missing() -> None:
    """Where the report of a start was lost, the report of the end makes up for it."""
    given(created("a", "b"), launched("a"), launched("b")).when(ends("a", started_at=at(1))).then(
        started("a"), attempt_succeeded("a"), JobStarted(at(1)), TaskSucceeded("a")
    ).because(0, 0, -1, -2).leaving("running", a="succeeded")
    given(*RUNNING).when(ends("a", started_at=at(5))).then(*succeeded("a"))


def test_a_failure_stops_the_job() -> None:
    """When a task fails, what has not started never will, what runs is stopped, and the job waits for it."""
    history = (created("a", "b", "c<a", "d<b"), *RUNNING[1:])
    report = ends("a", "failed", signal=9, message="killed for want of memory", tail="epoch 3\nepoch 4")
    given(*history).when(report).then(*failed("a", OOM), A_FAILED, stopping("b")).because(0, -1, -2, -3).leaving(
        "failing", a="failed", b="running", c="cancelled", d="cancelled"
    )


def test_a_failure_with_nothing_else_live_ends_the_job() -> None:
    """A job whose only live task failed ends in the same commit, with the task's error as its own."""
    given(created("a", "b<a"), launched("a")).when(
        ends("a", "failed", started_at=at(2), exit_code=3, message="exit code 3")
    ).then(
        started("a", 2),
        attempt_failed("a", EXIT_3),
        JobStarted(at(2)),
        TaskFailed("a"),
        A_FAILED,
        JobFailed("a", EXIT_3),
    ).because(0, 0, -1, -2, -4, -5).leaving("failed", a="failed", b="cancelled")


def test_a_command_that_could_not_run_is_a_failure() -> None:
    """A session that ended before its command began fails the job without ever starting it."""
    given(created("a"), launched("a")).when(ends("a", "failed", message="no such shell")).then(
        *failed("a", TaskError("no such shell")), A_FAILED, JobFailed("a", TaskError("no such shell"))
    )


def test_a_lost_session_is_a_failure() -> None:
    """A session that is gone without a record failed, and so did one that someone else ended."""
    for outcome in ("lost", "cancelled"):
        error = TaskError(outcome)
        given(created("a"), launched("a")).when(ends("a", outcome)).then(
            *failed("a", error), A_FAILED, JobFailed("a", error)
        )


def test_a_stopped_session_is_cancelled_however_it_ended() -> None:
    """Any end but success of a session that was asked to stop is its confirmation."""
    history = (*RUNNING, ON_REQUEST, stopping("a"), stopping("b"))
    for outcome in ("cancelled", "failed", "lost"):
        given(*history).when(ends("a", outcome, exit_code=143, signal=15)).then(
            attempt_cancelled("a", exit_code=143, signal=15), TaskCancelled("a")
        ).leaving("cancelling", a="cancelled", b="running")


def test_a_job_ends_when_every_session_is_gone() -> None:
    """The last confirmation ends the job, as failed when a task failed and as cancelled when it was asked for."""
    given(*RUNNING, *failed("a", OOM), A_FAILED, stopping("b")).when(ends("b", "cancelled")).then(
        *cancelled("b"), JobFailed("a", OOM)
    ).because(0, -1, -2)
    given(*RUNNING, ON_REQUEST, stopping("a"), stopping("b"), *cancelled("a")).when(ends("b", "cancelled")).then(
        *cancelled("b"), JobCancelled("on request")
    )


def test_a_success_that_raced_the_stop_is_kept_and_launches_nothing() -> None:
    """A task may succeed after it was asked to stop; its successors stay cancelled all the same."""
    history = (created("a", "b", "c<a"), *RUNNING[1:], ON_REQUEST, stopping("a"), stopping("b"))
    reported = given(*history).when(ends("a"))
    reported.then(*succeeded("a")).leaving("cancelling", a="succeeded", c="cancelled")
    assert not reported.state.ready
    given(*history, *cancelled("b")).when(ends("a")).then(*succeeded("a"), JobCancelled("on request"))


def test_the_first_failure_is_the_cause() -> None:
    """A second failure, where a history holds one, neither cancels again nor replaces the cause."""
    history = (*RUNNING, *failed("a", OOM), A_FAILED)
    given(*history).when(ends("b", "failed", exit_code=3, message="exit code 3")).then(
        *failed("b", EXIT_3), JobFailed("a", OOM)
    )


def test_an_ended_task_absorbs_every_report() -> None:
    """Late, doubled and contradicting reports about a task that ended are no-ops."""
    history = (*RUNNING, *succeeded("a"))
    for report in (ends("a"), ends("a", "lost"), begins("a"), ReportTaskStatus("a", 1, "GONE")):
        given(*history).when(report).then_nothing()


def test_an_attempt_that_ended_absorbs_every_report() -> None:
    """Between the end of an attempt and its task's, no session is live that could be reported on or stopped."""
    for ended in (attempt_succeeded("a"), attempt_failed("a", OOM), attempt_cancelled("a")):
        for report in (ends("a"), ends("a", "lost"), ReportTaskStatus("a", 1, "GONE")):
            given(*RUNNING, ended).when(report).then_nothing()
        given(*RUNNING, ended).when(CancelJob()).then(ON_REQUEST, stopping("b")).leaving("cancelling")


def test_an_attempt_after_one_that_failed_is_reported_on() -> None:
    """A second attempt is live like the first, and its failure is the cause, not the first one's."""
    history = (created("a"), launched("a"), attempt_failed("a", OOM), launched("a", 2))
    given(*history).when(begins("a", 2)).then(TaskStarted("a", 2, at(1)), JobStarted(at(1)))
    report = ReportTaskEnded("a", 2, "failed", at(9), exit_code=3, message="exit code 3")
    given(*history).when(report).then(
        AttemptFailed("a", 2, at(9), EXIT_3), TaskFailed("a"), A_FAILED, JobFailed("a", EXIT_3)
    )
    given(*history, ON_REQUEST, TaskStopRequested("a", 2)).when(ReportTaskEnded("a", 2, "lost", at(9))).then(
        AttemptCancelled("a", 2, at(9)), TaskCancelled("a"), JobCancelled("on request")
    )


def test_an_ended_job_absorbs_every_report() -> None:
    """Nothing follows a job's terminal event."""
    history = (created("a", "b"), *RUNNING[1:], ON_REQUEST, stopping("a"), stopping("b"), *cancelled("a"))
    for task in ("a", "b"):
        for report in (ends(task, "failed"), begins(task), ReportTaskStatus(task, 1, "GONE"), None):
            given(*history, *succeeded("b"), JobCancelled("on request")).when(report).then_nothing()
