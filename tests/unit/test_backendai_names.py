"""What sessions and folders are called on a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from trackbook.adapters.backendai import names

OURS = "0a1b2c3d"
MANAGERS = re.compile(r"\w[\w.-]{2,62}\w", re.ASCII)
JOB = "f" * 32


def test_a_session_carries_the_installation_and_leads_back() -> None:
    """The cluster's name is the log's with the installation in it, in the manager's letters and length."""
    name = names.session(OURS, f"tb-{JOB}-99999-12")

    assert name == f"tb-{OURS}-{JOB}-99999-12"
    assert MANAGERS.fullmatch(name)
    assert names.session_of(OURS, name) == f"tb-{JOB}-99999-12"


@pytest.mark.parametrize(
    "name",
    [
        f"tb-0a1b2c3e-{JOB}-0-1",
        f"tb-{JOB}-0-1",
        f"tb-{OURS}-{JOB}-0",
        f"tb-{OURS}-{JOB}-0-1x",
        f"tb-{OURS}-{JOB}-0-1\n",
        f"tb-{OURS}-",
        f"x-tb-{OURS}-{JOB}-0-1",
        "",
    ],
)
def test_what_is_not_ours_is_never_taken_for_it(name: str) -> None:
    """Sessions of another installation, of a pipeline's folder or of people have no name on our log."""
    assert names.session_of(OURS, name) is None


def test_names_that_cannot_be() -> None:
    """Too long, other letters, no installation: refused, so that nothing is made under a doubtful name."""
    refused: list[Callable[[], str]] = [
        lambda: names.session(OURS, "tb-" + "x" * 60 + "-0-1"),
        lambda: names.session(OURS, "tb-a.b-0-1"),
        lambda: names.session("nothex!!", "tb-a-0-1"),
        lambda: names.session("", "tb-a-0-1"),
        lambda: names.vfolder(OURS, "../up"),
        lambda: names.vfolder(OURS, ""),
        lambda: names.vfolder(OURS, "x" * 60),
        lambda: names.prefix("0A1B2C3D"),
    ]
    for wrong in refused:
        with pytest.raises(ValueError, match=r"can't be|longer"):
            wrong()


def test_a_folder_carries_the_installation() -> None:
    """A pipeline's folder is distinguished from those of other installations."""
    assert names.vfolder(OURS, "p1") == f"tb-{OURS}-p1"
    assert names.vfolder(OURS, "p1").startswith(names.prefix(OURS))


@pytest.mark.parametrize(
    ("label", "readable"),
    [
        ("train bert", "train-bert-"),
        ("Train_BERT.v2", "Train-BERT-v2-"),
        ("../../etc", "etc-"),
        (".ssh", "ssh-"),
        ("학습", ""),
        ("", ""),
        ("x" * 200, "x" * 35 + "-"),
        ("a" * 34 + " b", "a" * 34 + "-"),
    ],
)
def test_a_folder_is_called_what_its_pipeline_is(label: str, readable: str) -> None:
    """In letters that both versions take, no longer than they take, and known again by its id."""
    pipeline = "0123456789abcdef"
    name = names.vfolder(OURS, pipeline, label)
    assert name == f"{readable}tb-{OURS}-{pipeline}"
    assert re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?", name)
    assert len(name) <= 64
    assert names.is_vfolder(OURS, pipeline, name)
    assert not names.is_vfolder(OURS, "f" * 16, name)
    assert not names.is_vfolder("ffffffff", pipeline, name)
    assert not names.is_vfolder(OURS, pipeline, f"{name}-x")
