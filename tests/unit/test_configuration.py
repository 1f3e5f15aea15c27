"""The configuration of executors: what the file and the environment say, and how mistakes are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trackbook.runtime.executors.configuration import ExecutorsMisconfigured, configuration

SECRET = "s3cr3t-never-to-be-reported"
MAIN = f"""\
[backendai.main]
endpoint = "https://cluster.example.org"
access_key = "AKIAEXAMPLE"
secret_key = "{SECRET}"
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Give a function that writes the file as it should be."""

    def written(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "executors.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return written


def refusal(data: Path, **environment: str) -> str:
    """Return the words with which a configuration is refused, in which no key stands."""
    with pytest.raises(ExecutorsMisconfigured) as refused:
        configuration(data, environment)
    assert SECRET not in str(refused.value)
    return str(refused.value)


def test_without_a_file_there_is_the_local_executor(tmp_path: Path) -> None:
    """Nothing said means nothing but the built-in."""
    found = configuration(tmp_path, {})

    assert (found.default, found.default_source, found.clusters, found.sources) == ("local", "built in", {}, {})


def test_the_file_names_clusters_and_the_default(tmp_path: Path, write: Write) -> None:
    """Each table is a cluster; where it was said is known."""
    path = write(
        'default = "backendai/big"\n' + MAIN + MAIN.replace("main", "big") + '[container]\nimage = "i"\n'
    )

    found = configuration(tmp_path, {})

    assert (found.default, found.default_source) == ("backendai/big", str(path))
    assert list(found.clusters) == ["main", "big"]
    assert found.clusters["big"]["access_key"] == "AKIAEXAMPLE"
    assert found.container == {"image": "i"}
    assert found.sources == dict.fromkeys(("container", "backendai/main", "backendai/big"), str(path))


def test_another_file_may_be_named(tmp_path: Path, write: Write) -> None:
    """TRACKBOOK_EXECUTORS takes the place of the file in the data directory; it must be there then."""
    path = write(MAIN).rename(tmp_path / "other.toml")

    assert "main" in configuration(tmp_path / "data", {"TRACKBOOK_EXECUTORS": str(path)}).clusters
    missing = tmp_path / "none.toml"
    assert str(missing) in refusal(tmp_path, TRACKBOOK_EXECUTORS=str(missing))
    assert configuration(tmp_path / "data", {"TRACKBOOK_EXECUTORS": ""}).clusters == {}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o610])
def test_a_file_that_others_can_get_at_is_refused(tmp_path: Path, write: Callable[..., Path], mode: int) -> None:
    """Keys are nobody else's to read, nor the endpoint theirs to write."""
    path = write(MAIN, mode)

    assert f"chmod 600 {path}" in refusal(tmp_path)


def test_a_file_that_nobody_may_write_will_do(tmp_path: Path, write: Callable[..., Path]) -> None:
    """0400 is closed to others as well."""
    write(MAIN, 0o400)

    assert "main" in configuration(tmp_path, {}).clusters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('defualt = "local"', "Did you mean 'default'?"),
        ("[backendia.main]", "Did you mean 'backendai'?"),
        ("default = 3", "`default` is the name of an executor"),
        ('default = ""', "`default` is the name of an executor"),
        ("backendai = 3", "'backendai' is a table"),
        ("container = []", "'container' is a table"),
        (f'[backendai]\nsecret_key = "{SECRET}"', "is outside of a cluster's table"),
        ('[backendai."my.cluster"]', "can't be the name of a cluster"),
        (f"[backendai.{'x' * 49}]", "can't be the name of a cluster"),
        (f"[backendai.main]\nsecret_key = {SECRET}", "can't be read any more at line 2"),
        (f'[backendai.main]\nsecret_key = "{SECRET}', "is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_reported(tmp_path: Path, write: Write, text: str, words: str) -> None:
    """The words say which file, what is wrong and what was probably meant, and no value that may be a key."""
    path = write(text)

    reported = refusal(tmp_path)

    assert str(path) in reported
    assert words in reported


def test_a_file_in_another_encoding_is_reported(tmp_path: Path) -> None:
    """What is not UTF-8 is no TOML."""
    (tmp_path / "executors.toml").write_bytes(b'default = "\xff"')
    (tmp_path / "executors.toml").chmod(0o600)

    assert "not UTF-8" in refusal(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_reported(tmp_path: Path) -> None:
    """Whatever keeps it from being read is said."""
    (tmp_path / "executors.toml").mkdir(mode=0o700)

    assert "can't be read" in refusal(tmp_path)


def test_the_environment_alone_makes_the_cluster_main(tmp_path: Path) -> None:
    """Our own variables, and those of the official client where all three are there."""
    ours = {f"TRACKBOOK_BACKENDAI_{key}": "x" for key in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "PROJECT")}
    usual = {f"BACKEND_{key}": "y" for key in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")}

    assert configuration(tmp_path, ours).clusters["main"] == dict.fromkeys(
        ("endpoint", "access_key", "secret_key", "project"), "x"
    )
    assert configuration(tmp_path, usual).clusters["main"]["endpoint"] == "y"
    assert configuration(tmp_path, ours | usual).clusters["main"]["secret_key"] == "x"
    assert configuration(tmp_path, {"BACKEND_ENDPOINT": "y"}).clusters == {}
    assert configuration(tmp_path, {"TRACKBOOK_BACKENDAI_PROJECT": ""}).clusters == {}


def test_the_environment_goes_over_the_file(tmp_path: Path, write: Write) -> None:
    """Ours beat the file, which beats the official client's; each source that counts is named."""
    path = write(MAIN.replace(f'secret_key = "{SECRET}"\n', ""))
    environment = {
        "TRACKBOOK_BACKENDAI_PROJECT": "research",
        "BACKEND_ENDPOINT": "https://elsewhere.example.org",
        "BACKEND_SECRET_KEY": SECRET,
    }

    found = configuration(tmp_path, environment)

    assert found.clusters["main"] == {
        "endpoint": "https://cluster.example.org",
        "access_key": "AKIAEXAMPLE",
        "secret_key": SECRET,
        "project": "research",
    }
    assert found.sources["backendai/main"] == f"{path}, TRACKBOOK_BACKENDAI_PROJECT, BACKEND_SECRET_KEY"


def test_an_unknown_variable_is_reported(tmp_path: Path) -> None:
    """A slip in a variable's name would otherwise go unseen; its value isn't shown."""
    assert "Did you mean 'TRACKBOOK_BACKENDAI_SECRET_KEY'?" in refusal(
        tmp_path, TRACKBOOK_BACKENDAI_SECRETKEY=SECRET
    )


def test_the_default_may_come_from_the_environment(tmp_path: Path, write: Write) -> None:
    """TRACKBOOK_EXECUTOR beats the file."""
    write('default = "local"\n' + MAIN)

    found = configuration(tmp_path, {"TRACKBOOK_EXECUTOR": "backendai/main"})

    assert (found.default, found.default_source) == ("backendai/main", "TRACKBOOK_EXECUTOR")
