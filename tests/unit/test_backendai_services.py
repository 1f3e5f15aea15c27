"""Serving tasks without a cluster: what is refused before a job, names, and how far a service has come."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from trackbook.adapters.backendai.api.service_calls import Rollout, Route, Service
from trackbook.adapters.backendai.api.session_calls import Session, Version
from trackbook.adapters.backendai.service import plan as service_plan
from trackbook.adapters.backendai.service import progress as service_progress
from trackbook.engine.definition import Task, from_mapping, tasks
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import SessionSpec

OLD, NEW = Version("23.09.10", "v7.20230615"), Version("26.8.3", "v9.20250722")
HOME = "0123abcd"


def task(service: Any, **other: Any) -> Task:
    """Return a serving task of a checked pipeline."""
    content = {"name": "p", "tasks": [{"name": "serve", "type": "serving", "service": service, **other}]}
    return tasks(from_mapping(content))["serve"]


def judged(service: Any, version: Version | None = None, **other: Any) -> list[tuple[str, str]]:
    """Return code and path of what is said of a task."""
    found = service_plan.validate([task(service, **other)], version)
    return [(each.code, each.path) for each in found]


def spec(name: str = "serve", pipeline: str = "p1", **service: Any) -> SessionSpec:
    """Return a session of a serving task."""
    return SessionSpec("tb-j-0-1", "j", pipeline, "P", name, 0, 1, "", service={"model": "m", **service})


def wanted(**service: Any) -> service_plan.Wanted:
    """Return what a service asks for."""
    return service_plan.read({"model": "m", **service})[0]


def test_what_is_in_order_is_not_mentioned() -> None:
    """All fields of FastTrack, as numbers and as text, on a version that has them."""
    service = {
        "name": "chat-1",
        "model": "llama",
        "model_mount_destination": "/models",
        "model_definition_path": "model-definition.yml",
        "runtime_variant": "custom",
        "replicas": "2",
        "open_to_public": "true",
        "ephemeral": False,
        "max_surge": "1",
        "max_unavailable": 0,
    }
    assert judged(service, NEW) == []
    assert judged(service) == []
    assert wanted(**service) == service_plan.Wanted(
        model="llama",
        name="chat-1",
        definition="model-definition.yml",
        replicas=2,
        public=True,
        surge=1,
        unavailable=0,
    )


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ({}, ""),
        (None, ""),
        ({"name": "x-service"}, ".model"),
        ({"model": ["m"]}, ".model"),
        ({"model": "m", "name": "no spaces"}, ".name"),
        ({"model": "m", "name": "abc"}, ".name"),
        ({"model": "m", "replicas": 0}, ".replicas"),
        ({"model": "m", "replicas": "many"}, ".replicas"),
        ({"model": "m", "ephemeral": "perhaps"}, ".ephemeral"),
        ({"model": "m", "open_to_public": 2}, ".open_to_public"),
        ({"model": "m", "max_surge": -1}, ".max_surge"),
        ({"model": "m", "max_surge": 0, "max_unavailable": 0}, ".max_surge"),
        ({"model": "m", "model_mount_destination": "models"}, ".model_mount_destination"),
        (
            {"model": "m", "model_mount_destination": "/else", "runtime_variant": "vllm"},
            ".model_mount_destination",
        ),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(service: Any, key: str) -> None:
    """Whatever the cluster's version is."""
    found = service_plan.validate([task(service)], None)
    assert [each.path for each in found if isinstance(each, Refused) and each.path.endswith(key)]
    assert all(each.path.startswith("tasks[0].service") for each in found)


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ({"runtime_variant": "vllm"}, "tasks[0].service.runtime_variant"),
        ({"model_definition_path": "sub/model.yml"}, "tasks[0].service.model_definition_path"),
        ({"name": "a-name-of-more-than-twenty-four"}, "tasks[0].service.name"),
    ],
)
def test_what_a_version_lacks_is_refused(service: dict[str, Any], path: str) -> None:
    """Before the job starts where the version is known, and not where it isn't, or has it."""
    service = {"model": "m", **service}
    assert judged(service, OLD) == [("service_invalid", path)]
    assert judged(service, NEW) == judged(service) == []


