"""What a pipeline holds and isn't acted on yet: warned about, or refused when it is to run."""

from __future__ import annotations

from typing import Any

import pytest
from pipeline_stories import pipeline, task

from trackbook.engine import definition
from trackbook.engine.content import Content


def warned(content: Content) -> list[tuple[str, str]]:
    """Return code and path of each warning."""
    return [(warning.code, warning.path) for warning in definition.check(content)]


@pytest.mark.parametrize(
    ("given", "code", "place"),
    [
        ({"retry": {"max_attempts": 2, "delay": 30}}, "retry_ignored", ".retry"),
        ({"continue_on_failure": True}, "continue_on_failure_ignored", ".continue_on_failure"),
        ({"dependancies": []}, "unknown_key", ".dependancies"),
        ({"resources": {"mem": "1g", "memory": "2g"}}, "given_twice", ".resources.memory"),
        ({"environment": {"scaling_group": "x"}}, "unknown_key", ".environment.scaling_group"),
        ({"command": "echo ${{ secrets.TOKEN }}"}, "secret_unresolved", ".command"),
        ({"environment": {"envs": {"A": "${{secrets.A}}"}}}, "secret_unresolved", ".environment.envs.A"),
        (
            {"environment": {"envs": {"PIPELINE_OUTPUTS": "x"}}},
            "variable_overridden",
            ".environment.envs.PIPELINE_OUTPUTS",
        ),
    ],
)
def test_what_isnt_acted_on_is_never_silently_ignored(given: dict[str, Any], code: str, place: str) -> None:
    """Each such setting is warned about in its place."""
    assert warned(pipeline({**task("a"), **given})) == [(code, f"tasks[0]{place}")]


@pytest.mark.parametrize(
    ("given", "code", "place"),
    [
        ({"params": [1]}, "params_ignored", "params"),
        ({"is_active": False}, "is_active_ignored", "is_active"),
        ({"enviroment": {}}, "unknown_key", "enviroment"),
        ({"environment": {"envs": {"A": "x${{ secrets.A }}"}}}, "secret_unresolved", "environment.envs.A"),
    ],
)
def test_the_pipelines_own_settings_are_warned_about_too(given: dict[str, Any], code: str, place: str) -> None:
    """What the pipeline itself holds and isn't acted on is warned about."""
    assert warned(pipeline(task("a"), **given)) == [(code, place)]


def test_settings_at_rest_are_not_warned_about() -> None:
    """What FastTrack writes by default passes in silence."""
    quiet: dict[str, Any] = {
        "retry": None,
        "continue_on_failure": False,
        "service": {},
        "type": "Custom Task",
    }
    assert warned(pipeline({**task("a"), **quiet}, params=[], is_active=True)) == []


def test_an_empty_pipeline_is_warned_about_and_cant_run() -> None:
    """A pipeline may be created empty; a job of it is refused."""
    assert warned(pipeline()) == [("no_tasks", "tasks")]
    assert [(one.code, one.path) for one in definition.blockers(pipeline())] == [("no_tasks", "tasks")]


def test_what_keeps_a_pipeline_from_running() -> None:
    """Every reference to a secret blocks a job; whether a serving task does is the executor's to say."""
    content = pipeline(
        task("a", type="serving"),
        task("b", service={"name": "x"}, skip=True),
        {**task("c"), "command": "${{ secrets.X }} ${{ secrets.X }} ${{ secrets.Y }}"},
        environment={"envs": {"A": "${{ secrets.Z }}"}},
    )

    assert [(one.code, one.path) for one in definition.blockers(content)] == [
        ("secrets_unsupported", "environment.envs.A"),
        ("secrets_unsupported", "tasks[2].command"),
        ("secrets_unsupported", "tasks[2].command"),
    ]
    assert definition.blockers(pipeline(task("a"))) == []
