"""The pipeline under any commands: what is applied stands, and what is refused changes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pipeline_stories import arbitrary_contents, folded, pipeline, task

from trackbook.engine.content import Content, canonical
from trackbook.engine.decider import step
from trackbook.engine.edits import (
    AddDependency,
    AddTask,
    ChangeTask,
    MoveTask,
    RemoveDependency,
    RemoveTask,
    RenameTask,
    SetVariable,
)
from trackbook.engine.errors import Refused
from trackbook.engine.pipeline import (
    PIPELINE,
    ApplyDefinition,
    CreatePipeline,
    EditPipeline,
    PipelineState,
)

TWO = pipeline(task("a"), task("b", "a"))


@for_all(arbitrary_contents(), arbitrary_contents())
@settings(max_examples=150, deadline=None)
def test_applying_leads_to_the_content_or_nowhere(first: Content, second: Content) -> None:
    """Whatever is applied, the state has that content afterwards, or the refusal changed nothing."""
    state = PipelineState("p1")
    for content in (first, second):
        before = canonical(state.content)
        try:
            state, _, _ = step(PIPELINE, state, ApplyDefinition(content))
            assert canonical(state.content) == canonical(content)
        except Refused:
            assert canonical(state.content) == before


_names = st.sampled_from(("a", "b", "c"))
_changes: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda name, after: AddTask(task(name), after), _names, st.none() | _names),
    st.builds(RenameTask, _names, _names),
    st.builds(MoveTask, _names, st.just("") | _names),
    st.builds(RemoveTask, _names, st.booleans()),
    st.builds(AddDependency, _names, _names, st.none() | st.integers(0, 2)),
    st.builds(RemoveDependency, _names, _names),
    st.builds(SetVariable, st.sampled_from(("A", "B")), st.integers(0, 1), st.none() | _names),
    st.builds(lambda name, cpu: ChangeTask(name, {"resources.cpu": cpu}), _names, st.integers(0, 1)),
)


@for_all(st.lists(st.lists(_changes, max_size=4), max_size=6))
@settings(max_examples=300, deadline=None)
def test_edit_sessions_keep_the_rules(sessions: list[list[Any]]) -> None:
    """Any sessions lead from one sound content to the next, with events that fold to what the changes meant."""
    state = folded(*PIPELINE.decide(PipelineState("p1"), CreatePipeline(TWO)))
    for changes in sessions:
        try:
            events = PIPELINE.decide(state, EditPipeline(changes))
        except Refused:
            continue
        folded(*events, onto=state)
        assert PIPELINE.decide(state, ApplyDefinition(state.content)) == []
        assert list(state.content["tasks"]) == [one["name"] for one in state.content["tasks"].values()]
