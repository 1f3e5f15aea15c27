"""The name of a pipeline in stories: it belongs to one pipeline at most."""

from __future__ import annotations

import pytest

from trackbook.engine.errors import Refused
from trackbook.engine.name import NAME, AnyNameCommand, NameState, ReleaseName, TakeName, name_id
from trackbook.events.pipeline import AnyNameEvent, PipelineNameReleased, PipelineNameTaken

TAKEN, RELEASED = PipelineNameTaken("iris", "p1"), PipelineNameReleased("iris", "p1")


@pytest.mark.parametrize(
    ("given", "command", "events"),
    [
        ([], TakeName("iris", "p1"), [TAKEN]),
        ([TAKEN], TakeName("iris", "p1"), []),
        ([TAKEN], ReleaseName("iris", "p1"), [RELEASED]),
        ([TAKEN], ReleaseName("iris", "p2"), []),
        ([], ReleaseName("iris", "p1"), []),
        ([TAKEN, RELEASED], TakeName("iris", "p2"), [PipelineNameTaken("iris", "p2")]),
    ],
)
def test_a_name_has_one_bearer(
    given: list[AnyNameEvent], command: AnyNameCommand, events: list[AnyNameEvent]
) -> None:
    """A free name is taken, its bearer's name released; nothing else changes anything."""
    state = NameState(name_id("iris"))
    for event in given:
        state = NAME.evolve(state, event)

    assert NAME.decide(state, command) == events


def test_a_name_that_belongs_to_a_pipeline_is_refused_to_others() -> None:
    """The refusal names the bearer."""
    state = NAME.evolve(NameState(name_id("iris")), TAKEN)
    with pytest.raises(Refused, match="p1") as caught:
        NAME.decide(state, TakeName("iris", "p2"))

    assert (caught.value.code, caught.value.path) == ("name_taken", "name")


def test_the_id_of_a_name_can_stand_in_a_subject() -> None:
    """Whatever the name, its id has 32 hexadecimal digits, the same every time."""
    assert name_id("iris") == name_id("iris")
    assert len({name_id(name) for name in ("iris", "Iris", "학습", "a.b.*.>")}) == 4
    assert all(len(name_id(name)) == 32 for name in ("iris", "학습"))
