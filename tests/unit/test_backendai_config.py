"""A cluster's settings are checked in words, and its secret never shows."""

from __future__ import annotations

import pytest
from rich.pretty import pretty_repr

from trackbook.adapters.backendai.config import Cluster

LEAST = {"endpoint": "http://127.0.0.1:8081", "access_key": "AK", "secret_key": "very-secret"}


def test_the_least_that_must_be_said() -> None:
    """Address and keys are enough."""
    cluster = Cluster.from_mapping("main", LEAST)

    assert (cluster.project, cluster.domain, cluster.verify_tls) == ("default", "default", True)
    assert cluster.poll_interval == 10
    assert cluster.scaling_group == cluster.image == ""


def test_values_of_variables_are_text() -> None:
    """Numbers and truths are read from text too; the address loses its last slash."""
    reported = LEAST | {"poll_interval": "2.5", "verify_tls": "false", "endpoint": "https://c.example/base/"}

    cluster = Cluster.from_mapping("main", reported)

    assert cluster.poll_interval == 2.5
    assert cluster.verify_tls is False
    assert cluster.endpoint == "https://c.example/base"


@pytest.mark.parametrize("shown", [repr, str, pretty_repr, "{}".format, lambda cluster: f"{[cluster]}"])
def test_the_secret_is_never_shown(shown: object) -> None:
    """However a cluster is printed, neither key is in it."""
    text = shown(Cluster.from_mapping("main", LEAST))  # type: ignore[operator]

    assert "main" in text
    assert "very-secret" not in text
    assert "AK" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpiont": "x"}, "'endpiont' is not a setting. Did you mean 'endpoint'"),
        ({"secret_key": ""}, "secret_key must be set"),
        ({"secret_key": None, "access_key": ""}, "access_key and secret_key must be set"),
        ({"secret_key": 12}, "secret_key must be text"),
        ({"secret_key": "very-secret\n"}, "secret_key has blanks"),
        ({"endpoint": "cluster.example"}, "not an address"),
        ({"web_url": "web.example"}, "web_url is not an address"),
        ({"endpoint": "ftp://cluster.example"}, "not an address"),
        ({"endpoint": "http://h:99999"}, "not an address"),
        ({"endpoint": "http://me:very-secret@h"}, "more than an address"),
        ({"endpoint": "http://h/?a=very-secret"}, "more than an address"),
        ({"poll_interval": 0}, "poll_interval must be a number of seconds"),
        ({"poll_interval": True}, "poll_interval must be a number of seconds"),
        ({"stop_timeout": "soon"}, "stop_timeout must be a number of seconds"),
        ({"pending_timeout": "nan"}, "pending_timeout must be a number of seconds"),
        ({"verify_tls": "perhaps"}, "verify_tls is either true or false"),
        ({"name": "other"}, "'name' is not a setting"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(change: dict[str, object], words: str) -> None:
    """The refusal names the cluster and the key, never what may be secret."""
    with pytest.raises(ValueError, match=words) as refused:
        Cluster.from_mapping("main", LEAST | change)

    assert "main" in str(refused.value)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "a-", "ä"])
def test_names_of_clusters(name: str) -> None:
    """A cluster's name stands in `backendai/NAME` and in the name of a folder."""
    with pytest.raises(ValueError, match="can't be the name of a cluster"):
        Cluster.from_mapping(name, LEAST)


def test_a_session_has_a_link_where_the_web_interface_is_known() -> None:
    """The link opens the session there; without an address there is none."""
    known = Cluster.from_mapping("main", LEAST | {"web_url": "https://web.example/"})
    assert known.session_link("0f-1") == "https://web.example/session?sessionDetail=0f-1"
    assert Cluster.from_mapping("main", LEAST).session_link("0f-1") == ""
