"""Contents and stories for the tests of pipelines: documents of each FastTrack generation, arbitrary ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from trackbook.engine.content import Content, from_mapping
from trackbook.engine.errors import Refused
from trackbook.engine.pipeline import PIPELINE, AnyPipelineCommand, PipelineState
from trackbook.events.pipeline import AnyPipelineEvent

NEWEST = """\
version: 25.6.5.post2
name: iris
description: Train, then tell.
ownership:
  domain_name: default
  scope: personal
environment:
  envs:
    EPOCHS: '5'
tasks:
- name: 01_data_ingestion
  description: ''
  type: Custom Task
  cluster_mode: single-node
  cluster_size: 1
  module_uri: ''
  command: |-
    ./fetch.sh
    cp data.csv "$PIPELINE_OUTPUTS"
  environment:
    project: default
    scaling-group: default
    image: registry.example/python:3.11
    envs: {}
  resources:
    cpu: 1
    mem: 512m
  resource_opts:
    shmem: 0g
  dependencies: []
  mounts:
  - datasets:iris
  skip: false
- name: train
  description: ''
  type: Custom Task
  cluster_mode: multi-node
  cluster_size: 2
  module_uri: ''
  command: ./train.sh
  environment:
    project: default
    scaling-group: gpu
    image: registry.example/torch:2.5
    envs:
      EPOCHS: '10'
  resources:
    cpu: 4
    mem: 16g
    cuda.shares: '1.5'
  resource_opts:
    shmem: 2g
  dependencies:
  - 01_data_ingestion
  mounts:
  - datasets:iris
  skip: false
"""
"""As the newest releases write it."""

DEFAULTS = """\
name: defaults
ownership:
  domain_name: default
  group_name: research
environment:
  image: registry.example/python:3.8
  scaling-group: default
  envs:
    MODE: quick
resources:
  cpu: '2'
  memory: 4g
  cuda:
    shares: '0.5'
    device: ''
resource_opts:
  shmem: 1g
mounts:
- shared
tasks:
- name: prepare
  module_uri: ''
  type: Custom Task
  command: make data
  environment:
    image: ''
    scaling-group: ''
    envs: {}
  resources: {}
  resource_opts: {}
- name: fit
  module_uri: ''
  type: Custom Task
  command: make model
  environment:
    envs:
      MODE: thorough
  resources:
    memory: 8g
    cuda:
      shares: '2'
  mounts: []
  dependencies:
  - prepare
"""
"""The generation before: the pipeline gives defaults to its tasks, slots are nested, `mem` is `memory`."""

EARLY = (
    '{"name": "early", "description": "", "environment": {"envs": {"TAG": "v1"}},'
    ' "tasks": [{"name": "only", "type": "Custom Task", "command": "echo \\ud83d\\ude00 \\uc548\\ub155",'
    ' "resources": {"cpu": "1", "memory": "1g"}}]}'
)
"""The first generation stored JSON."""


def task(name: str, *dependencies: str, **settings: Any) -> dict[str, Any]:
    """Return a small task."""
    return {"name": name, "command": f"run {name}", "dependencies": list(dependencies), **settings}


def pipeline(*tasks: dict[str, Any], **settings: Any) -> Content:
    """Return the content of a small pipeline."""
    return from_mapping({"name": "p", **settings, "tasks": list(tasks)})


def problems(refused: Refused) -> list[tuple[str, str]]:
    """Return code and path of the refusal and of the others in it."""
    return [(one.code, one.path) for one in (refused, *refused.others)]


def folded(*events: AnyPipelineEvent, onto: PipelineState | None = None) -> PipelineState:
    """Return the state after the events."""
    state = onto or PipelineState("p1")
    for event in events:
        state = PIPELINE.evolve(state, event)
    return state


class Story:
    """Given a content (None: no pipeline yet), when a command comes, then events follow, or a refusal."""

    def __init__(self, content: Content | None, version: int = 1, *, deleted: bool = False) -> None:
        self.state = PipelineState("p1")
        if content is not None:
            from trackbook.engine.pipeline import CreatePipeline

            self.state = folded(*PIPELINE.decide(self.state, CreatePipeline(content)))
            self.state.version = version
        self.state.deleted = deleted
        self.events: list[AnyPipelineEvent] = []
        self.refused: Refused | None = None

    def when(self, command: AnyPipelineCommand) -> Story:
        """Decide on the command."""
        try:
            self.events = PIPELINE.decide(self.state, command)
        except Refused as refused:
            self.refused = refused
        return self

    def then(self, *events: AnyPipelineEvent) -> Story:
        """Expect these events, and fold them."""
        assert self.refused is None, self.refused
        assert self.events == list(events)
        folded(*events, onto=self.state)
        return self

    def refuses(self, code: str, path: str = "") -> Refused:
        """Expect this refusal."""
        if self.refused is None:
            pytest.fail(f"not refused: {self.events}")
        assert (self.refused.code, self.refused.path) == (code, path)
        return self.refused


given = Story

# Arbitrary contents -----------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12).filter(lambda text: "\0" not in text),
    st.sampled_from(
        ("no", "012", "1e3", "1.10", "~", "", "null", "0x1F", "=", "<<", "2026-01-01", "a\nb", " a", "a: b")
    ),
)
keys = st.one_of(
    st.sampled_from(("a", "b.c", "envs", "image", "x y", "no", "1", "dependencies")),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
names = st.sampled_from(tuple("abcdefgh"))
mappings = st.dictionaries(keys, values, max_size=3)


@st.composite
def arbitrary_tasks(draw: st.DrawFn) -> dict[str, Any]:
    """Return tasks of any shape, in any order, whose dependencies needn't exist."""
    listed = draw(st.lists(names, unique=True, max_size=6))
    tasks: dict[str, Any] = {}
    for name in listed:
        settings = draw(mappings)
        if draw(st.booleans()):
            settings["dependencies"] = draw(
                st.lists(names, max_size=4, unique=True) | scalars | st.lists(scalars, max_size=2)
            )
        tasks[name] = {**settings, "name": name}
    return tasks


@st.composite
def arbitrary_contents(draw: st.DrawFn) -> Content:
    """Return contents of any shape, far beyond what the rules let pass."""
    settings = draw(mappings)
    if draw(st.booleans()):
        settings["environment"] = draw(mappings | st.fixed_dictionaries({"envs": mappings}))
    return {**settings, "name": draw(st.sampled_from(("p", "q"))), "tasks": draw(arbitrary_tasks())}