@pytest.mark.parametrize("key", ["max_surge", "max_unavailable"])
def test_how_an_update_rolls_is_a_warning_where_none_does(key: str) -> None:
    """The service is the same without it: 23.09 replaces it as a whole."""
    (found,) = service_plan.validate([task({"model": "m", key: 1})], OLD)
    assert isinstance(found, Warned)
    assert (found.code, found.path) == ("service_key_ignored", f"tasks[0].service.{key}")
    assert service_plan.validate([task({"model": "m", key: 1})], NEW) == []


def test_mounts_need_a_newer_version() -> None:
    """23.09's services see the model's folder alone."""
    assert judged({"model": "m"}, OLD, mounts=["data"]) == [("service_invalid", "tasks[0].mounts")]
    assert judged({"model": "m"}, NEW, mounts=["data"]) == []


def test_a_command_is_said_to_be_ignored() -> None:
    """What a service runs stands in the model's definition."""
    (found,) = service_plan.validate([task({"model": "m"}, command="run")], None)
    assert isinstance(found, Warned)
    assert found.path == "tasks[0].command"


def test_two_tasks_can_not_be_one_service() -> None:
    """They would bring it up to date in turn."""
    both = [task({"model": "m", "name": "same"}), task({"model": "n", "name": "same"})]
    (found,) = service_plan.validate(both, None)
    assert found.code == "service_twice"


def test_names_are_the_same_for_each_run_and_fit_all_versions() -> None:
    """Of pipeline and task, whatever characters they have; another pipeline or installation has another."""
    name = service_plan.name(spec(), wanted(), HOME)
    assert name == service_plan.name(spec(), wanted(), HOME)
    others = [
        service_plan.name(spec("Übung 9 / a long name"), wanted(), HOME),
        service_plan.name(spec("---"), wanted(), HOME),
        service_plan.name(spec(pipeline="p2"), wanted(), HOME),
        service_plan.name(spec(), wanted(), "ffffffff"),
    ]
    assert len({name, *others}) == 5
    for each in (name, *others):
        assert 4 <= len(each) <= 24
        assert each.isascii()
        assert each.startswith("tb-")
    assert service_plan.name(spec(), wanted(name="my-own"), HOME) == "my-own"


def test_variables_are_all_there() -> None:
    """The task's, the names of the job, and whose service it is."""
    one = SessionSpec("tb-j-0-1", "j", "p1", "P", "serve", 0, 1, "", {"TOKEN": "secret"}, service={"model": "m"})
    found = service_plan.environment(one, wanted(ephemeral=True), HOME, NEW)
    assert found["TOKEN"] == "secret"
    assert found["BACKENDAI_PIPELINE_JOB_ID"] == "j"
    assert found["TRACKBOOK_SERVICE"] == f"{HOME}/p1/ephemeral/none"


def test_empty_variables_are_left_out_where_the_version_takes_none() -> None:
    """23.09 answers 400 to an empty variable: it is left out, with a warning; 26.8 takes it."""
    one = replace(spec(), variables={"EMPTY": "", "SET": "1"})
    assert "EMPTY" not in service_plan.environment(one, wanted(), HOME, OLD)
    assert service_plan.environment(one, wanted(), HOME, NEW)["EMPTY"] == ""
    envs = {"envs": {"EMPTY": "", "SET": "1"}}
    found = [("service_variable_left_out", "tasks[0].environment.envs.EMPTY")]
    assert judged({"model": "m"}, OLD, environment=envs) == found
    assert judged({"model": "m"}, NEW, environment=envs) == []


