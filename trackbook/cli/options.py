"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import Where

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Address of the server. [TRACKBOOK_URL]"),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        readable=False,
        help="Holds the token of the server at --url. [TRACKBOOK_TOKEN]",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        readable=False,
        help="Data directory; the user's own by default. [TRACKBOOK_DATA]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of items, newest first.")]


def server_options(url: str | None, data: Path | None, token_file: Path | None = None) -> Where:
    """Return the server that is meant."""
    return Where(url.rstrip("/") if url else None, data.absolute() if data else None, token_file)


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """Return `KEY=VALUE`s as a mapping; raises bad usage."""
    found: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint=option)
        found[key] = value
    return found


def event_kind(given: str | None) -> str | None:
    """Return a `--kind` as it was given; raises bad usage for one that does not exist."""
    from trackbook.engine.kinds import EVENT_TYPES

    return _one_of(given, tuple(EVENT_TYPES), "--kind")


def event_type(given: str | None, kind: str | None = None) -> str | None:
    """Return a `--type` of events as it was given; raises bad usage for one that does not exist."""
    from trackbook.engine.kinds import EVENT_TYPES

    kinds = [kind] if kind else list(EVENT_TYPES)
    return _one_of(given, tuple(name for each in kinds for name in EVENT_TYPES[each]), "--type")


def _one_of(given: str | None, known: tuple[str, ...], option: str) -> str | None:
    from trackbook.engine.names import did_you_mean

    if given is not None and given not in known:
        hint = did_you_mean(given, known) or f"Known: {', '.join(known)}."
        raise typer.BadParameter(f"there is no {given!r}. {hint}", param_hint=option)
    return given


def parse_list(given: list[str] | None, known: tuple[str, ...], option: str) -> list[str] | None:
    """Return the values of an option that may be repeated or hold several, `a,b`; raises bad usage."""
    values = [value.strip() for each in given or () for value in each.split(",")]
    for value in values:
        _one_of(value, known, option)
    return list(dict.fromkeys(values)) or None


def parameters(given: list[str] | None) -> dict[str, str]:
    """Return the `--param KEY=VALUE`s as a mapping; raises bad usage, also for a bad name."""
    from trackbook.engine.names import variable_name_problem

    found = pairs(given, "--param")
    for name in found:
        if problem := variable_name_problem(name):
            raise typer.BadParameter(f"{name!r}: {problem}", param_hint="--param")
    return found


def virtual_env() -> str:
    """Return the virtual environment that this command was called in, '' for none or Trackbook's own."""
    import os
    import sys

    given = os.environ.get("VIRTUAL_ENV", "")
    own = {os.path.realpath(sys.prefix), os.path.realpath(sys.exec_prefix)}
    return given if Path(given).is_absolute() and os.path.realpath(given) not in own else ""


def caller_environment() -> dict[str, str]:
    """Return what a start of a job says of where it was called: the virtual environment, if there is one."""
    found = virtual_env()
    return {"virtual_env": found} if found else {}


def parse_version(ref: str) -> tuple[str, int | None]:
    """Split `NAME@3` into the name and the version, None where no version is named."""
    name, at, version = ref.rpartition("@")
    if at and name and version.isdigit():
        return name, int(version)
    return ref, None


def without_version(ref: str) -> str:
    """Return the name or id; raises bad usage where a version is named, which makes no sense here."""
    name, version = parse_version(ref)
    if version is not None:
        raise typer.BadParameter(
            f"this command uses the current version; leave out @{version}", param_hint="PIPELINE"
        )
    return name


def read_source(file: str) -> tuple[str, str]:
    """Return a YAML file's text and its name for messages; `-` is stdin."""
    try:
        if file == "-":
            import sys

            return sys.stdin.buffer.read().decode(), "stdin"
        return Path(file).read_text(encoding="utf-8-sig"), file
    except FileNotFoundError:
        raise CliError(f"there is no file {file}") from None
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise CliError(f"{file} can't be read: {error.strerror}") from None


def put(target: dict[str, Any], path: str, value: Any) -> None:
    """Set a nested key, `resources.cpu`."""
    *above, last = path.split(".")
    for key in above:
        target = target.setdefault(key, {})
    target[last] = value