def test_variables_with_line_breaks_are_refused() -> None:
    """Agents cut them at the first break, and no wrapper of ours runs where a model is served."""
    envs = {"envs": {"LINES": "a\nb"}}
    found = [("service_invalid", "tasks[0].environment.envs.LINES")]
    assert judged({"model": "m"}, NEW, environment=envs) == found
    assert judged({"model": "m"}, environment=envs) == found
    with pytest.raises(ValueError, match="line breaks"):
        service_plan.environment(replace(spec(), variables={"LINES": "a\nb"}), wanted(), HOME, NEW)


# How far a service has come ---------------------------------------------------------------------------------


def service(*routes: Route, stage: str = "CREATED", url: str = "", retries: int = 0) -> Service:
    """Return what a manager says."""
    return Service("s", "name", stage, url, routes=list(routes), retries=retries)


def route(number: int, status: str = "PROVISIONING", *, healthy: bool = False, error: str = "") -> Route:
    """Return the way to one replica."""
    return Route(f"r{number}", f"k{number}", status, healthy, error)


def session(number: int, status: str, info: str = "") -> Session:
    """Return the session of one replica."""
    return Session(f"k{number}", "name", status, info)


def progress(
    seen: Service | None,
    *sessions: Session,
    rollout: Rollout | None = None,
    revision: str = "",
    replicas: int = 1,
) -> service_progress.Progress:
    """Return how far it is."""
    return service_progress.progress(seen, rollout, revision, replicas, {each.id: each for each in sessions})


def test_ready_needs_all_replicas_an_address_and_the_revision() -> None:
    """None of them alone is enough."""
    well = service(route(1, "HEALTHY", healthy=True), url="http://there/")
    assert progress(well).ready
    assert not progress(well, replicas=2).ready
    assert "no address" in progress(service(route(1, "HEALTHY", healthy=True))).message
    assert progress(well, rollout=Rollout("READY", "b"), revision="b").ready
    assert progress(well, rollout=Rollout("READY", "a")).ready
    assert not progress(well, rollout=Rollout("DEPLOYING", "a"), revision="b").ready
    assert not progress(well, rollout=Rollout("DEPLOYING", "")).ready


@pytest.mark.parametrize(
    ("seen", "rollout", "words"),
    [
        (None, None, "deleted it"),
        (service(stage="DESTROYING"), None, "gave the service up"),
        (service(retries=6), None, "tries no more"),
        (service(route(1, "UNHEALTHY")), None, "health check"),
        (service(stage="READY"), Rollout("READY", "a"), "what the service was before"),
    ],
)
def test_what_can_not_become_healthy(seen: Service | None, rollout: Rollout | None, words: str) -> None:
    """Each in words."""
    assert words in progress(seen, rollout=rollout, revision="b").failed


def test_replicas_that_end_are_counted() -> None:
    """Three for each expected replica; each reason is reported once."""
    ended = [session(number, "CANCELLED", "failed-to-start") for number in range(3)]
    failed = progress(service(route(9)), *ended).failed
    assert failed == "3 replicas ended before one was healthy: failed-to-start"
    assert not progress(service(route(9)), *ended[:2]).failed
    assert not progress(service(route(9)), *ended, replicas=2).failed
    assert not progress(service(route(9, "RUNNING", healthy=True), route(8)), *ended, replicas=2).failed


def test_what_replicas_do_is_reported() -> None:
    """With the reason for which one waits."""
    seen = service(route(1), route(2), route(3, "HEALTHY", healthy=True), Route("r4", "", "PROVISIONING", False))
    reported = progress(seen, session(1, "PENDING", "no-available-instances"), session(2, "RUNNING"), replicas=4)
    assert reported.status == "PREPARING"
    assert "1 of 4 replicas healthy" in reported.message
    assert "PENDING (no agent has enough left)" in reported.message
    assert "its model is not healthy yet" in reported.message
    assert "waits to be made" in reported.message
